//! What can be wrong with the layout of a family.

use lorakit_tensor::problems;

problems! {
    /// What can be wrong with the layout of a family.
    pub(crate) enum Problem {
        /// The rows of a projection do not form heads of an even size.
        Heads { rows: usize, heads: usize } = File(Corrupt),
            "has {rows} rows, which are not {heads} heads of an even number of rows";
    }
}
