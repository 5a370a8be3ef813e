//! What can be wrong with settings.

use lorakit_tensor::problems;

problems! {
    /// What can be wrong with settings.
    pub(crate) enum Problem {
        /// The file is far too long to be one of settings.
        TooLong { bytes: usize, most: usize } = Usage, "has {bytes} bytes; at most {most} are read";
        /// The parser stumbled.
        NotYaml { reason: String } = Usage, "this is not YAML: {reason}";
        /// Lists in lists in lists.
        TooDeep { most: usize } = Usage,
            "lists and maps lie in each other more than {most} deep";
        /// More than one document.
        Documents = Usage, "a second document begins; settings are one map of keys";
        /// The file is a text or a list.
        NotAMap = Usage, "settings are a map of keys, as in `model: base/`";
        /// A key is a list or a map.
        KeyIsNoText = Usage, "a key must be a word";
        /// `*name`.
        Alias = Usage, "`*` points to another value; write the value itself";
        /// A key stands twice.
        Twice { key: String, first: u64 } = Usage,
            "`{}` is set twice; line {first} sets it first", key.escape_debug();

        /// No such key.
        Unknown { key: String, nearest: Option<String> } = Usage,
            "there is no key `{}`{}", key.escape_debug(),
            nearest.as_ref().map_or(String::new(), |nearest| format!("; the nearest is `{nearest}`"));
        /// Another trainer's name of a key.
        Foreign { key: String, ours: String } = Usage,
            "`{}` is called `{ours}` here", key.escape_debug();
        /// A key that other trainers have, and this one has not.
        NotNow { key: String, why: String } = Usage,
            "`{}` is known, but not there yet: {why}", key.escape_debug();
        /// A key with keys of its own.
        Group { key: String, example: String } = Usage,
            "`{key}` is a group of keys; set one of them, as in `{example}`";
        /// A value of the wrong kind.
        Value { key: String, found: String, expected: String } = Usage,
            "`{key}` is {}; it must be {expected}", found.escape_debug();
        /// Not `key=value`.
        NoPair { text: String } = Usage, "`{}` is not of the form KEY=VALUE, as in `lora.r=32`", text.escape_debug();

        /// A configuration of no program that is known.
        NoProgram { known: Vec<String> } = Usage,
            "is not recognised as the configuration of another program: {}", known.join("; ");
        /// A configuration of several programs.
        SeveralPrograms { names: Vec<&'static str> } = Usage,
            "has keys of several programs, {}; take out those of all but one", names.join(" and ");
        /// Keys that decide the adapter, and have no equivalent.
        NotImported { program: &'static str, count: usize } = Usage,
            "as a configuration of {program}, cannot be taken over: {}",
            if *count == 1 { "one key stands in the way".to_string() } else { format!("{count} keys stand in the way") };

        /// A key without which nothing can be done.
        Missing { key: &'static str, example: &'static str } = Usage, "`{key}` is not set, as in `{key}: {example}`";
        /// A key that means nothing without another.
        Needs { key: &'static str, needed: &'static str } = Usage, "`{key}` is set, and `{needed}` is not; it needs it";
    }
}

/// What the nearest of some names is called, if one is near.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = (&'n str, &'n str)>) -> Option<&'n str> {
    let near = known.map(|(known, called)| (strsim::damerau_levenshtein(known, name), known.len(), called));
    near.min().filter(|(distance, length, _)| *distance <= 1 + length / 3).map(|(.., called)| called)
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
