//! What a merge refuses.

use lorakit_tensor::DType;
use lorakit_tensor::problems;

use crate::error::one_or_many;

problems! {
    /// What a merge refuses.
    pub(crate) enum Problem {
        /// A configuration that does not name its method.
        NoMethod = Config,
            "has an `adapter_config.json` without `peft_type`, so what its tensors mean is unknown";
        /// An activated LoRA, which acts only from certain tokens on.
        Activated { option: String } = Unmergeable,
            "cannot be merged: it is an activated LoRA, which acts on some tokens only (`{option}`)";
        /// Arrow, which chooses adapters for each token.
        Routed { option: String } = Unmergeable,
            "cannot be merged: it routes between adapters for each token (`{option}`)";
        /// KaSA, which takes a part out of the weights before it adds to them.
        Truncated { option: String } = Unmergeable,
            "cannot be merged: KaSA first takes the smallest singular components out of every weight that it adapts, and \
             what it adds is meant for what is left (`{option}`)";
        /// Layers that occur several times.
        Replicated = Unmergeable,
            "repeats layers of the base (`layer_replication`), which a merge cannot express yet";
        /// An initialisation that took a part of the base away.
        Mutated { init: String } = MutatedBase,
            "was initialised with `{init}`, which changed the base weights that it was trained on: added to the \
             published model it gives a wrong result";
        /// PiSSA.
        Pissa { init: String } = MutatedBase,
            "was initialised with `{init}`: whenever PEFT loads it, it takes the leading singular vectors out of every weight, \
             by a full SVD of each; that takes hours for a large model, and is only as exact as the singular values are \
             apart, so it is not repeated here, and added to the published model the adapter gives a wrong result";
        /// PiSSA by a randomised SVD.
        RandomPissa { init: String } = MutatedBase,
            "was initialised with `{init}`: whenever PEFT loads it, it takes singular vectors out of every weight that it \
             finds by a random search, so it never loads the same model twice, and nothing can repeat that; added to the \
             published model it gives a wrong result";
        /// OLoRA at another strength.
        WeightedInitial { weight: f64 } = Unmergeable / ConvertMutated,
            "was initialised with OLoRA and has weight {weight}: PEFT takes the initial product out of the base whole, \
             whatever the weight, so at none but 1 is it between the base and what was trained";
        /// OLoRA to be taken out of a model.
        UndoneInitial { weight: f64 } = Unmergeable / OriginalBase,
            "was initialised with OLoRA and has weight {weight}: what was taken out of the base was computed from the base, \
             and is not in it; nothing can take it out of a model again";
        /// Two adapters of OLoRA on one tensor.
        TwoInitial = Unmergeable / ConvertMutated,
            "is changed by two OLoRA adapters: PEFT takes the second one's initial product out of what the first one's left, \
             and trained it on the base";
        /// OLoRA on a tensor that another adapter replaces.
        InitialOfReplaced = Unmergeable / ConvertMutated,
            "is replaced by one adapter, and another takes its initial product out of it (OLoRA): PEFT does not load both";
        /// OLoRA on a tensor whose values are rounded in blocks.
        InitialOfQuantised = Unmergeable / ConvertMutated,
            "is not stored as F32, F16 or BF16, and OLoRA takes a part out of it: of quantised weights, PEFT quantises what is \
             left again";
        /// OLoRA on one of several parameters that are one tensor.
        InitialOfTied { others: Vec<String> } = Unmergeable / ConvertMutated,
            "is one tensor with {}, and PEFT takes the initial product of OLoRA out of all of them, but trains one",
            others.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        /// DoRA at another strength.
        WeightedDora { weight: f64 } = Unmergeable,
            "is a DoRA adapter with weight {weight}; DoRA has no strength other than 1";
        /// DoRA to be taken out of a model.
        UndoneDora { weight: f64 } = Unmergeable / OriginalBase,
            "is a DoRA adapter with weight {weight}: it does not add to weights, it sets their magnitudes, and what these \
             were before is not in it; nothing can take it out of a model again";
        /// A base that holds the factors of another adapter.
        UnmergedBase { tensors: usize, first: String } = Unsupported,
            "holds an adapter that was not merged before it was saved ({}, the first is `{first}`), so its weights are not \
             those of a model; its own alpha is not in it, so it cannot be merged here: PEFT's `merge_and_unload` does that \
             before saving",
            one_or_many(*tensors, "tensor");
        /// Tensors that are replaced, to be taken out of a model.
        UndoneWhole { tensors: usize } = Unmergeable / OriginalBaseOrLeaveOut,
            "replaces {} of the base: there is no delta to subtract, so a negative weight cannot take it out of a model",
            one_or_many(*tensors, "tensor");
        /// A tied model in which nothing tells which parameters are one tensor.
        TiedUnknown = Unsupported / ConfigureTies,
            "is changed, and `config.json` ties the embeddings: which tensor has which values is not known for this class of \
             models, so what the output side would become is not either";
        /// A parameter that no layer computes with, of several that are one tensor.
        Idle { others: Vec<String> } = Unmergeable / ShareTied,
            "is changed alone, and no layer computes with it: the model computes with {}, which have its values only as \
             long as nothing changes one of them, so base and adapter compute what the base does",
            others.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        /// Trained rows of an embedding, and another change of the output that is tied to it.
        RowsBelow { embedding: String } = Unmergeable,
            "is changed, and is one tensor with `{embedding}`, of which rows were trained: PEFT adds one change to the \
             other in a model that it cannot save";
        /// A vocabulary that grew at one end only.
        HalfGrown { rows: usize, grown: String, wanted: usize } = Unmergeable / ResizedModel,
            "has {rows} rows, and the adapter brings {wanted} for `{grown}`: the vocabulary grew before training, and what \
             the new tokens have here is not in the adapter";
        /// Two adapters whose magnitudes are for one tensor.
        TwoDora = Unmergeable, "is changed by two DoRA adapters, whose order would matter";
        /// A plain LoRA before DoRA: whether its delta is in the norm depends on when PEFT is asked.
        LoraBeforeDora = Unmergeable / DoraFirst,
            "is changed by this DoRA adapter after a plain LoRA: PEFT's live model leaves the LoRA out of DoRA's norm, and \
             its merged one does not";
        /// A tensor is multiplied, and changed in another way.
        Mixed = Unmergeable / MergeInTurn,
            "is multiplied by one adapter (IA3, OFT) and changed by another, and their order would matter";
        /// Weights that are multiplied, at another strength.
        WeightedFactors { method: &'static str, weight: f64 } = Unmergeable,
            "is an adapter of the method {method} with weight {weight}; what multiplies weights has no strength other \
             than 1";
        /// An adapter without any part.
        Nothing = Damaged, "holds nothing to merge: no low-rank factors and no saved tensors";
        /// Two adapters save the same tensor with different values.
        ReplacedTwice = Conflict, "would be replaced by two adapters";
        /// Two adapters save the same row of an embedding with different values.
        RowReplacedTwice { row: usize } = Conflict, "row {row} would be replaced by two adapters";
        /// A delta that covers more or less than its tensor.
        DeltaShape { rows: usize, columns: usize, delta_rows: usize, delta_columns: usize } = Shape,
            "has {rows} x {columns} values, and a delta of {delta_rows} x {delta_columns}";
        /// A delta for a tensor that neither the base nor an adapter has.
        NothingToAddTo = Unmatched, "has nothing to add to in the base model";
        /// An adapter that does not fit, on a base whose tensors are packed in a way that cannot be read.
        Packed { method: String, tensors: usize } = Quantized,
            "is quantised by {method}: {tensors} tensors are packed, and nothing can be added to those";
        /// Tensors to edit whose type cannot be decoded or encoded.
        Opaque { how: String, tensors: usize, dtype: DType } = Quantized,
            "is quantised{how}: {tensors} of the tensors to edit are stored as {dtype}, to which nothing can be added";
        /// Too little of the deltas is left after rounding.
        Lost { percent: f64, needed: f64, types: String } = Retention,
            "would hold {percent:.1} % of the adapter, and at least {needed:.0} % must be left: the deltas are small \
             against the steps between the values that {types} can store";
    }
}
