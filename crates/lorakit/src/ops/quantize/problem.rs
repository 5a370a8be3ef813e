//! What quantising refuses, and what can be wrong with an importance matrix.

use lorakit_tensor::problems;

problems! {
    /// What quantising refuses.
    pub(crate) enum Problem {
        /// No place to say that weights are packed.
        NoConfig = Unsupported, "has no `config.json`, which says that weights are packed and how";
        /// Weights that are already quantised.
        Twice { quantized: usize, of: usize, how: String } = Requantized,
            "is quantised already: {quantized} of its {of} tensors are stored as {how}; quantising again loses more";
        /// A mix that needs importances.
        NeedsImportances { mix: String } = Imatrix,
            "{mix} keeps too little to do without an importance matrix";
        /// A mix that needs importances of tensors that the matrix does not know.
        LacksImportances { mix: String, first: String, count: usize, of: usize } = Imatrix,
            "has no entry for `{first}`, {count} of the {of} tensors whose importances {mix} cannot do without";
        /// A tensor that fits no type of the mix.
        Unfit { reason: String } = Mix, "{reason}";
        /// A tensor that does not fit the type that an option gives it.
        UnfitGiven { reason: String } = Mix / AnotherGivenType, "{reason}";
        /// A tensor whose type has no other to fall back to.
        UnfitAtAll { reason: String } = Mix / OtherTypeByName, "{reason}";
        /// An importance that is not a mean of squares.
        Importance { column: usize, value: f32 } = Imatrix,
            "value {column} is {value}; an importance is finite and not negative";
        /// Importances whose number is not that of the model's columns.
        OtherLengths { tensors: usize } = Imatrix,
            "was made for a different model: {tensors} of its tensors have other lengths";
        /// Importances for none of the tensors.
        OtherNames { tensors: usize, missing: String, known: String } = Imatrix,
            "was made for a different model: it knows none of the model's {tensors} tensors, such as `{missing}`, \
             but `{known}`";
        /// The older format announces no entries.
        NoEntries { entries: i32 } = File(Corrupt), "is not an importance matrix: it announces {entries} entries";
        /// The older format announces more than can fit.
        TooManyEntries { most: usize, entries: i32 } = File(Truncated),
            "is cut short, or not an importance matrix: it has room for {most} entries and announces {entries}";
        /// The older format repeats a name.
        RepeatedEntry { entry: i32 } = File(Corrupt), "entry {entry} repeats an earlier one";
        /// The older format goes on after its end.
        Trailing { end: usize, len: usize } = File(Corrupt), "ends at byte {end}, and the file has {len}";
        /// The older format ends early.
        CutShort { what: String, needed: usize, at: usize, len: usize } = File(Truncated),
            "is cut short: {what} needs {needed} bytes at byte {at}, and the file has {len}";
        /// A length below the possible minimum.
        Length { what: String, at: usize, found: i32, least: usize } = File(Corrupt),
            "{what} has length {found} at byte {at}; it must be at least {least}";
        /// A name that is not text.
        NotText { what: String, at: usize } = File(Corrupt), "{what} at byte {at} is not UTF-8 text";
        /// The GGUF format without sums.
        NoSums { suffix: &'static str } = File(Corrupt),
            "is a GGUF file, but not an importance matrix: no tensor is called `…{suffix}`";
        /// Sums that are not a number of rows of one length.
        SumsAndCounts { sums: usize, counts: usize } = File(Corrupt), "has {sums} sums for {counts} matrices";
        /// A count that cannot be one.
        Count { count: f32 } = File(Corrupt), "has a count of {count}";
        /// Sums without counts, or the other way round.
        Alone { other: &'static str } = File(Corrupt), "has no `…{other}` beside it";
        /// Sums or counts of another type.
        NotFloats { dtype: lorakit_tensor::DType } = File(Corrupt), "is of type {dtype}; it must be F32";
        /// A metadata key that is absent or of another type.
        Key { key: &'static str, found: String, needed: &'static str } = File(Corrupt),
            "metadata key `{key}` is {found}; it must be {needed}";
    }
}
