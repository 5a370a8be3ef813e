//! What can be wrong with settings.

use lorakit_tensor::problems;

problems! {
    /// What can be wrong with settings.
    pub(crate) enum Problem {
        /// The file is far too long to be one of settings.
        TooLong { bytes: usize, most: usize } = Usage, "has {bytes} bytes; at most {most} are read";
        /// The parser stumbled.
        NotYaml { line: usize, reason: String } = Usage, "line {line}: this is not YAML: {reason}";
        /// Lists in lists in lists.
        TooDeep { line: usize, most: usize } = Usage,
            "line {line}: lists and maps lie in each other more than {most} deep";
        /// More than one document.
        Documents { line: usize } = Usage, "line {line}: a second document begins; settings are one map of keys";
        /// The file is a text or a list.
        NotAMap { line: usize } = Usage, "line {line}: settings are a map of keys, as in `model: base/`";
        /// A key is a list or a map.
        KeyIsNoText { line: usize } = Usage, "line {line}: a key must be a word";
        /// `*name`.
        Alias { line: usize } = Usage, "line {line}: `*` points to another value; write the value itself";
        /// A key stands twice.
        Twice { line: Option<usize>, key: String, first: usize } = Usage,
            "{}`{}` is set twice; line {first} sets it first", place(*line), key.escape_debug();

        /// No such key.
        Unknown { line: Option<usize>, key: String, nearest: Option<String> } = Usage,
            "{}there is no key `{}`{}", place(*line), key.escape_debug(),
            nearest.as_ref().map_or(String::new(), |nearest| format!("; the nearest is `{nearest}`"));
        /// Another trainer's name of a key.
        Foreign { line: Option<usize>, key: String, ours: String } = Usage,
            "{}`{}` is called `{ours}` here", place(*line), key.escape_debug();
        /// A key that other trainers have, and this one has not.
        NotNow { line: Option<usize>, key: String, why: String } = Usage,
            "{}`{}` is known, but not there yet: {why}", place(*line), key.escape_debug();
        /// A key with keys of its own.
        Group { line: Option<usize>, key: String, example: String } = Usage,
            "{}`{key}` is a group of keys; set one of them, as in `{example}`", place(*line);
        /// A value of the wrong kind.
        Value { line: Option<usize>, key: String, found: String, expected: String } = Usage,
            "{}`{key}` is {}; it must be {expected}", place(*line), found.escape_debug();
        /// Not `key=value`.
        NoPair { text: String } = Usage, "`{}` is not of the form KEY=VALUE, as in `lora.r=32`", text.escape_debug();

        /// A key without which nothing can be done.
        Missing { key: &'static str, example: &'static str } = Usage, "`{key}` is not set, as in `{key}: {example}`";
        /// A key that means nothing without another.
        Needs { key: &'static str, needed: &'static str } = Usage, "`{key}` is set, and `{needed}` is not; it needs it";
    }
}

fn place(line: Option<usize>) -> String {
    line.map_or(String::new(), |line| format!("line {line}: "))
}
