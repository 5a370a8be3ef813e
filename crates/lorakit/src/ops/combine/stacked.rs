//! A sum that is written as stacked factors, `[b_1 b_2 ...]` over `[s_1 a_1; s_2 a_2; ...]`.

use std::borrow::Cow;

use lorakit_quant::{codec, encoder};
use lorakit_tensor::DType;
use ndarray::Array2;

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
    /// The stored tensors and the row and column at which each begins, if it consists of their bytes.
    stored: Option<Vec<(&'a TensorRef, (usize, usize))>>,
}

impl<'a> Stacked<'a> {
    /// The sum of the products of `stack`, which were loaded from `aligned`.
    pub(super) fn of(aligned: &'a Aligned, stack: &'a Stack) -> Self {
        let modules = || aligned.parts.iter().map(|(_, module)| module).enumerate();
        let of_b = modules().map(|(i, module)| (&module.b, (0, stack.part(i).start)));
        let of_a = modules().map(|(i, module)| (&module.a, (stack.part(i).start, 0)));
        let b = Side { values: Cow::Borrowed(&stack.b), stored: Some(of_b.collect()) };
        let mut a = Side { values: Cow::Borrowed(&stack.a), stored: Some(of_a.collect()) };
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
        let b = self.b.tensor(&like.b, dtype, shape_b, shelf)?;
        let a = self.a.tensor(&like.a, dtype, shape_a, shelf)?;
        Ok(like.with_tensors(1.0, b, a))
    }
}

impl Side<'_> {
    fn is_stored_as(&self, dtype: DType) -> bool {
        self.stored.as_ref().is_some_and(|tensors| tensors.iter().all(|(t, _)| t.info().dtype == dtype))
    }

    fn is_held_by(&self, dtype: DType) -> bool {
        self.is_stored_as(dtype) || holds(dtype, self.values.as_slice().unwrap_or_default())
    }

    /// The stored bytes, each part in its place, or else the values.
    fn tensor(&self, like: &TensorRef, dtype: DType, shape: Vec<usize>, shelf: &Shelf) -> Result<TensorRef> {
        let Some(stored) = self.stored.as_ref().filter(|_| self.is_stored_as(dtype)) else {
            let values = self.values.as_slice().unwrap_or_default();
            return shelf.tensor(&like.info().name, like.path(), dtype, shape, values);
        };
        let piece = |(tensor, (row, col)): &(&TensorRef, (usize, usize))| {
            let (rows, cols) = tensor.info().rows_cols();
            (Factor::matrix((*tensor).clone(), rows, cols), *row, *col)
        };
        TensorRef::assembled(stored.iter().map(piece).collect(), self.values.ncols(), shape)
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
