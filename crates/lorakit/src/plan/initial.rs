//! What an initialisation takes out of a weight before training begins.
//!
//! `olora_init` of PEFT (`tuners/lora/layer.py`), which runs again whenever such an adapter is loaded:
//!
//! ```text
//!   Q, R = qr(W)
//!   W'   = (W - scale * Q[:, :r] * R[:r]).to(W.dtype)
//! ```
//!
//! `Q[:, :r] * R[:r]` is `W` projected on what its first `r` columns span: a QR decomposition of these columns tells,
//! whatever the signs of `Q`. PEFT decomposes in f32; here it is done in f64, and the factors are kept in f32.

use std::ops::Range;

use lorakit_linalg::{Qr, product, thin_qr};
use ndarray::{Array2, ArrayView2, Axis, Slice};

use super::low_rank::LoadedTerm;
use super::{Problem, kernel};
use crate::{Error, Result, TensorRef};

/// Values of the weight that are decoded and multiplied at a time.
const PANEL: usize = 1 << 18;

/// A column that keeps less than this share of its norm, once the columns before it are projected out, has a direction
/// that PEFT knows to a few digits only: f32 leaves an error of some millionths of the norm.
const DEPENDENT: f64 = 1e-3;

/// `W` becomes `W - scale * Q * Q^T * W` on some of its rows, `Q` an orthonormal basis of its first columns there; what
/// is left is rounded to the dtype of `W`.
#[derive(Debug, Clone, PartialEq)]
pub struct Initial {
    /// Rows of the target that are one weight.
    pub rows: Range<usize>,
    /// How many of the first columns.
    pub rank: usize,
    /// Scale of the module.
    pub scale: f64,
}

impl Initial {
    /// Computes what is taken out of `base`, seen as rows of `cols` values, as a term: its scale is negative.
    ///
    /// # Errors
    /// [`ErrorKind::Unmergeable`](crate::ErrorKind::Unmergeable) if the columns depend on each other, so that there are
    /// many such `Q`; [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite); if the file cannot be read.
    pub(super) fn load(&self, base: &TensorRef, cols: usize) -> Result<LoadedTerm> {
        let rows = self.rows.len();
        let rank = self.rank.min(rows).min(cols);
        let mut first = Array2::zeros((rows, rank));
        self.for_each_panel(base, cols, |panel, values| {
            let columns = values.slice_axis(Axis(1), Slice::from(..rank));
            first.slice_axis_mut(Axis(0), Slice::from(panel)).assign(&columns);
        })?;
        let Qr { q, r } = thin_qr(first.view()).map_err(|error| {
            let problem = Problem::NoBasis { reason: error.to_string() };
            Error::from(problem).tensor(&base.info().name)
        })?;
        drop(first);
        // All rows, or all columns, are spanned whatever the columns are.
        if rank < rows.min(cols)
            && let Some((column, share)) = dependent(r.view())
        {
            let problem = Problem::DependentColumns { rank, column, share };
            let origin = base.origin((self.rows.start * cols) as u64);
            return Err(Error::from(problem).tensor(&origin.info.name).at(origin.path));
        }
        let mut a = Array2::zeros((rank, cols));
        self.for_each_panel(base, cols, |panel, values| {
            a += &product(q.slice_axis(Axis(0), Slice::from(panel)).reversed_axes(), values);
        })?;
        let narrow = |values: &Array2<f64>| values.iter().map(|value| *value as f32).collect::<Vec<f32>>();
        Ok(LoadedTerm {
            rows: self.rows.clone(),
            rank,
            scale: -self.scale as f32,
            b: narrow(&q),
            a: kernel::pack(&narrow(&a), rank, cols),
        })
    }

    /// Calls `each` with some of the rows after another, counted from the first, and their values.
    fn for_each_panel(
        &self,
        base: &TensorRef,
        cols: usize,
        mut each: impl FnMut(Range<usize>, ArrayView2<'_, f64>),
    ) -> Result<()> {
        let step = rows_of_panel(cols);
        let mut values = Vec::new();
        for start in (0..self.rows.len()).step_by(step) {
            let panel = start..(start + step).min(self.rows.len());
            let at = (self.rows.start + panel.start) * cols;
            values.resize(panel.len() * cols, 0.0);
            base.decode(at as u64..(at + values.len()) as u64, &mut values)?;
            base.refuse_non_finite(at as u64, &values)?;
            let wide = Array2::from_shape_fn((panel.len(), cols), |(i, j)| f64::from(values[i * cols + j]));
            each(panel, wide.view());
        }
        Ok(())
    }

    /// Bytes that computing it takes at most: the columns and what the decomposition makes of them, the product with all
    /// columns, a panel, and the factors.
    pub(super) fn loaded_bytes(&self, cols: usize) -> u64 {
        let (rows, rank) = (self.rows.len(), self.rank.min(self.rows.len()).min(cols));
        let panel = rows_of_panel(cols).min(rows) * cols;
        let wide = 4 * rows * rank + 2 * rank * cols + panel;
        let narrow = rows * rank + rank * cols + rank * cols.next_multiple_of(kernel::LANES) + panel;
        (wide * size_of::<f64>() + narrow * size_of::<f32>()) as u64
    }
}

fn rows_of_panel(cols: usize) -> usize {
    (PANEL / cols.max(1)).max(1)
}

/// The first column that depends on those before it, counted from 1, and the share of its norm that is its own.
fn dependent(r: ArrayView2<'_, f64>) -> Option<(usize, f64)> {
    let share = |i: usize| {
        let norm = r.column(i).iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm > 0.0 { r[[i, i]].abs() / norm } else { 0.0 }
    };
    (0..r.ncols()).map(|i| (i + 1, share(i))).find(|(_, share)| *share < DEPENDENT)
}

#[cfg(test)]
mod tests;
