//! The crate's one error type.

mod hint;
mod kind;
#[cfg(test)]
mod tests;

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

pub use hint::Hint;
pub use kind::ErrorKind;

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// `a part`, `2 parts`: a count with its noun in the right number.
pub(crate) fn one_or_many(count: usize, noun: &str) -> String {
    if count == 1 { format!("a {noun}") } else { format!("{count} {noun}s") }
}

/// A problem of a room, a variant of the room's enum: see [`problems`](lorakit_tensor::problems).
/// Shared by the crates of this workspace; not part of the public interface.
pub trait Problem: fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// The kind of error, to branch on.
    fn kind(&self) -> ErrorKind;

    /// What to do about it, unless that follows from the kind.
    fn hint(&self) -> Option<Hint> {
        None
    }
}

/// An error with its file, its tensor and, where many things are wrong at once, one line for each.
#[derive(Debug)]
pub struct Error(Box<Repr>);

#[derive(Debug)]
struct Repr {
    inside: Inside,
    path: Option<PathBuf>,
    tensor: Option<String>,
    details: Vec<String>,
}

#[derive(Debug)]
enum Inside {
    /// An error of the crate that reads and writes files, which names file and tensor itself.
    File(lorakit_tensor::Error),
    /// A problem of a room of this crate.
    Room(Box<dyn Problem>),
}

impl Error {
    /// Names the file, unless an inner layer did so already.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        match self.0.inside {
            Inside::File(error) => self.0.inside = Inside::File(error.at(path)),
            Inside::Room(_) => _ = self.0.path.get_or_insert_with(|| path.to_path_buf()),
        }
        self
    }

    /// Names the tensor or module, unless an inner layer did so already.
    #[must_use]
    pub fn tensor(mut self, name: &str) -> Self {
        match self.0.inside {
            Inside::File(error) => self.0.inside = Inside::File(error.tensor(name)),
            Inside::Room(_) => _ = self.0.tensor.get_or_insert_with(|| name.to_string()),
        }
        self
    }

    /// One line for each of the things that are wrong.
    #[must_use]
    pub fn details(mut self, details: Vec<String>) -> Self {
        self.0.details = details;
        self
    }

    /// The kind of error, to branch on.
    pub fn kind(&self) -> ErrorKind {
        match &self.0.inside {
            Inside::File(error) => ErrorKind::File(error.kind()),
            Inside::Room(problem) => problem.kind(),
        }
    }

    /// What to do about it, if there is something useful to say.
    pub fn hint(&self) -> Option<Hint> {
        let own = match &self.0.inside {
            Inside::File(_) => None,
            Inside::Room(problem) => problem.hint(),
        };
        own.or_else(|| Hint::of(self.kind(), self.tensor_name(), self.detail_lines()))
    }

    /// The file this is about.
    pub fn path(&self) -> Option<&Path> {
        match &self.0.inside {
            Inside::File(error) => error.path(),
            Inside::Room(_) => self.0.path.as_deref(),
        }
    }

    /// The tensor or module this is about.
    pub fn tensor_name(&self) -> Option<&str> {
        match &self.0.inside {
            Inside::File(error) => error.tensor_name(),
            Inside::Room(_) => self.0.tensor.as_deref(),
        }
    }

    /// One line for each of the things that are wrong; often empty.
    pub fn detail_lines(&self) -> &[String] {
        &self.0.details
    }
}

impl From<Inside> for Error {
    fn from(inside: Inside) -> Self {
        Error(Box::new(Repr { inside, path: None, tensor: None, details: Vec::new() }))
    }
}

impl From<lorakit_tensor::Error> for Error {
    fn from(error: lorakit_tensor::Error) -> Self {
        Inside::File(error).into()
    }
}

/// A problem of a room as an error of the file beneath, for views, which are read like files.
#[derive(Debug)]
struct OfFile<P>(P);

impl<P: fmt::Display> fmt::Display for OfFile<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<P: Problem> lorakit_tensor::problem::Problem for OfFile<P> {
    fn kind(&self) -> lorakit_tensor::ErrorKind {
        match self.0.kind() {
            ErrorKind::File(kind) => kind,
            _ => lorakit_tensor::ErrorKind::Unsupported,
        }
    }
}

/// Turns `problem`, whose kind is a kind of file error, into an error of the file beneath a view.
pub(crate) fn of_file(problem: impl Problem) -> lorakit_tensor::Error {
    OfFile(problem).into()
}

impl<P: Problem> From<P> for Error {
    fn from(problem: P) -> Self {
        Inside::Room(Box::new(problem)).into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match &self.0.inside {
            Inside::File(error) => return fmt::Display::fmt(error, f),
            Inside::Room(problem) => problem,
        };
        if let Some(path) = &self.0.path {
            write!(f, "`{}`: ", path.display())?;
        }
        if let Some(tensor) = &self.0.tensor {
            write!(f, "`{}`: ", tensor.escape_debug())?;
        }
        fmt::Display::fmt(problem, f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.inside {
            Inside::File(error) => error.source(),
            Inside::Room(_) => None,
        }
    }
}

/// Serialises as an object of kind, message, path, tensor, details, causes and hints.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'e> {
            kind: &'static str,
            message: String,
            path: Option<String>,
            tensor: Option<&'e str>,
            details: &'e [String],
            causes: Vec<String>,
            hints: Vec<String>,
        }
        let causes = std::iter::successors(self.source(), |cause| (*cause).source());
        let fields = Fields {
            kind: self.kind().name(),
            message: self.to_string(),
            path: self.path().map(|path| path.display().to_string()),
            tensor: self.tensor_name(),
            details: self.detail_lines(),
            causes: causes.map(ToString::to_string).collect(),
            hints: self.hint().iter().map(ToString::to_string).collect(),
        };
        fields.serialize(serializer)
    }
}
