//! Tensors that are copied unchanged: which of them are checked, and how.
//!
//! Computed tensors are checked where they are computed. Stored bytes that are only moved are not read at all if the
//! kernel can copy them, so they are checked only on request; values that a view computes are always checked.

use lorakit_quant::{Codec, codec};
use lorakit_tensor::{DType, publish};

use super::{OutputTensor, Plan, Problem, Recipe};
use crate::{Error, Result, TensorRef};

/// Bytes copied at a time where the kernel does not do it.
const PIECE: u64 = 4 << 20;
/// Bytes read and checked at a time.
const CHECKED: u64 = 1 << 20;

/// Tensors of an output that were copied without a look at their values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unchecked {
    /// Their number.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Plan {
    /// With `check`, makes the run read the values of copied tensors too, and refuse NaN and infinity in them.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a copied tensor whose dtype has a NaN and no
    /// decoder.
    pub fn checking_copies(self, check: bool) -> Result<Self> {
        let plan = Plan { check_copies: check, ..self };
        let blind = plan.tensors().find(|tensor| check && plan.is_unchecked(tensor));
        match blind {
            None => Ok(plan),
            Some(tensor) => {
                let problem = Problem::Unchecked { dtype: tensor.info.dtype };
                let error = Error::from(problem).tensor(&tensor.info.name);
                Err(match &tensor.recipe {
                    Recipe::Copy(source) => error.at(source.path()),
                    _ => error,
                })
            }
        }
    }

    /// What a run copies without looking at its values.
    pub fn unchecked(&self) -> Unchecked {
        let mut unchecked = Unchecked::default();
        for tensor in self.tensors().filter(|tensor| self.is_unchecked(tensor)) {
            unchecked.tensors += 1;
            unchecked.bytes += tensor.info.byte_len();
        }
        unchecked
    }

    fn is_unchecked(&self, tensor: &OutputTensor) -> bool {
        let Recipe::Copy(source) = &tensor.recipe else { return false };
        let known = source.is_known_finite() || !may_be_no_number(source.info().dtype);
        !known && self.checker(source).is_none() && tensor.info.byte_len() > 0
    }

    /// The codec that checks the values of a copied tensor; `None` for one that is copied unseen.
    pub(super) fn checker(&self, source: &TensorRef) -> Option<&'static dyn Codec> {
        let wanted = source.is_computed() || self.check_copies && !source.is_known_finite();
        // A complex number is two floats.
        let dtype = if source.info().dtype == DType::C64 { DType::F32 } else { source.info().dtype };
        codec(dtype).filter(|_| wanted)
    }
}

/// Whether a dtype can express NaN or infinity, in its values or its scales.
fn may_be_no_number(dtype: DType) -> bool {
    use DType::*;
    !matches!(dtype, I64 | U64 | I32 | U32 | I16 | U16 | I8 | U8 | BOOL | F6_E2M3 | F6_E3M2 | F4 | NVFP4)
}

/// Whole blocks of `dtype` in at most `bytes` bytes, but at least one.
pub(super) fn whole_blocks(dtype: DType, bytes: u64) -> u64 {
    let block = dtype.block().bytes as u64;
    (bytes / block).max(1) * block
}

/// Copies bytes `start..end`, in the kernel where possible.
pub(super) fn copy(
    source: &TensorRef,
    start: u64,
    end: u64,
    output: &publish::OutputFile,
    offset: u64,
) -> Result<()> {
    if let Some(mut extent) = source.extent() {
        extent.offset += start;
        if output.copy_at(extent, end - start, offset)? {
            return Ok(());
        }
    }
    for from in (start..end).step_by(PIECE as usize) {
        let bytes = source.read(from..(from + PIECE).min(end))?;
        output.write_at(&bytes, offset + (from - start))?;
    }
    Ok(())
}

/// Copies bytes `start..end`, whole blocks, after checking their values: the bytes written are the bytes checked.
pub(super) fn copy_checked(
    source: &TensorRef,
    checker: &dyn Codec,
    (start, end): (u64, u64),
    output: &publish::OutputFile,
    offset: u64,
) -> Result<()> {
    let step = whole_blocks(source.info().dtype, CHECKED);
    for from in (start..end).step_by(step as usize) {
        let bytes = source.read(from..(from + step).min(end))?;
        if !checker.all_finite(&bytes) {
            return Err(first_bad(source, checker, from, &bytes));
        }
        output.write_at(&bytes, offset + (from - start))?;
    }
    Ok(())
}

/// The error about `bytes`, which begin at byte `from` of the tensor.
#[cold]
fn first_bad(source: &TensorRef, checker: &dyn Codec, from: u64, bytes: &[u8]) -> Error {
    let (own, block) = (source.info().dtype.block(), checker.dtype().block());
    let bad = bytes.chunks(block.bytes).position(|one| !checker.all_finite(one)).unwrap_or(0);
    let mut values = vec![0.0; block.elements];
    checker.decode(&bytes[bad * block.bytes..][..block.bytes], &mut values);
    let (at, value) = crate::tensor::first_bad(&values).unwrap_or_default();
    let before = (from + (bad * block.bytes) as u64) / own.bytes as u64 * own.elements as u64;
    source.holds(before + at, value)
}

/// Refuses NaN and infinity in the values that are given for `tensor`.
pub(super) fn check_given(tensor: &OutputTensor, bytes: &[u8]) -> Result<()> {
    if codec(tensor.info.dtype).is_none_or(|codec| codec.all_finite(bytes)) {
        Ok(())
    } else {
        let problem = Problem::GivenNonFinite { dtype: tensor.info.dtype };
        Err(Error::from(problem).tensor(&tensor.info.name))
    }
}
