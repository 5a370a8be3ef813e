//! Files of a model, wherever they are.

use std::ops::Range;

use super::names::Ignored;
use super::problem::Problem;
use crate::{Digest, Result};

/// Files of a model: what is signed, and what is compared with what was signed.
///
/// A [`Folder`](super::Folder) reads them when asked; a list of [`FileDigest`] knows their digests already.
pub trait Files {
    /// Name and size in bytes of every file that is not in `ignored`. A name is the path from the root of the model,
    /// with `/` between its parts.
    ///
    /// # Errors
    /// If something is there that cannot be signed, such as a symbolic link.
    fn list(&self, ignored: &Ignored) -> Result<Vec<(String, u64)>>;

    /// The SHA-256 of a range of bytes of the file called `name`, which is one of [`Self::list`].
    ///
    /// # Errors
    /// If the file cannot be read, or has no such range.
    fn sha256(&self, name: &str, range: Range<u64>) -> Result<Digest>;

    /// The name of the signature itself if it lies among the files, of which it is none.
    fn signature(&self) -> Option<&str> {
        None
    }
}

/// A file whose digest is known, such as a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigest {
    /// Its path from the root of the model, with `/` between the parts.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// The SHA-256 of its content.
    pub digest: Digest,
}

impl Files for Vec<FileDigest> {
    fn list(&self, ignored: &Ignored) -> Result<Vec<(String, u64)>> {
        let part = self.iter().filter(|file| !ignored.covers(&file.name));
        Ok(part.map(|file| (file.name.clone(), file.size)).collect())
    }

    /// # Errors
    /// `ErrorKind::Unsupported` for a part of a file.
    fn sha256(&self, name: &str, range: Range<u64>) -> Result<Digest> {
        let file = self.iter().find(|file| file.name == name && range == (0..file.size));
        let unknown = || Problem::OnlyWhole { name: name.into(), start: range.start, end: range.end };
        Ok(file.ok_or_else(unknown)?.digest)
    }
}
