//! Mapped files, and which of them an address belongs to.
//!
//! If another process cuts a mapped file short, or a disk fails, the next access to a page is not a failed call but a
//! signal (SIGBUS) with an address. The registry here turns the address into an error that names the file. Signal
//! handlers ask for it; this crate installs none.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::Mmap;

use crate::Error;
#[cfg(doc)]
use crate::ErrorKind;
use crate::file_problem::Problem;
use crate::reader::{self, Stamp};

/// The current maps, by first address.
static FILES: Mutex<BTreeMap<usize, Known>> = Mutex::new(BTreeMap::new());

#[derive(Debug)]
struct Known {
    path: PathBuf,
    len: usize,
    stamp: Stamp,
}

/// A map that [`fault_at`] knows.
#[derive(Debug)]
pub(crate) struct Mapped(Mmap);

impl Mapped {
    /// Registers `map`, which covers the whole file at `path`; `meta` is the file's metadata.
    pub(crate) fn new(map: Mmap, path: &Path, meta: &Metadata) -> Self {
        let known = Known { path: path.to_path_buf(), len: map.len(), stamp: Stamp::of(meta) };
        files().insert(map.as_ptr().addr(), known);
        Mapped(map)
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // Before unmapping: the addresses may be reused immediately.
        files().remove(&self.0.as_ptr().addr());
    }
}

/// The error of a read that faulted at `address`: [`ErrorKind::Changed`] if the file that is mapped there is no longer
/// what it was, else [`ErrorKind::Mapping`]. None if no input is mapped there.
#[doc(hidden)]
pub fn fault_at(address: usize) -> Option<Error> {
    let files = files();
    let (start, known) = files.range(..=address).next_back()?;
    let offset = address - start;
    if offset >= known.len {
        return None;
    }
    match fs::metadata(&known.path).map(|now| reader::compare(&known.path, &known.stamp, &now)) {
        Ok(Err(changed)) => Some(changed),
        // A removed file can still be read to its end while it is open.
        Ok(Ok(())) | Err(_) => Some(Error::from(Problem::MapFault { offset }).at(&known.path)),
    }
}

/// The same for a system call that could not read all of `bytes`.
pub(crate) fn fault_within(bytes: &[u8]) -> Option<Error> {
    fault_at(bytes.as_ptr().addr())
}

fn files() -> MutexGuard<'static, BTreeMap<usize, Known>> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::path::Path;

    use super::fault_at;
    use crate::publish::{Existing, Staged};
    use crate::{ErrorKind, Extent, ReadMode, Storage};

    fn cut(path: &Path, len: u64) {
        OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
    }

    /// No signal is sent here, because the kernel does the reading.
    #[test]
    fn system_calls_name_the_input_that_became_shorter() {
        let folder = tempfile::tempdir().unwrap();
        let (path, out) = (folder.path().join("input"), folder.path().join("output"));
        fs::write(&path, [7; 100_000]).unwrap();
        let staged = Staged::file(&out, Existing::Kept).unwrap();
        let output = staged.create("", 100_000).unwrap();
        let [mapped, positioned] =
            [ReadMode::Mapped, ReadMode::Positioned].map(|mode| Storage::open(&path, mode).unwrap());
        cut(&path, 5000);
        let bytes = mapped.read(50_000, 10_000).unwrap();
        let extent = Extent { file: &mapped, offset: 0 };
        for error in [
            output.write_at(&bytes, 0).unwrap_err(),
            output.copy_at(extent, 100_000, 0).unwrap_err(),
            positioned.read(0, 100_000).unwrap_err(),
        ] {
            assert_eq!((error.kind(), error.path()), (ErrorKind::Changed, Some(path.as_path())), "{error}");
            let message = "became shorter while it was read: 5000 bytes of 100000";
            assert!(error.to_string().ends_with(message), "{error}");
        }
    }

    #[test]
    fn an_address_is_that_of_a_file_for_as_long_as_it_is_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mapped");
        fs::write(&path, [7; 10_000]).unwrap();
        let storage = Storage::open(&path, ReadMode::Mapped).unwrap();
        let start = storage.read(0, 1).unwrap().as_ptr().addr();
        for offset in [0, 5000, 9999] {
            let error = fault_at(start + offset).unwrap();
            assert_eq!((error.kind(), error.path()), (ErrorKind::Mapping, Some(path.as_path())));
            let message = format!("cannot be read at byte {offset}, where it is mapped");
            assert!(error.to_string().ends_with(&message), "{error}");
        }
        assert!(fault_at(start + 10_000).is_none() && fault_at(start - 1).is_none());

        cut(&path, 100);
        let error = fault_at(start + 5000).unwrap();
        assert_eq!(error.kind(), ErrorKind::Changed);
        assert!(
            error.to_string().ends_with("became shorter while it was read: 100 bytes of 10000"),
            "{error}"
        );
        fs::remove_file(&path).unwrap();
        assert_eq!(fault_at(start + 5000).unwrap().kind(), ErrorKind::Mapping);

        drop(storage);
        assert!(fault_at(start).is_none());
    }
}
