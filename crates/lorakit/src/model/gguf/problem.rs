//! What can be wrong with a GGUF model that is read or written.

use lorakit_tensor::{DType, problems};

problems! {
    /// What can be wrong with a GGUF model that is read or written.
    pub(crate) enum Problem {
        /// The file is GGUF, but has no metadata.
        NoMetadata = Unsupported, "has no GGUF metadata";
        /// An adapter is given where a model is expected.
        Adapter = WrongRole, "is a GGUF adapter, not a full model";
        /// The model belongs to an unknown family.
        UnknownFamily { family: String, known: Vec<&'static str> } = Unsupported,
            "is a model of the family `{family}`; the known ones are {}", known.join(", ");
        /// The model belongs to a family that cannot be turned into a Hugging Face model.
        OneWayFamily { family: String, known: Vec<&'static str> } = File(Unsupported),
            "is a model of the family `{family}`, which cannot be read as a Hugging Face model; {} can", known.join(", ");
        /// No class of the family has the keys of the model.
        NoClass = File(Unsupported), "does not belong to a known model class";

        /// A required key is missing.
        MissingKey { key: String } = File(Incomplete), "has no metadata key `{key}`";
        /// The value of a key has the wrong type, or is out of range.
        WrongKey { key: String, value: String, kind: &'static str, needed: &'static str } = File(Corrupt),
            "metadata key `{key}` is {value} of type {kind}; it must be {needed}";
        /// Keys, values and rotated parts of a head differ in size.
        UnequalHeads { keys: u64, values: u64, rotated: u64 } = File(Unsupported),
            "has heads of {keys} keys and {values} values, {rotated} of them rotated; the three must be equal";
        /// A key scales positions in a way that transformers does not know.
        ScalingKey { key: &'static str, value: f64 } = File(Unsupported),
            "has `{key}` {value}, which config.json cannot express";
        /// Positions are scaled by a rule that transformers does not know.
        Scaling { kind: String } = File(Unsupported),
            "has the rope scaling `{kind}`; the known ones are none, linear, yarn and llama3";
        /// The position factors do not follow from Llama 3's rule with any parameters.
        Factors = File(Unsupported), "does not follow the llama3 rule, the only one known";
        /// Positions may be scaled by Llama 3's rule, with parameters that the divisors do not tell.
        FewFactors { between: usize } = File(Unsupported),
            "follows the llama3 rule, but has {between} values between 1 and the largest; at least 2 must be, to tell \
             its parameters";
        /// The position factors have another type, or are too many.
        FactorsShape { count: u64, dtype: DType, limit: u64 } = File(Unsupported),
            "has {count} values of {dtype}; it may have at most {limit} of F32";
        /// Weights cannot be written to a Hugging Face folder in this type.
        WeightType { dtype: DType } = File(Unsupported),
            "{dtype} cannot be the type of a Hugging Face model; BF16, F16 and F32 can";

        /// A tensor that the family needs is missing.
        MissingTensor = File(Incomplete), "the model needs it and has none";
        /// A GGUF tensor does not match any rule of the family.
        UnknownTensor { family: &'static str } = File(Unsupported),
            "is not a tensor that GGUF files of the family `{family}` have";
        /// A tensor has a layer number beyond the model's layers.
        Layer { layers: u64 } = File(Corrupt), "is of a layer beyond the {layers} of the model";
        /// A stack of experts does not have one matrix per expert.
        Stack { shape: Vec<usize>, experts: u64 } = File(Corrupt),
            "has the shape {shape:?}; it must be a stack of {experts} matrices";
        /// The embeddings are not a matrix.
        Embeddings { shape: Vec<usize> } = File(Corrupt), "has the shape {shape:?}; embeddings are a matrix";
        /// Some layers have an optional tensor, and some do not.
        SomeLayers { count: u64, layers: u64, flag: &'static str } = File(Unsupported),
            "{count} of {layers} layers have it; `{flag}` of config.json means all such tensors or none";

        /// A model without a configuration should be written as GGUF.
        NoConfig = Unsupported,
            "has no `config.json`, which says what kind of model it is; the source must be a Hugging Face folder";
        /// The output matrix is missing, and the embeddings do not serve as one.
        NoHead = Unsupported,
            "has no output matrix (`lm_head.weight`), and by its `config.json` the embeddings do not serve as one; if \
             they do, it must say `\"tie_word_embeddings\": true`";
        /// A Hugging Face tensor has no place in GGUF files of the family.
        NoPlace { family: &'static str } = Unsupported,
            "has no name in GGUF files of the family `{family}`";
        /// Experts packed in one tensor do not have the shape that the configuration gives.
        Experts { shape: Vec<usize>, needed: &'static str, experts: usize, hidden: usize } = File(Corrupt),
            "has the shape {shape:?}; it must be {needed} for {experts} experts and a hidden size of {hidden}";
        /// An expert has a number beyond the experts of the configuration.
        Expert { expert: usize, experts: usize } = File(Corrupt),
            "belongs to expert {expert}, but `config.json` has {experts} experts";
        /// Experts of a layer are missing.
        FewExperts { count: usize, experts: usize } = File(Corrupt), "has {count} of {experts} experts";
        /// A merge changed the number of tokens, which a GGUF model cannot follow.
        Vocabulary { tokens: usize, rows: usize } = Shape,
            "has a vocabulary of {tokens} tokens, and the merged embedding has {rows} rows: write a folder, and \
             convert that";
        /// A small file of the folder is not text.
        NotText { name: String } = File(Corrupt), "`{name}` is not UTF-8 text";

        /// A list of factors does not have one for each rotated pair of values.
        FactorCount { name: String, count: usize, needed: usize } = File(Corrupt),
            "`{name}` of `config.json` has {count} of {needed} numbers";
        /// Heads are larger than those of any model.
        LargeHeads { values: u32, limit: u32 } = File(Corrupt),
            "has heads of {values} values by its `config.json`; at most {limit} are allowed";
        /// Positions are scaled by a rule for which GGUF has no keys.
        ScalingRule { rule: String } = Unsupported,
            "scales positions by `{rule}`; the known ones are linear, yarn, longrope and llama3";
        /// Positions are scaled by factors for which the family has no tensor.
        ScalingOfFamily { rule: String, family: &'static str } = Unsupported,
            "scales positions by `{rule}`, which GGUF models of the family `{family}` cannot";
    }
}
