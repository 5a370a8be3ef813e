//! Deltas that are combined entry by entry, a panel of rows at a time.

use lorakit_linalg::{LinearOperator, Svd, projection_residual, randomized_svd, svd};
use ndarray::{Array2, ArrayView2, Axis};

use super::entries::Walk;
use super::recipe::{Mixture, Recipe};
use crate::adapter::factors::Factors;
use crate::plan::Stretch;

/// Rows in memory at a time.
const PANEL: usize = 128;
/// Largest delta, in entries, that is decomposed as a whole; larger ones are decomposed with random vectors.
const WHOLE: usize = 1 << 20;
/// Vectors beyond the rank, and passes, of the randomised decomposition: the spectrum of thinned deltas falls slowly.
const OVERSAMPLING: usize = 16;
const POWER_ITERATIONS: usize = 3;
/// About how often each panel of a large delta is computed: to find what is thinned out, for the norm, and to decompose.
const PASSES: usize = 6 + 1 + 2 + 2 * POWER_ITERATIONS;

/// The mixture of `scale * b * a` over some adapters, `(m, n)`.
pub(super) struct MixedDelta<'a> {
    factors: &'a [Factors],
    mixture: Mixture,
    told: &'a Told<'a>,
}

/// How a decomposition tells its caller how much of it is done.
pub(super) struct Told<'a> {
    pub(super) stretch: &'a Stretch<'a>,
    /// What all [`PASSES`] together tell.
    pub(super) bytes: u64,
}

impl Told<'_> {
    /// A panel of `rows` was computed, for one of `of` adapters.
    fn advance(&self, rows: usize, of: usize) {
        let share = PANEL as f64 / rows.max(1) as f64 / (PASSES * of) as f64;
        self.stretch.advance((self.bytes as f64 * share) as u64);
    }
}

/// The leading triplets of a mixture.
pub(super) struct Leading {
    pub(super) svd: Svd,
    /// Frobenius norm of the mixture.
    pub(super) norm: f64,
    /// Frobenius norm of what the triplets leave out.
    pub(super) residual: f64,
}

impl<'a> MixedDelta<'a> {
    /// `streams` tells the random numbers of the adapters apart; `factors` must not be empty.
    pub(super) fn new(
        recipe: Recipe,
        weights: Vec<f64>,
        factors: &'a [Factors],
        streams: &[u64],
        told: &'a Told<'a>,
    ) -> Self {
        let cols = factors.first().map_or(0, |f| f.a.ncols());
        let rows = factors.first().map_or(0, |f| f.b.nrows());
        let walks: Vec<_> = factors
            .iter()
            .map(|f| {
                move |each: &mut dyn FnMut(usize, &[f64])| {
                    for start in (0..rows).step_by(PANEL) {
                        each(start * cols, &panel(f, start));
                        told.advance(rows, factors.len());
                    }
                }
            })
            .collect();
        let tensors: Vec<(u64, Walk<'_>)> =
            streams.iter().zip(&walks).map(|(stream, walk)| (*stream, walk as Walk<'_>)).collect();
        MixedDelta { factors, mixture: Mixture::new(recipe, weights, rows * cols, &tensors), told }
    }

    /// Calls `each` with the first row of each panel, and the panel.
    fn panels(&self, mut each: impl FnMut(usize, Array2<f64>)) {
        let (rows, cols) = (self.rows(), self.cols());
        for start in (0..rows).step_by(PANEL) {
            let mut tensors: Vec<Vec<f64>> = self.factors.iter().map(|f| panel(f, start)).collect();
            let mut mixed = self.mixture.of(start * cols, &mut tensors).into_iter();
            let height = PANEL.min(rows - start);
            each(start, Array2::from_shape_simple_fn((height, cols), || mixed.next().unwrap_or_default()));
            self.told.advance(rows, 1);
        }
    }

    /// The whole of it; for small ones.
    pub(super) fn whole(&self) -> Array2<f64> {
        let mut whole = Array2::zeros((self.rows(), self.cols()));
        self.panels(|start, panel| rows_of(&mut whole, start, panel.nrows()).assign(&panel));
        whole
    }

    /// The `rank` leading triplets.
    pub(super) fn leading(&self, rank: usize, seed: u64) -> lorakit_linalg::Result<Leading> {
        let (rows, cols) = (self.rows(), self.cols());
        if rows * cols <= WHOLE || rank + OVERSAMPLING >= rows.min(cols) {
            let svd = svd(self.whole().view())?;
            let square = |s: &[f64]| s.iter().map(|s| s * s).sum::<f64>();
            let (kept, tail) = svd.s.split_at(rank.min(svd.s.len()));
            let (kept, tail) = (square(kept), square(tail));
            return Ok(Leading {
                svd: svd.truncated(rank),
                norm: (kept + tail).sqrt(),
                residual: tail.sqrt(),
            });
        }
        let mut square = 0.0;
        self.panels(|_, panel| square += panel.iter().map(|v| v * v).sum::<f64>());
        let svd = randomized_svd(self, rank, OVERSAMPLING, POWER_ITERATIONS, seed)?;
        let norm = square.sqrt();
        let residual = projection_residual(norm, &svd.s);
        Ok(Leading { svd, norm, residual })
    }
}

fn rows_of(matrix: &mut Array2<f64>, start: usize, count: usize) -> ndarray::ArrayViewMut2<'_, f64> {
    matrix.slice_axis_mut(Axis(0), (start..start + count).into())
}

/// At most [`PANEL`] rows of `scale * b * a`, from row `start` on.
fn panel(factors: &Factors, start: usize) -> Vec<f64> {
    let end = (start + PANEL).min(factors.b.nrows());
    let rows = factors.b.slice_axis(Axis(0), (start..end).into());
    let product = (factors.scale * &rows).dot(&factors.a);
    product.into_iter().collect()
}

impl LinearOperator for MixedDelta<'_> {
    type Error = lorakit_linalg::Error;

    fn rows(&self) -> usize {
        self.factors.first().map_or(0, |f| f.b.nrows())
    }

    fn cols(&self) -> usize {
        self.factors.first().map_or(0, |f| f.a.ncols())
    }

    fn apply(&self, x: ArrayView2<'_, f64>) -> lorakit_linalg::Result<Array2<f64>> {
        let mut product = Array2::zeros((self.rows(), x.ncols()));
        self.panels(|start, panel| {
            rows_of(&mut product, start, panel.nrows()).assign(&panel.dot(&x));
        });
        Ok(product)
    }

    fn apply_transposed(&self, y: ArrayView2<'_, f64>) -> lorakit_linalg::Result<Array2<f64>> {
        let mut product = Array2::zeros((self.cols(), y.ncols()));
        self.panels(|start, panel| {
            product += &panel.t().dot(&y.slice_axis(Axis(0), (start..start + panel.nrows()).into()));
        });
        Ok(product)
    }
}
