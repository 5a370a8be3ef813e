//! Checksums that a file gives for stretches of itself, checked when the first byte of a stretch is needed.

use std::sync::{Mutex, OnceLock, PoisonError};

#[cfg(doc)]
use crate::ErrorKind;
use crate::file_problem::Problem;
use crate::{Error, Result, Storage};

/// Bytes read at a time.
const PIECE: u64 = 1 << 20;

/// The CRC-32 that a stretch of a file must have; several tensors may lie in one stretch.
///
/// It is computed once, by the first thread to need a byte of the stretch: headers are opened without reading data, and
/// a tensor that is never read is never summed.
#[derive(Debug)]
pub(crate) struct Checksum {
    /// What the stretch is, for messages.
    pub(crate) name: String,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// The sum that the file gives.
    pub(crate) stated: u32,
    found: OnceLock<u32>,
    turn: Mutex<()>,
}

impl Checksum {
    pub(crate) fn new(name: String, offset: u64, len: u64, stated: u32) -> Self {
        Checksum { name, offset, len, stated, found: OnceLock::new(), turn: Mutex::new(()) }
    }

    /// Checks the bytes of `storage` against the sum.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] with both sums; any error of reading.
    pub(crate) fn check(&self, storage: &Storage) -> Result<()> {
        let found = self.found(storage)?;
        if found == self.stated {
            return Ok(());
        }
        let problem = Problem::Checksum { part: self.name.clone(), found, stated: self.stated };
        Err(Error::from(problem).at(storage.path()))
    }

    fn found(&self, storage: &Storage) -> Result<u32> {
        if let Some(&found) = self.found.get() {
            return Ok(found);
        }
        // One thread reads; the others would only read the same bytes.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&found) = self.found.get() {
            return Ok(found);
        }
        let mut hasher = crc32fast::Hasher::new();
        for start in (0..self.len).step_by(PIECE as usize) {
            let len = PIECE.min(self.len - start) as usize;
            hasher.update(&storage.read(self.offset + start, len)?);
        }
        Ok(*self.found.get_or_init(|| hasher.finalize()))
    }
}
