//! The file formats, one module each.

use std::sync::Arc;

use crate::TensorInfo;
use crate::checksum::Checksum;

/// What a header says: tensors in data order and where their bytes are.
#[derive(Debug)]
pub struct Stored {
    /// Name, type, shape.
    pub info: TensorInfo,
    /// Absolute offset of the first byte in the file.
    pub offset: u64,
    /// The file holds the transpose (column-major) of a matrix with this shape. Only Torch files do that.
    pub transposed: bool,
    /// The sum that the bytes around it must have. Only Torch files have one.
    pub(crate) checksum: Option<Arc<Checksum>>,
}

pub mod gguf;
pub(crate) mod problem;
pub mod safetensors;
pub mod torch;
