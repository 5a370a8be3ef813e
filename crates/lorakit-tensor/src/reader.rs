//! The door through which files are opened, and the memory of what came through it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

#[cfg(doc)]
use crate::ErrorKind;
use crate::file_problem::Problem;
use crate::{Error, ReadMode, Result, Storage, json};

/// Largest file that is read whole, or copied next to the tensors of an output, in bytes.
pub const MAX_SIDE_BYTES: u64 = 1 << 30;

/// Opens the inputs of one operation, and remembers each: its path, and what the file was when it was opened.
///
/// A writer of an output asks it two questions. Is the output one of the inputs ([`Self::check_output`])? Are the
/// inputs still what was read ([`Self::check_unchanged`])? Because nothing is opened any other way, no operation can
/// forget an input. Clones share their memory.
///
/// ```
/// use lorakit_tensor::{ErrorKind, Reader};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("config.json");
/// std::fs::write(&path, "{}")?;
///
/// let reader = Reader::default();
/// reader.json_object(&path)?;
/// let error = reader.check_output(folder.path()).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::SameFile);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Reader {
    mode: ReadMode,
    seen: Arc<Mutex<BTreeMap<PathBuf, Option<Stamp>>>>,
}

/// The properties by which a file is recognised as the one that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(meta: &Metadata) -> Self {
        Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            len: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

impl Reader {
    /// A reader that has opened nothing yet.
    pub fn new(mode: ReadMode) -> Self {
        Reader { mode, ..Reader::default() }
    }

    /// How tensor files are read.
    pub fn mode(&self) -> ReadMode {
        self.mode
    }

    /// Remembers a path that the user named: a folder whose files are read, or a file that other code opens.
    pub fn name(&self, path: &Path) {
        self.seen().entry(path.to_path_buf()).or_insert(None);
    }

    /// Opens a tensor file.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Io`], [`ErrorKind::Mapping`]; [`ErrorKind::Empty`] for a file of no bytes;
    /// [`ErrorKind::Unsupported`] for anything but a regular file; [`ErrorKind::Changed`] if it was read before and is
    /// a different file now.
    pub fn open(&self, path: &Path) -> Result<Storage> {
        let storage = Storage::open(path, self.mode)?;
        let meta = storage.file().metadata().map_err(|e| Error::io("look at", path, e))?;
        self.remember(path, &meta)?;
        Ok(storage)
    }

    /// Whether there is a file at `path`. One that cannot be read is an error rather than absent, so no file is left
    /// out silently. A folder is not a file.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a link to nothing; [`ErrorKind::Unsupported`] for a pipe, a socket or a device;
    /// [`ErrorKind::Io`] if the system cannot tell.
    pub fn has(&self, path: &Path) -> Result<bool> {
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => Ok(false),
            Ok(meta) => regular(path, &meta).map(|()| true),
            Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => Ok(false),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {
                Ok(false)
            }
            Err(e) => Err(Error::io("look at", path, e)),
        }
    }

    /// Remembers a file that is copied to the output, and returns its size in bytes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Unsupported`] for anything but a regular file; [`ErrorKind::Limit`] beyond
    /// [`MAX_SIDE_BYTES`]; [`ErrorKind::Changed`] if it was read before and has changed since.
    pub fn side_file(&self, path: &Path) -> Result<u64> {
        let meta = fs::metadata(path).map_err(|e| Error::io("read", path, e))?;
        regular(path, &meta)?;
        if meta.len() > MAX_SIDE_BYTES {
            return Err(too_large(path, meta.len(), MAX_SIDE_BYTES));
        }
        self.remember(path, &meta)?;
        Ok(meta.len())
    }

    /// The content of a file of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Self::side_file`], with this limit.
    pub fn bytes(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        let len = self.side_file(path)?;
        if len > limit {
            return Err(too_large(path, len, limit));
        }
        let file = fs::File::open(path).map_err(|e| Error::io("read", path, e))?;
        let mut bytes = Vec::with_capacity(len as usize);
        // Files such as those in `/proc` claim to have no bytes, and may be endless.
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
        if bytes.len() as u64 > limit { Err(too_large(path, limit + 1, limit)) } else { Ok(bytes) }
    }

    /// The first bytes of a file, at most `len`.
    ///
    /// # Errors
    /// As [`Self::side_file`].
    pub fn head(&self, path: &Path, len: u64) -> Result<Vec<u8>> {
        self.side_file(path)?;
        let mut bytes = Vec::new();
        let read = fs::File::open(path).and_then(|file| file.take(len).read_to_end(&mut bytes));
        read.map_err(|e| Error::io("read", path, e))?;
        Ok(bytes)
    }

    /// The object that a strict JSON file holds.
    ///
    /// # Errors
    /// As [`Self::bytes`] with [`json::MAX_JSON_BYTES`]; [`ErrorKind::Empty`]; [`ErrorKind::Corrupt`] for anything but
    /// a JSON object.
    #[doc(hidden)]
    pub fn json_object(&self, path: &Path) -> Result<Value> {
        self.json_object_within(path, json::MAX_JSON_BYTES)
    }

    /// As [`Self::json_object`], of at most `limit` bytes.
    pub(crate) fn json_object_within(&self, path: &Path, limit: u64) -> Result<Value> {
        let text = self.bytes(path, limit)?;
        if text.is_empty() {
            return Err(Error::from(Problem::Empty).at(path));
        }
        if let Some(stranger) = crate::sniff::stranger(&text) {
            return Err(stranger.at(path));
        }
        json::parse_object(&text).map_err(|e| e.at(path))
    }

    /// Refuses an output that is one of the inputs, or a folder that holds one; links and other names of the same
    /// file count as that file.
    ///
    /// # Errors
    /// [`ErrorKind::SameFile`].
    pub fn check_output(&self, target: &Path) -> Result<()> {
        let Ok(meta) = fs::metadata(target) else { return Ok(()) };
        let identity = (meta.dev(), meta.ino());
        for input in self.seen().keys() {
            // The file itself, and the link that named it: replacing the output would delete either.
            let places = [fs::canonicalize(input).ok(), link_place(input)];
            for place in places.into_iter().flatten() {
                let problem = if is(&place, identity) {
                    Problem::OutputIsInput { input: input.clone() }
                } else if place.ancestors().any(|outer| is(outer, identity)) {
                    Problem::OutputHoldsInput { input: input.clone() }
                } else {
                    continue;
                };
                return Err(Error::from(problem).at(target));
            }
        }
        Ok(())
    }

    /// Refuses inputs that are no longer what was read: their size, modification time or identity differs. A file that
    /// was removed meanwhile is not a problem, since an open file can be read to its end.
    ///
    /// # Errors
    /// [`ErrorKind::Changed`].
    pub fn check_unchanged(&self) -> Result<()> {
        for (path, stamp) in self.seen().iter() {
            if let (Some(stamp), Ok(meta)) = (stamp, fs::metadata(path)) {
                compare(path, stamp, &meta)?;
            }
        }
        Ok(())
    }

    fn remember(&self, path: &Path, meta: &Metadata) -> Result<()> {
        let mut seen = self.seen();
        let known = seen.entry(path.to_path_buf()).or_insert(None);
        match known {
            Some(stamp) => compare(path, stamp, meta),
            None => {
                *known = Some(Stamp::of(meta));
                Ok(())
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Option<Stamp>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses a file that is no longer what it was.
pub(crate) fn compare(path: &Path, before: &Stamp, now: &Metadata) -> Result<()> {
    let after = Stamp::of(now);
    if *before == after {
        return Ok(());
    }
    let problem = match (before.inode == after.inode && before.device == after.device, after.len < before.len)
    {
        (false, _) => Problem::Replaced,
        (true, true) => Problem::Shorter { now: after.len, before: before.len },
        (true, false) => Problem::Written,
    };
    Err(Error::from(problem).at(path))
}

/// Where a path itself is, not what it may link to.
fn link_place(path: &Path) -> Option<PathBuf> {
    let name: OsString = path.file_name()?.into();
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(fs::canonicalize(parent).ok()?.join(name))
}

fn is(path: &Path, identity: (u64, u64)) -> bool {
    fs::metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == identity)
}

/// Refuses anything but a regular file, by its metadata: opening a pipe would wait for a writer.
pub(crate) fn regular(path: &Path, meta: &Metadata) -> Result<()> {
    let kind = meta.file_type();
    let found = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(Error::from(Problem::Irregular { found }).at(path))
}

fn too_large(path: &Path, len: u64, limit: u64) -> Error {
    Error::from(Problem::TooLarge { len, limit }).at(path)
}
