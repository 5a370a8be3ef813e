//! The crate's one error type.

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::file_problem::Problem as FileProblem;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, coarse enough to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused a read or a write.
    Io,
    /// A file cannot be mapped, or cannot be read where it is mapped.
    Mapping,
    /// The operating system allows no more open files.
    TooManyFiles,
    /// The file system is full.
    NoSpace,
    /// A path, a shard or a tensor does not exist.
    NotFound,
    /// A folder holds several checkpoints, and nothing tells which is meant.
    Several,
    /// A part of a split model does not have the name of that part.
    PartName,
    /// The content lacks a tensor or an entry that it needs.
    Incomplete,
    /// The output is there already; it could be replaced.
    Exists,
    /// What is at the output is never replaced: a folder with other files in it, or neither a file nor a folder.
    Occupied,
    /// Something appeared where the output should go, while it was being written.
    Appeared,
    /// An input is no longer what it was when it was opened.
    Changed,
    /// Output and input are the same file.
    SameFile,
    /// The file has no bytes.
    Empty,
    /// A git-lfs pointer is where the data should be.
    LfsPointer,
    /// A web page was saved under the name of a tensor file.
    Html,
    /// The content is not in a known tensor format.
    UnknownFormat,
    /// The file ends before its content does.
    Truncated,
    /// The content contradicts itself or its specification.
    Corrupt,
    /// A size is beyond the limits of this reader.
    Limit,
    /// Valid, but outside what this crate reads or writes.
    Unsupported,
    /// A pickle names something that is not on the allow-list.
    UnsafePickle,
    /// A path inside an index leaves its folder.
    UnsafePath,
    /// The index names a shard that is not there.
    MissingShard,
}

impl ErrorKind {
    /// Its stable name: the `kind` of JSON output.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Io => "Io",
            ErrorKind::Mapping => "Mapping",
            ErrorKind::TooManyFiles => "TooManyFiles",
            ErrorKind::NoSpace => "NoSpace",
            ErrorKind::NotFound => "NotFound",
            ErrorKind::Several => "Several",
            ErrorKind::PartName => "PartName",
            ErrorKind::Incomplete => "Incomplete",
            ErrorKind::Exists => "Exists",
            ErrorKind::Occupied => "Occupied",
            ErrorKind::Appeared => "Appeared",
            ErrorKind::Changed => "Changed",
            ErrorKind::SameFile => "SameFile",
            ErrorKind::Empty => "Empty",
            ErrorKind::LfsPointer => "LfsPointer",
            ErrorKind::Html => "Html",
            ErrorKind::UnknownFormat => "UnknownFormat",
            ErrorKind::Truncated => "Truncated",
            ErrorKind::Corrupt => "Corrupt",
            ErrorKind::Limit => "Limit",
            ErrorKind::Unsupported => "Unsupported",
            ErrorKind::UnsafePickle => "UnsafePickle",
            ErrorKind::UnsafePath => "UnsafePath",
            ErrorKind::MissingShard => "MissingShard",
        }
    }
}

/// A variant of a room's enum of what can go wrong there: see [`problems`](crate::problems). Shared by the crates of
/// this workspace, whose file readers return errors of this crate; not part of the public interface.
pub trait Problem: fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// What to branch on.
    fn kind(&self) -> ErrorKind;

    /// Always `None`: what to do about a file follows from the kind.
    fn hint(&self) -> Option<Hint> {
        None
    }
}

/// No hint.
#[derive(Debug)]
pub enum Hint {}

impl<P: Problem> From<P> for Error {
    fn from(problem: P) -> Self {
        Error(Box::new(Repr { problem: Box::new(problem), path: None, tensor: None, source: None }))
    }
}

/// An error with the file and the tensor it is about.
#[derive(Debug)]
pub struct Error(Box<Repr>);

#[derive(Debug)]
struct Repr {
    problem: Box<dyn Problem>,
    path: Option<PathBuf>,
    tensor: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An operating-system error at `path`; `doing` is a verb phrase such as "read the header of".
    pub fn io(doing: &str, path: &Path, source: std::io::Error) -> Self {
        let doing = doing.to_string();
        let problem = match source.kind() {
            std::io::ErrorKind::NotFound => {
                let absent = std::fs::read_link(path)
                    .map_or(FileProblem::Absent, |to| FileProblem::LinkToNothing { to });
                return Error::from(absent).at(path);
            }
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                FileProblem::DiskFull { doing }
            }
            std::io::ErrorKind::UnexpectedEof => FileProblem::EndOfFile { doing },
            _ if source.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
                FileProblem::OpenFiles { doing, limit: getrlimit(Resource::Nofile).current }
            }
            _ => FileProblem::Refused { doing },
        };
        Error::from(problem).at(path).caused_by(source)
    }

    /// Names the file, unless an inner layer did so already.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        self.0.path.get_or_insert_with(|| path.to_path_buf());
        self
    }

    /// Names the tensor, unless an inner layer did so already.
    #[must_use]
    pub fn tensor(mut self, name: &str) -> Self {
        self.0.tensor.get_or_insert_with(|| name.to_string());
        self
    }

    /// Keeps the underlying error for the "Caused by" chain.
    #[must_use]
    pub fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// What to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.problem.kind()
    }

    /// The file this is about.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The tensor this is about.
    pub fn tensor_name(&self) -> Option<&str> {
        self.0.tensor.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.0.path {
            write!(f, "`{}`: ", path.display())?;
        }
        if let Some(tensor) = &self.0.tensor {
            write!(f, "tensor `{}`: ", tensor.escape_debug())?;
        }
        fmt::Display::fmt(&self.0.problem, f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::gguf;
    use crate::format::problem::{self, TensorProblem};
    use crate::format::torch::problem::{self as torch, Damage, PickleProblem};
    use crate::publish;

    /// Every variant of every room.
    fn samples() -> Vec<Error> {
        fn of<P: Problem>(samples: Vec<P>) -> Vec<Error> {
            samples.into_iter().map(Error::from).collect()
        }
        [
            of(FileProblem::samples()),
            of(TensorProblem::samples()),
            of(problem::Problem::samples()),
            of(gguf::problem::Problem::samples()),
            of(torch::Problem::samples()),
            of(PickleProblem::samples()),
            of(Damage::samples()),
            of(publish::problem::Problem::samples()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    #[test]
    fn messages_are_fragments_that_name_no_flag() {
        for error in samples() {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains("--") && !text.ends_with('.'), "{error:?}: {text:?}");
        }
    }

    #[test]
    fn kinds_are_named_as_they_are_spelled() {
        // Content that lacks something is found by the crates above.
        for kind in samples().iter().map(Error::kind).chain([ErrorKind::Incomplete]) {
            assert_eq!(kind.name(), format!("{kind:?}"));
        }
    }
}
