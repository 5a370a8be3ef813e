//! What can go wrong when an adapter is fitted to a base.

use lorakit_tensor::problems;

problems! {
    /// What can go wrong when an adapter is fitted to a base.
    pub(crate) enum Problem {
        /// Parts of the adapter have no counterpart in the base.
        Unmatched { count: usize, total: usize, tensors: usize } = Unmatched,
            "{count} of {total} parts of the adapter have no counterpart among the {tensors} tensors of the base";
        /// Parts of the adapter have several counterparts in the base.
        Ambiguous { count: usize, total: usize } = Ambiguous,
            "{count} of {total} parts of the adapter have more than one possible counterpart in the base";
        /// Parts of the adapter have a counterpart with another shape.
        Shape { count: usize, total: usize } = Shape,
            "does not fit the base model: {count} of {total} parts of the adapter differ in shape";
        /// Every module of the adapter is the same fraction of its weight in the base.
        Slices { count: usize, parts: usize } = Shape / ExportAgain,
            "does not fit the base model: each of its {count} modules is 1/{parts} of its weight in the base, as if \
             one of {parts} processes had saved its own part only (FSDP or tensor parallelism, without gathering)";
        /// Parts of the adapter do something that no model does.
        Unmergeable { count: usize, total: usize } = Unmergeable,
            "{count} of {total} parts of the adapter cannot be merged";

        /// Experts packed in one module cannot be told apart by their shapes.
        PackedExperts = NeedsBase,
            "stands for all experts of a layer, and its shapes do not tell which factor is which: the base does";
        /// Stacked experts of the family have no modules of their own.
        StackedFamily { family: String } = Unsupported,
            "changes stacked experts of the family `{family}`, which have no modules of their own";
    }
}

problems! {
    /// Why a part of an adapter does not fit: a line among the details of a [`Problem`].
    pub(crate) enum Reason {
        /// The base has no such name.
        NotThere = Unmatched, "not in the base";
        /// A bias was trained, and the layer does not have one.
        NoBias = Unmatched, "trains a bias (lora_bias), and the base layer has none to add it to";
        /// Several names of the base would match.
        Several { names: Vec<String> } = Ambiguous, "could be {}", names.join(" or ");

        /// A weight has another shape.
        Weight { base: Vec<usize>, adapter: Vec<usize> } = Shape, "base {base:?}, adapter {adapter:?}";
        /// A bias has another shape.
        Bias { base: Vec<usize>, adapter: Vec<usize> } = Shape, "base bias {base:?}, adapter bias {adapter:?}";
        /// There is not one magnitude for each output.
        Magnitudes { found: u64, outputs: usize } = Shape, "has {found} magnitudes for {outputs} outputs";
        /// There are more or fewer factors than the weight has rows or columns.
        Factors { found: usize, base: Vec<usize> } = Shape,
            "has {found} factors, which do not divide among the rows or columns of base {base:?}";
        /// A token is beyond the vocabulary.
        Token { token: usize, vocabulary: usize } = Shape,
            "token {token} is trained, and the base has {vocabulary}";
        /// Token rows have another width.
        RowWidth { base: usize, trained: usize } = Shape, "base rows have {base} values, trained rows {trained}";

        /// Magnitudes belong to a part of what the base stores as one tensor.
        PartDora { tensor: String } = Unmergeable,
            "uses DoRA on a part of `{tensor}`, whose norms are those of whole layers";

        /// Experts do not share the rows of A evenly.
        Ranks { rows: usize, experts: usize } = Shape,
            "has {rows} rows of A, which do not divide among {experts} experts";
        /// The weight of one expert differs from the adapter's share.
        OfEachExpert { base: Vec<usize>, adapter: Vec<usize> } = Shape,
            "base {base:?}, adapter {adapter:?} for each expert";
        /// The adapter's expert differs from one of the base's stack.
        OfOneExpert { base: Vec<usize>, adapter: Vec<usize> } = Shape,
            "base {base:?} for all experts, adapter {adapter:?} for one";
        /// OFT on a weight that is stored the other way round.
        RotatedOutputs = Unmergeable,
            "rotates the inputs of a weight that is stored as (in, out); PEFT's merge rotates its outputs";
        /// OFT on a convolution.
        RotatedKernel { base: Vec<usize> } = Unmergeable,
            "rotates patches of a convolution, base {base:?}, which no kernel can do: PEFT's merge computes something \
             else than its live model";
        /// OLoRA on a layer whose weight PEFT cannot decompose.
        InitialOf { layer: &'static str } = Unmergeable,
            "is initialised with OLoRA, which PEFT cannot do to {layer}";
        /// OLoRA on a weight that the base has in several tensors.
        InitialInParts { count: usize } = Unmergeable,
            "is initialised with OLoRA, which decomposes a weight as a whole, and the base has it in {count} tensors";
        /// Magnitudes belong to stacked experts.
        ExpertDora = Unmergeable, "uses DoRA on expert parameters, which PEFT does not define";
    }
}
