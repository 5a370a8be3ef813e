//! Output files that many threads fill.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::mapped::fault_within;
use crate::{Error, Extent, Result};

/// An output file that many threads fill at once, each at its own offset.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    file: File,
}

impl OutputFile {
    /// Creates `path` with `len` bytes.
    pub(super) fn create(path: &Path, len: u64) -> Result<Self> {
        Self::of(OpenOptions::new().write(true).create_new(true), path, len)
    }

    /// Opens the empty file `path` and gives it `len` bytes.
    pub(super) fn open(path: &Path, len: u64) -> Result<Self> {
        Self::of(OpenOptions::new().write(true), path, len)
    }

    fn of(options: &OpenOptions, path: &Path, len: u64) -> Result<Self> {
        let file = options.open(path).map_err(|e| Error::io("create", path, e))?;
        file.set_len(len).map_err(|e| Error::io("reserve space for", path, e))?;
        Ok(OutputFile { path: path.to_path_buf(), file })
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), [`ErrorKind::NoSpace`](crate::ErrorKind::NoSpace);
    /// [`ErrorKind::Changed`](crate::ErrorKind::Changed) if `bytes` are in a mapped file that became shorter: the
    /// kernel faults then, and no signal is sent.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|e| {
            let cut = (e.raw_os_error() == Some(Errno::FAULT.raw_os_error())).then(|| fault_within(bytes));
            cut.flatten().unwrap_or_else(|| Error::io("write", &self.path, e))
        })
    }

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub fn truncate(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|e| Error::io("cut", &self.path, e))
    }

    /// Copies `len` bytes from `from` without passing them through this process, where the kernel can.
    /// Returns whether it could; if not, nothing is promised about the range and the caller copies by hand.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), [`ErrorKind::NoSpace`](crate::ErrorKind::NoSpace); [`ErrorKind::Changed`](crate::ErrorKind::Changed) if the input became shorter.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    pub fn copy_at(&self, from: Extent<'_>, len: u64, offset: u64) -> Result<bool> {
        let (mut source, mut dest) = (from.offset, offset);
        let end = from.offset + len;
        while source < end {
            let want = (end - source).min(1 << 30) as usize;
            let input = from.file.file();
            match rustix::fs::copy_file_range(input, Some(&mut source), &self.file, Some(&mut dest), want) {
                Ok(0) => return Err(from.file.shorter()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                    return Ok(false);
                }
                Err(e) => return Err(Error::io("write", &self.path, e.into())),
            }
        }
        Ok(true)
    }

    /// The same where the system has no such call.
    ///
    /// # Errors
    /// None.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    pub fn copy_at(&self, _: Extent<'_>, _: u64, _: u64) -> Result<bool> {
        Ok(false)
    }
}
