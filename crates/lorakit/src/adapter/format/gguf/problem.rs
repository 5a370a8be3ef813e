//! What can be wrong with a GGUF adapter.

use lorakit_tensor::problems;

use crate::error::one_or_many;

problems! {
    /// What can be wrong with a GGUF adapter.
    pub(crate) enum Problem {
        /// The metadata do not name the family.
        NoArchitecture = Damaged, "has no metadata key `general.architecture`";
        /// The metadata name an unknown family.
        Family { name: String, known: Vec<&'static str> } = Unsupported,
            "is for models of the family `{name}`; the known ones are {}", known.join(", ");
        /// The base belongs to another family.
        BaseFamily { own: &'static str, base: &'static str } = Unmatched,
            "is an adapter for models of the family `{own}`, and the base is of the family `{base}`";
        /// An adapter should be written without its base.
        NoBase { id: Option<String> } = NeedsBase,
            "cannot become GGUF without the `config.json` of its base{}, which says how llama.cpp names the tensors and \
             orders the rows of q and k",
            id.as_ref().map_or(String::new(), |id| format!(", `{id}`"));

        /// Modules belong to tensors that a LoRA of the family does not change.
        Placeless { count: usize, family: &'static str } = Inexpressible,
            "has {} that a GGUF adapter of the family `{family}` cannot hold", one_or_many(*count, "module");
        /// Modules differ in size from their weights.
        Misfits { count: usize } = Shape, "has {} of another shape than the base's tensor", one_or_many(*count, "module");
        /// Two modules belong to one tensor that is not a stack.
        SameTensor { other: String } = Conflict, "is for the same tensor as `{other}`";
        /// Two modules belong to the same place in a stack.
        SameExpert = Conflict, "is the second module for the same expert";
        /// Modules of one stack differ in size.
        UnevenExperts { rows: usize, cols: usize, first: String, first_rows: usize, first_cols: usize } = Shape,
            "changes a matrix of {rows} x {cols}, and `{first}` one of {first_rows} x {first_cols}";
    }
}
