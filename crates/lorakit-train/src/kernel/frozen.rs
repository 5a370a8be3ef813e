//! Weights that are not trained.

use std::ops::Range;

/// A frozen weight `W (rows, cols)`, in whatever form it is stored.
pub trait FrozenMatrix: Send + Sync {
    /// Outputs.
    fn rows(&self) -> usize;
    /// Inputs.
    fn cols(&self) -> usize;
    /// Decodes the columns `cols` of row `row` into `out`. `cols` begins at a multiple of 64, and ends at one or at
    /// the end of the row.
    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]);
}

/// Weights in f32.
#[derive(Debug, Clone)]
pub struct FloatMatrix {
    /// `(rows, cols)`, row-major.
    pub values: Vec<f32>,
    /// Columns.
    pub cols: usize,
}

impl FrozenMatrix for FloatMatrix {
    fn rows(&self) -> usize {
        self.values.len().checked_div(self.cols).unwrap_or(0)
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        out.copy_from_slice(&self.values[row * self.cols..][cols]);
    }
}
