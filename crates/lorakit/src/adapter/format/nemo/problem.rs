//! What can be wrong with an adapter of NeMo.

use lorakit_tensor::problems;

problems! {
    /// What can be wrong with an adapter of NeMo.
    pub(crate) enum Problem {
        /// There is no `model_config.yaml`.
        NoConfiguration = NoAdapter, "is missing; it gives the rank and the scale";
        /// The configuration is not text.
        NotText = Config, "is not UTF-8 text";
        /// A scalar of the configuration has another type.
        Value { path: &'static str, found: String, needed: &'static str } = Config,
            "`{path}` is `{found}`; it must be {needed}";
        /// The configuration lacks the rank.
        NoRank = Config, "has no `peft.lora_tuning.adapter_dim`, the rank";
        /// The adapter was trained in parallel, and is spread over several files.
        Parallel { name: &'static str, parts: usize } = Unsupported,
            "says `{name}: {parts}`: the adapter is spread over {parts} files, which are not read";
        /// q, k and v are one layer, and nothing says how many heads it has.
        Heads = NeedsBase,
            "holds q, k and v of all heads in turn, and the configuration does not say how many there are; the base \
             model's does";
    }
}
