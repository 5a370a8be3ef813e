//! A sum that is written as stacked factors, `[b_1 b_2 ...]` over `[s_1 a_1; s_2 a_2; ...]`.

use std::borrow::Cow;

use lorakit_quant::{codec, encoder};
use lorakit_tensor::DType;
use ndarray::{Array2, Axis};

use super::input::Aligned;
use super::stack::Stack;
use crate::adapter::Module;
use crate::tensor::{Factor, Shelf};
use crate::{Result, TensorRef};

/// The factors of a sum.
pub(super) struct Stacked<'a> {
    b: Side<'a>,
    a: Side<'a>,
    /// Whether `a` holds the scaled values, without any rounding.
    exact: bool,
}

/// One factor.
struct Side<'a> {
    values: Cow<'a, Array2<f32>>,
    /// The stored tensors, if it consists of their bytes.
    stored: Option<Vec<&'a TensorRef>>,
}

impl<'a> Stacked<'a> {
    /// The sum of the products of `stack`, which were loaded from `aligned`.
    pub(super) fn of(aligned: &'a Aligned, stack: &'a Stack) -> Self {
        let tensors = |of: fn(&Module) -> &TensorRef| aligned.parts.iter().map(|(_, m)| of(m)).collect();
        let b = Side { values: Cow::Borrowed(&stack.b), stored: Some(tensors(|m| &m.b)) };
        let mut a = Side { values: Cow::Borrowed(&stack.a), stored: Some(tensors(|m| &m.a)) };
        let mut exact = true;
        if stack.scales.iter().any(|scale| *scale != 1.0) {
            a.stored = None;
            let values = a.values.to_mut();
            for (i, scale) in stack.scales.iter().enumerate() {
                for mut row in values.rows_mut().into_iter().skip(stack.part(i).start).take(stack.ranks[i]) {
                    exact &= scale_row(row.as_slice_mut().unwrap_or_default(), *scale);
                }
            }
        }
        Stacked { b, a, exact }
    }

    /// Whether `dtype` holds every value.
    pub(super) fn is_held_by(&self, dtype: DType) -> bool {
        self.exact && self.b.is_held_by(dtype) && self.a.is_held_by(dtype)
    }

    /// The sum as a module; everything but its factors is as in `like`.
    ///
    /// # Errors
    /// `Unsupported` for a dtype that single values cannot be encoded to; `NonFinite` for values beyond it.
    pub(super) fn module(self, like: &Module, dtype: DType, shelf: &Shelf) -> Result<Module> {
        let (shape_b, shape_a) = like.shapes_at(self.a.values.nrows());
        let b = self.b.tensor(&like.b, dtype, shape_b, shelf, Axis(1))?;
        let a = self.a.tensor(&like.a, dtype, shape_a, shelf, Axis(0))?;
        Ok(like.with_tensors(1.0, b, a))
    }
}

impl Side<'_> {
    fn is_stored_as(&self, dtype: DType) -> bool {
        self.stored.as_ref().is_some_and(|tensors| tensors.iter().all(|t| t.info().dtype == dtype))
    }

    fn is_held_by(&self, dtype: DType) -> bool {
        self.is_stored_as(dtype) || holds(dtype, self.values.as_slice().unwrap_or_default())
    }

    /// The stored bytes, each part next to the one before it along `axis`, or else the values.
    fn tensor(
        &self,
        like: &TensorRef,
        dtype: DType,
        shape: Vec<usize>,
        shelf: &Shelf,
        axis: Axis,
    ) -> Result<TensorRef> {
        let Some(stored) = self.stored.as_ref().filter(|_| self.is_stored_as(dtype)) else {
            let values = self.values.as_slice().unwrap_or_default();
            return shelf.tensor(&like.info().name, like.path(), dtype, shape, values);
        };
        let mut pieces = Vec::with_capacity(stored.len());
        let mut from = 0;
        for tensor in stored {
            let (rows, cols) = tensor.info().rows_cols();
            let part = Factor::matrix((*tensor).clone(), rows, cols);
            if axis == Axis(0) {
                pieces.push((part, from, 0));
                from += rows;
            } else {
                pieces.push((part, 0, from));
                from += cols;
            }
        }
        TensorRef::assembled(pieces, self.values.ncols(), shape)
    }
}

/// Multiplies by `scale`; returns whether nothing was rounded.
fn scale_row(row: &mut [f32], scale: f64) -> bool {
    row.iter_mut().fold(true, |exact, value| {
        let scaled = scale * f64::from(*value);
        *value = scaled as f32;
        exact & (f64::from(*value) == scaled)
    })
}

/// Whether the dtype holds all of these values.
fn holds(dtype: DType, values: &[f32]) -> bool {
    const PIECE: usize = 4096;
    let (Some(encoder), Some(decoder)) = (encoder(dtype), codec(dtype)) else { return false };
    if dtype == DType::F32 {
        return true;
    }
    let size = dtype.block().bytes;
    let (mut narrow, mut bytes) = ([0f32; PIECE], vec![0; PIECE * size]);
    dtype.block().elements == 1
        && values.chunks(PIECE).all(|piece| {
            let (narrow, bytes) = (&mut narrow[..piece.len()], &mut bytes[..piece.len() * size]);
            encoder.encode(piece, bytes);
            decoder.decode(bytes, narrow);
            narrow.iter().zip(piece).fold(true, |all, (held, value)| all & (held == value))
        })
}
