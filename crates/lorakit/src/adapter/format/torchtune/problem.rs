//! What can be wrong with an adapter of torchtune.

use lorakit_tensor::problems;

problems! {
    /// What can be wrong with an adapter of torchtune.
    pub(crate) enum Problem {
        /// Rows may be in another order than Hugging Face's, and there is no base to say so.
        RowOrder = NeedsBase,
            "has its rows in an order of torchtune's own in some model families; the base model's configuration says \
             which it is and how many heads it has";
        /// The base is of a class that torchtune does not have.
        Class { class: String } = Unsupported, "is a model of the class `{class}`, which torchtune does not have";
        /// torchtune does not adapt some of the layers.
        Placeless { count: usize } = Inexpressible,
            "holds what torchtune has no place for, in {count} of its modules";
        /// The same, and some modules lack the magnitudes of DoRA that others have.
        PartialDora { count: usize } = Inexpressible / MergeOrNearestLora,
            "holds what torchtune has no place for, in {count} of its modules";
    }
}
