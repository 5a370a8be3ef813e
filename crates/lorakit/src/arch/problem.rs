//! What can be wrong with the layout of a family, or with a pattern for names.

use lorakit_tensor::problems;

problems! {
    /// What can be wrong with the layout of a family.
    pub(crate) enum Problem {
        /// The rows of a projection do not form heads of an even size.
        Heads { rows: usize, heads: usize } = File(Corrupt),
            "has {rows} rows, which are not {heads} heads of an even number of rows";
        /// A pattern for names that is not a regular expression.
        Pattern { pattern: String, why: String } = Usage, "`{pattern}` is not a regular expression: {why}";
    }
}
