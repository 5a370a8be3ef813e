//! What can be wrong with a model folder and its `config.json`.

use lorakit_tensor::problems;

problems! {
    /// What can be wrong with a model folder and its `config.json`.
    pub(crate) enum Problem {
        /// An adapter is given where a model is expected.
        Adapter = WrongRole, "is an adapter (it has `adapter_config.json`), not a full model";
        /// Hyper-parameters are needed, but there is no configuration.
        NoConfig = Unsupported, "has no `config.json`, which gives the layout of its heads";
        /// The class of the model does not belong to a known family.
        UnknownClass { class: String, known: Vec<&'static str> } = Unsupported,
            "is a model of the class `{class}`; the known ones are {}", known.join(", ");

        /// An entry that the model needs is missing.
        MissingEntry { name: String } = File(Incomplete), "`config.json` has no `{name}`, which the model needs";
        /// An entry is not a whole number, or is too large.
        NotWhole { name: String, value: String } = File(Corrupt),
            "`{name}` of `config.json` is {value}; it must be a whole number below 2^32";
        /// An entry is not a number.
        NotFinite { name: String, value: String } = File(Corrupt),
            "`{name}` of `config.json` is {value}; it must be a finite number";
        /// A layer has more experts than any model.
        Experts { name: &'static str, count: u32, limit: u32 } = File(Corrupt),
            "`{name}` of `config.json` is {count}; it must be at most {limit}";
    }
}
