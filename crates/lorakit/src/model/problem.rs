//! What can be wrong with a model folder and its `config.json`.

use lorakit_tensor::problems;

problems! {
    /// What can be wrong with a model folder and its `config.json`.
    pub(crate) enum Problem {
        /// An adapter stands where a model should.
        Adapter = WrongRole, "is an adapter (it has `adapter_config.json`), not a full model";
        /// Hyper-parameters are asked for, and there is no configuration.
        NoConfig = Unsupported, "has no `config.json`, which gives the layout of its heads";
        /// The class of the model is of no family.
        UnknownClass { class: String, known: Vec<&'static str> } = Unsupported,
            "is a model of the class `{class}`; known are {}", known.join(", ");

        /// An entry that the model needs is not there.
        MissingEntry { name: String } = File(Incomplete), "`config.json` has no `{name}`, which the model needs";
        /// An entry is no whole number, or a large one.
        NotWhole { name: String, value: String } = File(Corrupt),
            "`{name}` of `config.json` is {value}; it must be a whole number below 2^32";
        /// An entry is no number.
        NotFinite { name: String, value: String } = File(Corrupt),
            "`{name}` of `config.json` is {value}; it must be a finite number";
        /// A layer has more experts than models have.
        Experts { name: &'static str, count: u32, limit: u32 } = File(Corrupt),
            "`{name}` of `config.json` is {count}; it must be at most {limit}";
    }
}
