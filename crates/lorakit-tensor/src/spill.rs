//! Bytes that are computed before they have a place in an output.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// A file without a name: it is gone as soon as nothing holds it, however the process ends.
#[derive(Debug)]
pub struct Spill {
    folder: PathBuf,
    file: File,
    len: AtomicU64,
}

impl Spill {
    /// Creates one on the file system of `folder`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if the folder is not there, or is not writable.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let file = nameless(folder).or_else(|_| unlinked(folder));
        let file = file.map_err(|e| Error::io("create a temporary file in", folder, e))?;
        Ok(Spill { folder: folder.to_path_buf(), file, len: AtomicU64::new(0) })
    }

    /// Appends `bytes` and returns their offset. Many threads may write at once.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`](crate::ErrorKind::NoSpace), [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub fn push(&self, bytes: &[u8]) -> Result<u64> {
        let offset = self.len.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let failed = |e| Error::io("write a temporary file in", &self.folder, e);
        self.file.write_all_at(bytes, offset).map_err(failed)?;
        Ok(offset)
    }

    /// `len` bytes from `offset`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), also for bytes that were not written.
    pub fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let failed = |e| Error::io("read a temporary file in", &self.folder, e);
        self.file.read_exact_at(&mut bytes, offset).map_err(failed)?;
        Ok(bytes)
    }
}

/// A file that never has a name, where the kernel and the file system support that.
#[cfg(target_os = "linux")]
fn nameless(folder: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(open(folder, flags, Mode::RUSR | Mode::WUSR)?.into())
}

#[cfg(not(target_os = "linux"))]
fn nameless(_: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A file whose name is removed as soon as it has one.
fn unlinked(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!(".lorakit.{:016x}.partial", RandomState::new().hash_one(0)));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        for make in [nameless, unlinked] {
            let Ok(file) = make(folder.path()) else { continue };
            let spill = Spill { folder: folder.path().to_path_buf(), file, len: AtomicU64::new(0) };
            let offsets: Vec<u64> =
                [b"first".as_slice(), b"", b"second"].map(|b| spill.push(b).unwrap()).into();
            assert_eq!(offsets, [0, 5, 5]);
            assert_eq!(spill.read(5, 6).unwrap(), b"second");
            assert!(spill.read(10, 5).is_err());
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Spill::in_folder(&folder.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }
}
