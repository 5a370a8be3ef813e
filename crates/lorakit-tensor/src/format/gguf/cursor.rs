//! Reads a header front to back through a window of the file.

use std::borrow::Cow;

use super::problem::Problem;
use super::rules::{MAX_ENTRIES, MAX_HEADER_BYTES};
use crate::{Result, Storage};

/// Bytes per read of a positioned file. A mapped file lends its windows at no cost.
const WINDOW_BYTES: u64 = 1 << 20;

pub(super) struct Cursor<'a> {
    storage: &'a Storage,
    window: Cow<'a, [u8]>,
    /// Offset of the window in the file.
    start: u64,
    /// Bytes of the window that have been consumed.
    taken: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(storage: &'a Storage) -> Self {
        Cursor { storage, window: Cow::Borrowed(&[]), start: 0, taken: 0 }
    }

    /// Offset in the file of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.start + self.taken as u64
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: u64) -> Result<&[u8]> {
        if len > (self.window.len() - self.taken) as u64 {
            self.slide(len)?;
        }
        let from = self.taken;
        self.taken += len as usize;
        Ok(&self.window[from..self.taken])
    }

    /// The next `N` bytes, for `from_le_bytes`.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64)?);
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of tensors or keys that take at least `min_bytes` each.
    pub(super) fn count(&mut self, what: &'static str, min_bytes: u64) -> Result<usize> {
        let count = self.u64()?;
        if count > MAX_ENTRIES {
            return Err(Problem::TooMany { count, what }.into());
        }
        self.items(count, min_bytes)
    }

    /// `count` as a size to allocate, once the file is known to hold that many items of at least `min_bytes`.
    pub(super) fn items(&self, count: u64, min_bytes: u64) -> Result<usize> {
        self.expect_bytes(count.saturating_mul(min_bytes))?;
        Ok(count as usize)
    }

    fn expect_bytes(&self, len: u64) -> Result<()> {
        let (position, file_len) = (self.position(), self.storage.len());
        let end = position.saturating_add(len);
        if end > MAX_HEADER_BYTES {
            return Err(Problem::LongHeader { len, position }.into());
        }
        if end > file_len {
            return Err(Problem::HeaderCutShort { len, position, file_len }.into());
        }
        Ok(())
    }

    /// Moves the window to the next byte and makes it at least `len` long.
    fn slide(&mut self, len: u64) -> Result<()> {
        self.expect_bytes(len)?;
        let position = self.position();
        let size = len.max(WINDOW_BYTES).min(self.storage.len() - position);
        self.window = self.storage.read(position, size as usize)?;
        (self.start, self.taken) = (position, 0);
        Ok(())
    }
}
