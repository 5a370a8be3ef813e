//! Low-rank terms as recipes hold them: views of adapter tensors, loaded when their tensor's turn comes.

use std::ops::Range;

use crate::Result;
use crate::tensor::Factor;

/// `scale * B * A` on rows `rows` of a tensor that is seen as a matrix.
#[derive(Debug, Clone)]
pub struct LowRank {
    /// Rows of the target that the product covers.
    pub rows: Range<usize>,
    /// `(rows.len(), r)`.
    pub b: Factor,
    /// `(r, cols)`.
    pub a: Factor,
    /// Scale of the module times weight of the adapter.
    pub scale: f64,
}

impl LowRank {
    /// The rank `r`.
    pub fn rank(&self) -> usize {
        self.a.rows
    }

    /// Loads both factors.
    pub(super) fn load(&self) -> Result<LoadedTerm> {
        let b = self.b.load()?;
        let a = super::kernel::pack(&self.a.load()?, self.a.rows, self.a.cols);
        Ok(LoadedTerm { rows: self.rows.clone(), rank: self.rank(), scale: self.scale as f32, b, a })
    }

    /// Bytes the loaded factors take.
    pub(super) fn loaded_bytes(&self) -> u64 {
        let a = self.rank() * self.a.cols.next_multiple_of(super::kernel::LANES);
        ((self.rows.len() * self.rank() + a) * size_of::<f32>()) as u64
    }
}

/// A term whose factors are in memory: `b` is `(rows, rank)`, `a` is packed.
#[derive(Debug)]
pub(super) struct LoadedTerm {
    pub rows: Range<usize>,
    pub rank: usize,
    pub scale: f32,
    pub b: Vec<f32>,
    pub a: Vec<f32>,
}
