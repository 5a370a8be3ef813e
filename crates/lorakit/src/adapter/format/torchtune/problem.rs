//! What can be wrong with an adapter of torchtune.

use lorakit_tensor::problems;

problems! {
    /// What can be wrong with an adapter of torchtune.
    pub(crate) enum Problem {
        /// Rows may not be in Hugging Face's order, and there is no base that tells.
        RowOrder = NeedsBase,
            "may have its rows in torchtune's own order, depending on the family of the model; the base model's \
             configuration names the family and gives the number of heads";
        /// The base has a class that torchtune does not support.
        Class { class: String } = Unsupported, "is a model of the class `{class}`, which torchtune does not have";
        /// torchtune does not adapt some of the layers.
        Placeless { count: usize } = Inexpressible,
            "holds parts that torchtune cannot store, in {count} of its modules";
        /// The same, and some modules lack the magnitudes of DoRA that others have.
        PartialDora { count: usize } = Inexpressible / MergeOrNearestLora,
            "holds parts that torchtune cannot store, in {count} of its modules";
    }
}
