//! The factors of one module in all adapters, side by side.

use std::ops::Range;

use lorakit_linalg::{Coordinates, Term};
use ndarray::{Array2, ArrayViewMut1, ArrayViewMut2, Axis};

use super::input::Aligned;
use crate::adapter::factors::{Factors, of_linalg};
use crate::ops::Problem as VerbProblem;
use crate::{Error, Result, TensorRef};

/// Products `scale * b * a` of the same shape: those of the parts of an [`Aligned`], in order.
pub(super) struct Stack {
    /// `(out, Σ r)`.
    pub(super) b: Array2<f32>,
    /// `(Σ r, in)`; kernels of convolutions are columns.
    pub(super) a: Array2<f32>,
    /// The factor of each product, including the weight of its adapter.
    pub(super) scales: Vec<f64>,
    pub(super) ranks: Vec<usize>,
}

impl Stack {
    /// Loads the factors; `weights` are those of the parts.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite); if they cannot be read.
    pub(super) fn load(aligned: &Aligned, weights: &[f64]) -> Result<Self> {
        let modules = || aligned.parts.iter().map(|(_, module)| module);
        let ranks: Vec<usize> = modules().map(|m| m.a.info().rows_cols().0).collect();
        let (rows, _) = aligned.first().b.info().rows_cols();
        let (_, cols) = aligned.first().a.info().rows_cols();
        let rank = ranks.iter().sum();
        let (mut b, mut a) = (Array2::zeros((rows, rank)), Array2::zeros((rank, cols)));
        let mut at = 0;
        for (module, rank) in modules().zip(&ranks) {
            fill(b.slice_axis_mut(Axis(1), (at..at + rank).into()), &module.b)?;
            fill(a.slice_axis_mut(Axis(0), (at..at + rank).into()), &module.a)?;
            at += rank;
        }
        let scales = modules().zip(weights).map(|(m, weight)| m.scale(m.rank()) * weight).collect();
        Ok(Stack { b, a, scales, ranks })
    }

    /// Where product `i` has its columns of `b` and rows of `a`.
    pub(super) fn part(&self, i: usize) -> Range<usize> {
        let from: usize = self.ranks[..i].iter().sum();
        from..from + self.ranks[i]
    }

    /// Product `i`.
    pub(super) fn term(&self, i: usize) -> Term<'_, f32> {
        let part = self.part(i);
        let b = self.b.slice_axis(Axis(1), part.clone().into());
        (self.scales[i], b, self.a.slice_axis(Axis(0), part.into()))
    }

    /// All products.
    pub(super) fn terms(&self) -> Vec<Term<'_, f32>> {
        (0..self.ranks.len()).map(|i| self.term(i)).collect()
    }

    /// The scale of each column of `b`.
    pub(super) fn scales_of_columns(&self) -> Vec<f64> {
        let scales = self.scales.iter().zip(&self.ranks);
        scales.flat_map(|(scale, rank)| std::iter::repeat_n(*scale, *rank)).collect()
    }

    /// The factors of product `i`, times `scale`.
    pub(super) fn factors(&self, i: usize, scale: f64) -> Factors {
        let (_, b, a) = self.term(i);
        Factors { scale, b: b.mapv(f64::from), a: a.mapv(f64::from) }
    }

    /// The products in coordinates, without their scales.
    pub(super) fn coordinates(&self, path: &str) -> Result<Coordinates> {
        Coordinates::of(self.b.view(), self.a.view(), &self.ranks).map_err(|e| of_linalg(&e, path))
    }
}

/// Decodes `tensor`, a matrix, into its place, whose rows are contiguous.
fn fill(mut place: ArrayViewMut2<'_, f32>, tensor: &TensorRef) -> Result<()> {
    if tensor.info().elements() != place.len() as u64 {
        return Err(Error::from(VerbProblem::NotAMatrix).tensor(&tensor.info().name).at(tensor.path()));
    }
    let mut rows = place.rows_mut().into_iter();
    let mut row: &mut [f32] = &mut [];
    let (mut before, mut finite) = (0, Ok(()));
    tensor.for_each_piece(|mut values| {
        if finite.is_ok() {
            finite = tensor.refuse_non_finite(before, values);
        }
        before += values.len() as u64;
        while !values.is_empty() {
            if row.is_empty() {
                row = rows.next().and_then(ArrayViewMut1::into_slice).unwrap_or_default();
            }
            let len = row.len().min(values.len());
            if len == 0 {
                return;
            }
            let (filled, rest) = std::mem::take(&mut row).split_at_mut(len);
            filled.copy_from_slice(&values[..len]);
            (row, values) = (rest, &values[len..]);
        }
    })?;
    finite
}
