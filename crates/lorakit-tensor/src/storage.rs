//! One open input file: mapped, or read by position. The only `unsafe` of this crate is here.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};

#[cfg(doc)]
use crate::ErrorKind;
use crate::file_problem::Problem;
use crate::mapped::Mapped;
use crate::reader;
use crate::{Error, Result};

/// How input files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadMode {
    /// Memory-mapped: pages come and go with demand and count as file cache.
    #[default]
    Mapped,
    /// `pread` into buffers, for network file systems and disks where mapping is slow or refused.
    Positioned,
}

/// An input file, never opened for writing.
#[derive(Debug)]
pub struct Storage {
    path: PathBuf,
    file: File,
    len: u64,
    map: Option<Mapped>,
}

impl Storage {
    /// Opens `path` for reading; callers go through [`crate::Reader::open`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Io`]; [`ErrorKind::Empty`] for a file of no bytes;
    /// [`ErrorKind::Unsupported`] for anything but a regular file; [`ErrorKind::Mapping`] if it cannot be mapped.
    pub(crate) fn open(path: &Path, mode: ReadMode) -> Result<Self> {
        // Checked before opening, because opening a pipe waits for a writer.
        let meta = std::fs::metadata(path).map_err(|e| Error::io("open", path, e))?;
        reader::regular(path, &meta)?;
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let meta = file.metadata().map_err(|e| Error::io("look at", path, e))?;
        if meta.len() == 0 {
            return Err(Error::from(Problem::Empty).at(path));
        }
        let map = match mode {
            ReadMode::Positioned => None,
            ReadMode::Mapped => {
                let map = map(&file, meta.len())
                    .map_err(|e| Error::from(Problem::Unmappable).at(path).caused_by(e))?;
                Some(Mapped::new(map, path, &meta))
            }
        };
        Ok(Storage { path: path.to_path_buf(), file, len: meta.len(), map })
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, for kernel-side copies.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Bytes in the file when it was opened.
    #[allow(clippy::len_without_is_empty, reason = "an empty file is refused by `open`")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// `len` bytes from `offset`, borrowed from the map where there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if the file was too short when it was opened, [`ErrorKind::Changed`] if it has become
    /// so since (a mapped one raises SIGBUS); [`ErrorKind::Io`] if it cannot be read.
    pub fn read(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>> {
        let end = offset.checked_add(len as u64).filter(|&end| end <= self.len).ok_or_else(|| {
            Error::from(Problem::BeyondEnd { len: self.len, needed: len, offset }).at(&self.path)
        })?;
        if let Some(map) = &self.map {
            return Ok(Cow::Borrowed(&map[offset as usize..end as usize]));
        }
        let mut buffer = vec![0; len];
        self.file.read_exact_at(&mut buffer, offset).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.shorter(),
            _ => Error::io("read", &self.path, e),
        })?;
        Ok(Cow::Owned(buffer))
    }

    /// The error for a file that is shorter than when it was opened.
    pub(crate) fn shorter(&self) -> Error {
        let now = self.file.metadata().map_or(0, |meta| meta.len());
        Error::from(Problem::Shorter { now, before: self.len }).at(&self.path)
    }
}

#[expect(unsafe_code, reason = "mapping a file is the one thing std cannot express safely")]
fn map(file: &File, len: u64) -> io::Result<Mmap> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    // SAFETY: the map is private to this process and read-only. Another process that truncates the file
    // meanwhile makes a read fault (SIGBUS) - the documented price of mapping, and why `Positioned` exists.
    // `mapped` knows which file it was.
    unsafe { MmapOptions::new().len(len).map(file) }
}
