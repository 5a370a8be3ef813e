//! The crate's one error type.

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, coarse enough to branch on and to choose a hint by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file could not be read, parsed or written.
    File(lorakit_tensor::ErrorKind),
    /// The path holds no adapter: there is no `adapter_config.json`.
    NoAdapter,
    /// A full model stands where an adapter should, or the other way round.
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
    /// A tensor fits no type of the mix.
    Mix,
    /// The importance matrix is damaged, or of another model.
    Imatrix,
    /// Too little of the adapters survived being stored in the output's types.
    Retention,
    /// The request is not possible in this combination of options.
    Usage,
    /// The files of an adapter alone do not say what they mean: its base model is needed.
    NeedsBase,
    /// A format has no place for a part of the adapter.
    Inexpressible,
    /// Two things are the same, and what they differ in was asked for.
    Unchanged,
    /// An output does not hold what was meant to be written.
    Verification,
    /// Outside what this version does.
    Unsupported,
    /// The caller asked to stop.
    Interrupted,
}

/// An error with its file, its tensor and, where many things are wrong at once, one line for each.
#[derive(Debug)]
pub struct Error(Box<Repr>);

#[derive(Debug)]
struct Repr {
    kind: ErrorKind,
    path: Option<PathBuf>,
    tensor: Option<String>,
    message: String,
    details: Vec<String>,
    source: Option<lorakit_tensor::Error>,
}

impl Error {
    /// An error whose message is a lowercase fragment: what was found and what was needed.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Repr {
            kind,
            path: None,
            tensor: None,
            message: message.into(),
            details: Vec::new(),
            source: None,
        }))
    }

    /// An error about an input that contradicts itself or another.
    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        lorakit_tensor::Error::new(lorakit_tensor::ErrorKind::Corrupt, message).into()
    }

    /// Names the file.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        match self.0.source.take() {
            Some(source) => self.0.source = Some(source.at(path)),
            None => drop(self.0.path.get_or_insert_with(|| path.to_path_buf())),
        }
        self
    }

    /// Names the tensor or module.
    #[must_use]
    pub fn tensor(mut self, name: &str) -> Self {
        match self.0.source.take() {
            Some(source) => self.0.source = Some(source.tensor(name)),
            None => drop(self.0.tensor.get_or_insert_with(|| name.to_string())),
        }
        self
    }

    /// One line for each of the things that are wrong.
    #[must_use]
    pub fn details(mut self, details: Vec<String>) -> Self {
        self.0.details = details;
        self
    }

    /// What to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file this is about.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref().or_else(|| self.0.source.as_ref()?.path())
    }

    /// The tensor or module this is about.
    pub fn tensor_name(&self) -> Option<&str> {
        self.0.tensor.as_deref().or_else(|| self.0.source.as_ref()?.tensor_name())
    }

    /// One line for each of the things that are wrong; often empty.
    pub fn detail_lines(&self) -> &[String] {
        &self.0.details
    }
}

impl From<lorakit_tensor::Error> for Error {
    fn from(source: lorakit_tensor::Error) -> Self {
        let mut error = Error::new(ErrorKind::File(source.kind()), "");
        error.0.source = Some(source);
        error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.0.source {
            return fmt::Display::fmt(source, f);
        }
        if let Some(path) = &self.0.path {
            write!(f, "`{}`: ", path.display())?;
        }
        if let Some(tensor) = &self.0.tensor {
            write!(f, "`{}`: ", tensor.escape_debug())?;
        }
        f.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().and_then(|e| e.source())
    }
}
