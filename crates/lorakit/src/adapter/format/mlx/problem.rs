//! What can be wrong with an adapter of mlx-lm.

use lorakit_tensor::problems;

problems! {
    /// What can be wrong with an adapter of mlx-lm.
    pub(crate) enum Problem {
        /// Whole weights were trained.
        WholeWeights = Unsupported,
            "says `fine_tune_type: full`: the file holds whole weights of a model, not a low-rank adapter";
        /// The method is unknown.
        Method { found: String } = Unsupported, "says `fine_tune_type: {found}`; the known ones are lora, dora and full";
        /// The configuration lacks the scale.
        NoScale = Config, "has no `lora_parameters.scale`, which multiplies every delta";
        /// A parameter is not a number.
        Parameter { name: &'static str, found: String } = Config,
            "`lora_parameters.{name}` is {found}, and must be a finite number";

        /// An embedding is read without its base.
        LoneEmbedding = NeedsBase,
            "is an embedding; the output layer changes with it if the model ties the two, which only the configuration of \
             the base says";
        /// An embedding or output layer should be written without its base.
        LoneEnd = NeedsBase,
            "is an embedding or the output layer, which in MLX change together if the model ties them, as its \
             configuration says";
        /// Only one of two tied layers is adapted, or the two differ.
        OneSide = Inexpressible, "changes one side of embeddings that the model ties; in MLX both would change";
        /// DoRA is used where mlx-lm does not have it, or not everywhere.
        PartialDora { count: usize, modules: usize, other: String } = Inexpressible,
            "has DoRA magnitudes in {count} of {modules} modules; mlx-lm needs them in all, and has none for experts and \
             embeddings (see `{other}`)";
        /// Modules are in layers that have other names in mlx-lm.
        ForeignNames = Unsupported,
            "changes layers that mlx-lm names differently in this family; its names are known for families with `model.layers`";

        /// A module belongs to an expert that the base does not have.
        ExpertNumber { expert: usize, count: usize } = Shape,
            "belongs to expert {expert} of a layer; the model has {count}";
        /// Stacks have gaps, and there is no base that tells their length.
        ExpertCount = NeedsBase, "has factors for some experts of a layer; only the base model tells how many there are";
        /// A stack is empty.
        NoExperts = Shape, "has no experts";
        /// A stack would have the name of a layer that is not an expert.
        SameName = Shape, "would be the name of more than one module";
        /// Modules of one stack differ in size.
        UnevenExperts { first: String } = Shape, "would stack experts of other shapes than that of `{first}`";
    }
}
