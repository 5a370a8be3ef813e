//! Stored tensors, looked up by name and checked for dtype and size.

use std::ops::Range;

use lorakit_quant::codec;
use lorakit_tensor::{Checkpoint, DType, TensorInfo, TensorSource};

use super::Problem;
use crate::error::of_file;
use crate::model::ModelConfig;
use crate::{Error, Result};

/// A checkpoint and its configuration.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) config: Option<&'a ModelConfig>,
}

impl<'a> Stored<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, config: Option<&'a ModelConfig>) -> Self {
        Stored { checkpoint, config }
    }

    pub(super) fn tensors(&self) -> &'a [TensorInfo] {
        self.checkpoint.tensors()
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.checkpoint.find(name)
    }

    /// The tensor `name`, which must be present because tensor `because` is.
    pub(super) fn need(&self, name: &str, because: usize) -> Result<usize> {
        let missing = || self.place(because, Problem::MissingPart { name: name.to_string() });
        self.find(name).ok_or_else(missing)
    }

    /// As [`Self::need`]; the tensor must also have that dtype and number of values.
    pub(super) fn need_values(&self, name: &str, because: usize, dtype: DType, needed: u64) -> Result<usize> {
        let index = self.need(name, because)?;
        let info = &self.tensors()[index];
        let count = info.elements();
        if (info.dtype, count) != (dtype, needed) {
            let problem = Problem::Values { dtype: info.dtype, count, needed, as_dtype: dtype };
            return Err(self.place(index, problem));
        }
        Ok(index)
    }

    /// All bytes of a tensor.
    pub(super) fn bytes(&self, index: usize) -> Result<Vec<u8>> {
        Ok(self.checkpoint.read(index, 0..self.tensors()[index].byte_len())?.into_owned())
    }

    /// Adds the tensor and its file to an error.
    pub(super) fn place(&self, index: usize, error: impl Into<Error>) -> Error {
        error.into().tensor(&self.tensors()[index].name).at(self.checkpoint.path_of(index))
    }
}

/// Values `range` of a stored tensor, as `dtype` decodes them.
pub(super) fn values(
    stored: &Checkpoint,
    index: usize,
    dtype: DType,
    range: Range<u64>,
) -> lorakit_tensor::Result<Vec<f32>> {
    let mut values = vec![0.0; (range.end - range.start) as usize];
    decode(stored, index, dtype, range.start, &mut values)?;
    Ok(values)
}

/// Decodes values of a stored tensor from `first` on, reading its bytes as `dtype`.
pub(super) fn decode(
    stored: &Checkpoint,
    index: usize,
    dtype: DType,
    first: u64,
    values: &mut [f32],
) -> lorakit_tensor::Result<()> {
    let codec = codec(dtype).ok_or_else(|| of_file(Problem::NoDecoder { dtype }))?;
    let size = dtype.block().bytes as u64;
    codec.decode(&stored.read(index, first * size..(first + values.len() as u64) * size)?, values);
    Ok(())
}
