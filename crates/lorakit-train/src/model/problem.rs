//! What a configuration may say that is not computed here.

use lorakit_tensor::problems;

problems! {
    /// What a configuration may say that is not computed here.
    pub(crate) enum Problem {
        /// The configuration is not an object.
        NotAnObject = File(Corrupt), "the configuration is not a JSON object";
        /// A key is missing.
        NoKey { key: &'static str } = File(Corrupt), "the configuration has no `{key}`";
        /// A value is of another kind.
        Value { key: String, found: String, expected: &'static str } = File(Corrupt),
            "`{key}` is {}; it must be {expected}", found.escape_debug();
        /// Two sizes do not fit.
        NotAMultiple { key: &'static str, found: usize, of: usize } = File(Corrupt),
            "`{key}` is {found}; it must be a multiple of {of}";
        /// The list has a length of its own.
        Layers { key: &'static str, found: usize, layers: usize } = File(Corrupt),
            "`{key}` lists {found} layers; the model has {layers}";

        /// A family that is not trained.
        Family { found: String } = Unsupported,
            "models of the type `{}` are not trained; the known types are llama, mistral, qwen2, qwen3, smollm3, gemma3_text",
            found.escape_debug();
        /// A value that changes what the model computes.
        Unsupported { key: String, found: String, known: &'static str } = Unsupported,
            "`{key}` is {}, which is not trained; the known values are {known}", found.escape_debug();
    }
}

#[cfg(test)]
mod tests {
    use super::Problem;

    #[test]
    fn messages_are_fragments_that_name_no_flag() {
        for problem in Problem::samples() {
            let text = problem.to_string();
            assert!(
                !text.is_empty() && !text.contains("--") && !text.ends_with('.'),
                "{problem:?}: {text:?}"
            );
        }
    }
}
