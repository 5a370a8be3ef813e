//! Kinds of errors.

/// What went wrong, coarse enough to branch on and to choose a hint by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file could not be read, parsed or written.
    File(lorakit_tensor::ErrorKind),
    /// The path does not hold an adapter: there is no `adapter_config.json`.
    NoAdapter,
    /// A full model is given where an adapter is expected, or the other way round.
    WrongRole,
    /// `adapter_config.json` or `config.json` holds a value that makes no sense.
    Config,
    /// The adapter file is damaged: a half is missing, a tensor is empty, a key repeats.
    Damaged,
    /// A value is NaN or infinite.
    NonFinite,
    /// A method or option that cannot be merged truthfully.
    Unmergeable,
    /// The adapter was trained on weights that its initialisation had changed.
    MutatedBase,
    /// Adapter tensors have no counterpart in the base model.
    Unmatched,
    /// An adapter tensor has more than one possible counterpart.
    Ambiguous,
    /// Shapes of adapter and base disagree.
    Shape,
    /// Two adapters, or two parts of one, want to replace the same values.
    Conflict,
    /// The base model is quantised in a way that cannot be added to.
    Quantized,
    /// The model is quantised already.
    Requantized,
    /// A tensor does not fit any type of the mix.
    Mix,
    /// The importance matrix is damaged, or belongs to another model.
    Imatrix,
    /// Too little of the adapters survived being stored in the output's types.
    Retention,
    /// The request is not possible with this combination of options.
    Usage,
    /// The files of an adapter alone do not say what they mean: its base model is needed.
    NeedsBase,
    /// A format has no place for a part of the adapter.
    Inexpressible,
    /// Two things are the same, although their difference was asked for.
    Unchanged,
    /// An output does not hold what was meant to be written.
    Verification,
    /// Rows of training data, or what a chat template makes of them, cannot be trained on.
    Data,
    /// The base is another one than the adapter was trained on, or than a record says.
    BaseMismatch,
    /// A name points to something else than was expected.
    Moved,
    /// A signature is missing, does not fit, or is of a key that is not trusted.
    Untrusted,
    /// An input names a file outside its folder, holds code, or is larger than allowed.
    Unsafe,
    /// Another machine did not answer, or refused.
    Network,
    /// The request is outside what this version does.
    Unsupported,
    /// The caller asked to stop.
    Interrupted,
}

impl ErrorKind {
    /// The stable name of the kind: the `kind` of JSON output.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::File(kind) => kind.name(),
            ErrorKind::NoAdapter => "NoAdapter",
            ErrorKind::WrongRole => "WrongRole",
            ErrorKind::Config => "Config",
            ErrorKind::Damaged => "Damaged",
            ErrorKind::NonFinite => "NonFinite",
            ErrorKind::Unmergeable => "Unmergeable",
            ErrorKind::MutatedBase => "MutatedBase",
            ErrorKind::Unmatched => "Unmatched",
            ErrorKind::Ambiguous => "Ambiguous",
            ErrorKind::Shape => "Shape",
            ErrorKind::Conflict => "Conflict",
            ErrorKind::Quantized => "Quantized",
            ErrorKind::Requantized => "Requantized",
            ErrorKind::Mix => "Mix",
            ErrorKind::Imatrix => "Imatrix",
            ErrorKind::Retention => "Retention",
            ErrorKind::Usage => "Usage",
            ErrorKind::NeedsBase => "NeedsBase",
            ErrorKind::Inexpressible => "Inexpressible",
            ErrorKind::Unchanged => "Unchanged",
            ErrorKind::Verification => "Verification",
            ErrorKind::Data => "Data",
            ErrorKind::BaseMismatch => "BaseMismatch",
            ErrorKind::Moved => "Moved",
            ErrorKind::Untrusted => "Untrusted",
            ErrorKind::Unsafe => "Unsafe",
            ErrorKind::Network => "Network",
            ErrorKind::Unsupported => "Unsupported",
            ErrorKind::Interrupted => "Interrupted",
        }
    }
}
