//! What an audit refuses: a policy or a filter that is not one.

use lorakit_tensor::problems;

problems! {
    /// What an audit refuses.
    pub(crate) enum Problem {
        /// A policy that is not text.
        PolicyText = Usage, "is not UTF-8 text";
        /// A policy that is not TOML.
        Toml { line: usize, reason: String } = Usage, "line {line}: is not TOML: {reason}";
        /// A key of a policy that stands for no rule.
        UnknownRule { line: usize, key: String, nearest: String } = Usage,
            "line {line}: `{key}` is not a rule; the nearest is `{nearest}`";
        /// A value of a policy of the wrong type, or out of range.
        RuleValue { line: usize, key: String, found: String, needed: &'static str } = Usage,
            "line {line}: `{key}` is {found}; it must be {needed}";
        /// An item of a list of a policy that is not what the list holds.
        RuleItem { line: usize, key: String, item: String, reason: String } = Usage,
            "line {line}: `{key}` holds `{item}`, which {reason}";
        /// A list that would let nothing pass.
        NothingAllowed { line: usize, key: String } = Usage,
            "line {line}: `{key}` is empty, so nothing would be allowed; leave it out to allow everything";
        /// Bounds of the rank that no rank is within.
        RankBounds { min: usize, max: usize } = Usage,
            "`rank.min` is {min} and `rank.max` is {max}, so no rank would be allowed";
        /// A finding that is forbidden and allowed.
        ForbiddenAndAllowed { code: String } = Usage,
            "`findings.forbid` and `findings.allow` both name `{code}`";

        /// A filter without a value.
        FilterShape { text: String } = Usage, "`{text}` must be KEY=VALUE or KEY!=VALUE, such as `format=peft`";
        /// A filter on something that entries do not have.
        FilterKey { key: String, known: Vec<&'static str> } = Usage,
            "`{key}` is not a key; the keys are {}", known.join(", ");
        /// A value that the key of a filter cannot have.
        FilterValue { key: &'static str, value: String, reason: String } = Usage,
            "`{key}={value}` is not a condition: {reason}";
    }
}
