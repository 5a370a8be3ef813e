//! The door through which tensor bytes are read.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use crate::{Result, Storage, TensorInfo};

/// Where the bytes of a tensor are in a file, for kernel-side copies.
#[derive(Debug, Clone, Copy)]
pub struct Extent<'a> {
    /// The open file.
    pub file: &'a Storage,
    /// Offset of the tensor's first byte.
    pub offset: u64,
}

/// Where a value of a tensor is stored, for messages.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The file.
    pub path: &'a Path,
    /// The stored tensor.
    pub info: &'a TensorInfo,
    /// Index of the value, in row-major order.
    pub element: u64,
}

/// Tensors that can be listed without touching their bytes, and then read: a file, a set of shards, or a view.
pub trait TensorSource: Send + Sync {
    /// Every tensor, in file order.
    fn tensors(&self) -> &[TensorInfo];

    /// Position of the tensor called `name`.
    fn find(&self, name: &str) -> Option<usize>;

    /// The given bytes of tensor `index`, counted from its first byte.
    ///
    /// # Errors
    /// If the file cannot be read, or is shorter than its header said.
    ///
    /// # Panics
    /// If `index` or `bytes` are out of range.
    fn read(&self, index: usize, bytes: Range<u64>) -> Result<Cow<'_, [u8]>>;

    /// Where the bytes are as one contiguous run, if they are.
    fn extent(&self, index: usize) -> Option<Extent<'_>>;

    /// The file that holds tensor `index`, for messages.
    fn path_of(&self, index: usize) -> &Path;
    /// Whether reading tensor `index` computes values (decodes, multiplies, rounds) instead of handing out stored
    /// bytes.
    fn is_computed(&self, index: usize) -> bool {
        let _ = index;
        false
    }

    /// Where value `element` of tensor `index` is stored; for a computed tensor, the tensor itself.
    fn origin(&self, index: usize, element: u64) -> Origin<'_> {
        Origin { path: self.path_of(index), info: &self.tensors()[index], element }
    }
}
