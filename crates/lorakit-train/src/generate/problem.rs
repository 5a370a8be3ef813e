//! What can keep a model from answering.

use lorakit_tensor::problems;

problems! {
    /// What can keep a model from answering.
    pub(crate) enum Problem {
        /// There is nothing to go on from.
        NoPrompt = Usage, "the prompt has no tokens";
        /// A token that the model does not have.
        Token { token: u32, vocabulary: usize } = Data,
            "the prompt has the token {token}, and the model has {vocabulary}; the tokenizer is of another model";
        /// The prompt leaves no room.
        TooLong { tokens: usize, context: usize } = Data,
            "the prompt has {tokens} tokens, and the model sees {context} (`max_position_embeddings`), the answer included";
        /// A number of the sampling is none.
        Sampling { name: &'static str, found: f64, expected: &'static str } = Usage,
            "`{name}` is {found}; it must be {expected}";
        /// An empty text would stop every answer.
        EmptyStop = Usage, "a text that stops answers is empty";
        /// Weights that are not numbers any more.
        NonFinite { position: usize } = NonFinite,
            "the logits after token {position} are not finite: the weights, or those of an adapter, are too large";
        /// A weight of an adapter.
        Weight { found: f64 } = Usage, "the weight of an adapter is {found}; it must be a finite number";
        /// Tokens become no text.
        Tokenizer { reason: String } = Data, "the tokenizer: {}", reason.escape_debug();
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
