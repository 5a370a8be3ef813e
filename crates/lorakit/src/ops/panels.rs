//! Large matrices that are streamed. Only a panel of rows is in memory at a time.

use std::ops::Range;

use lorakit_linalg::{LinearOperator, Svd, product, randomized_svd, spectral_norm, svd};
use ndarray::{Array2, ArrayView2, Axis};

use crate::adapter::factors::of_linalg;
use crate::plan::Stretch;
use crate::{Error, Result};

/// Rows of a panel.
pub(crate) const PANEL: usize = 128;
/// Passes of the randomised decomposition, beyond the first two: the spectra of deltas fall slowly.
const POWER_ITERATIONS: usize = 2;
/// Passes of a decomposition, with one before it, for sums, and one after it, for what is left.
const PASSES: usize = 2 + 2 * POWER_ITERATIONS + 2;
/// Vectors of a block of [`largest`], and the number of blocks.
const BLOCKS: (usize, usize) = (24, 3);
/// Values of a matrix that is decomposed as a whole.
const SMALL: usize = 1 << 18;

/// Takes rows of a matrix and where they are.
pub(crate) type EachPanel<'a> = dyn FnMut(Range<usize>, ArrayView2<'_, f64>) -> Result<()> + 'a;

/// A matrix that is computed panel by panel, each time it is needed.
pub(crate) trait Panels {
    /// Rows and columns.
    fn dim(&self) -> (usize, usize);

    /// Calls `each` with all rows, in order.
    ///
    /// # Errors
    /// The errors of reading, and those of `each`.
    fn for_each_panel(&self, each: &mut EachPanel<'_>) -> Result<()>;
}

/// Frobenius norm.
///
/// # Errors
/// As [`Panels::for_each_panel`].
pub(crate) fn norm(matrix: &dyn Panels) -> Result<f64> {
    let mut square = 0.0;
    matrix.for_each_panel(&mut |_, panel| {
        square += panel.iter().map(|v| v * v).sum::<f64>();
        Ok(())
    })?;
    Ok(square.sqrt())
}

/// The leading `rank` triplets: exact for a small matrix, from a randomised decomposition with `oversampling` more
/// vectors for a large one. `path` names the matrix in errors.
///
/// # Errors
/// As [`Panels::for_each_panel`]; [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite).
pub(crate) fn leading(matrix: &dyn Panels, rank: usize, oversampling: usize, path: &str) -> Result<Svd> {
    let found = match matrix.dim() {
        (rows, cols) if rows * cols > SMALL => {
            randomized_svd(&Streamed(matrix), rank, oversampling, POWER_ITERATIONS, 0)
        }
        _ => whole(matrix).and_then(|whole| Ok(svd(whole.view())?.truncated(rank))),
    };
    found.map_err(|failed| failed.of(path))
}

/// The largest singular value, from below, to 3 % for a matrix of noise; in six passes.
///
/// # Errors
/// As [`leading`].
pub(crate) fn largest(matrix: &dyn Panels, path: &str) -> Result<f64> {
    let (block, steps) = BLOCKS;
    let found = match matrix.dim() {
        (rows, cols) if rows * cols > SMALL => spectral_norm(&Streamed(matrix), block, steps, 0),
        _ => whole(matrix).and_then(|whole| Ok(spectral_norm(&whole.view(), block, steps, 0)?)),
    };
    found.map_err(|failed| failed.of(path))
}

fn whole(matrix: &dyn Panels) -> std::result::Result<Array2<f64>, Failed> {
    let mut whole = Array2::zeros(matrix.dim());
    let copy = &mut |rows: Range<usize>, panel: ArrayView2<'_, f64>| {
        whole.slice_axis_mut(Axis(0), rows.into()).assign(&panel);
        Ok(())
    };
    matrix.for_each_panel(copy).map_err(Failed::Reading)?;
    Ok(whole)
}

/// A matrix that tells how much of a decomposition is done, as its panels are used.
pub(crate) struct Told<'a> {
    pub(crate) matrix: &'a dyn Panels,
    pub(crate) stretch: &'a Stretch<'a>,
    /// What all [`PASSES`] together tell.
    pub(crate) bytes: u64,
}

impl Panels for Told<'_> {
    fn dim(&self) -> (usize, usize) {
        self.matrix.dim()
    }

    fn for_each_panel(&self, each: &mut EachPanel<'_>) -> Result<()> {
        let of_row = self.bytes as f64 / PASSES as f64 / self.dim().0.max(1) as f64;
        self.matrix.for_each_panel(&mut |rows, panel| {
            let height = rows.len();
            each(rows, panel)?;
            self.stretch.advance((of_row * height as f64) as u64);
            Ok(())
        })
    }
}

struct Streamed<'a>(&'a dyn Panels);

/// How a pass fails.
enum Failed {
    Reading(Error),
    Decomposing(lorakit_linalg::Error),
}

impl Failed {
    fn of(self, path: &str) -> Error {
        match self {
            Failed::Reading(error) => error,
            Failed::Decomposing(error) => of_linalg(&error, path),
        }
    }
}

impl From<lorakit_linalg::Error> for Failed {
    fn from(error: lorakit_linalg::Error) -> Self {
        Failed::Decomposing(error)
    }
}

impl LinearOperator for Streamed<'_> {
    type Error = Failed;

    fn rows(&self) -> usize {
        self.0.dim().0
    }

    fn cols(&self) -> usize {
        self.0.dim().1
    }

    fn apply(&self, x: ArrayView2<'_, f64>) -> std::result::Result<Array2<f64>, Failed> {
        let mut whole = Array2::zeros((self.rows(), x.ncols()));
        let add = &mut |rows: Range<usize>, panel: ArrayView2<'_, f64>| {
            whole.slice_axis_mut(Axis(0), rows.into()).assign(&product(panel, x));
            Ok(())
        };
        self.0.for_each_panel(add).map_err(Failed::Reading)?;
        Ok(whole)
    }

    fn apply_transposed(&self, y: ArrayView2<'_, f64>) -> std::result::Result<Array2<f64>, Failed> {
        let mut sum = Array2::zeros((self.cols(), y.ncols()));
        let add = &mut |rows: Range<usize>, panel: ArrayView2<'_, f64>| {
            sum += &product(panel.reversed_axes(), y.slice_axis(Axis(0), rows.into()));
            Ok(())
        };
        self.0.for_each_panel(add).map_err(Failed::Reading)?;
        Ok(sum)
    }
}
