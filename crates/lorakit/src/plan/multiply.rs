//! Weights that are multiplied instead of added to: by a factor for each row or column, or by blocks on the diagonal.
//!
//! All of these turn rows of the weight into rows of the product, so a panel needs nothing but itself:
//!
//! ```text
//!   rows      W[i, j] * f[i]
//!   columns   W[i, j] * f[j / each]
//!   blocks    W[i, n block] * M[block]          each run of n columns by an (n, n) matrix
//! ```

use std::ops::Range;

use crate::tensor::RowOrder;
use crate::{Result, TensorRef};

/// What a weight is multiplied by.
#[derive(Debug, Clone)]
pub struct Multiplied {
    /// The factors, one for each row or for `each` columns; or `(blocks, n, n)`.
    pub factors: TensorRef,
    /// What each factor belongs to.
    pub how: Multiply,
}

/// What the factors of a [`Multiplied`] belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Multiply {
    /// A factor for each row.
    Rows,
    /// A factor for each run of so many columns.
    Columns {
        /// How many columns share a factor: the size of a kernel.
        each: usize,
    },
    /// A matrix for each run of `size` columns, or one for all of them.
    Blocks {
        /// Rows and columns of a block.
        size: usize,
    },
}

impl Multiplied {
    /// The factors that go with rows in another order.
    pub(super) fn gathered(self, order: &RowOrder, rows: usize) -> Result<Self> {
        if self.how != Multiply::Rows || order.keeps(rows) {
            return Ok(self);
        }
        let factors = TensorRef::of_rows(vec![(self.factors, order.clone())], 1, vec![order.len()])?;
        Ok(Multiplied { factors, how: Multiply::Rows })
    }

    /// The same for a vector that was one row and is seen as one column; `None` if it cannot be seen so.
    pub(super) fn of_column(self) -> Option<Self> {
        let how = (self.how == Multiply::Columns { each: 1 }).then_some(Multiply::Rows)?;
        Some(Multiplied { how, ..self })
    }

    pub(super) fn load(&self) -> Result<Loaded> {
        Ok(Loaded { values: self.factors.finite_values()?, how: self.how })
    }

    pub(super) fn loaded_bytes(&self) -> u64 {
        self.factors.info().elements() * size_of::<f32>() as u64
    }
}

/// Factors in memory.
#[derive(Debug)]
pub(super) struct Loaded {
    values: Vec<f32>,
    how: Multiply,
}

impl Loaded {
    /// The sum of the magnitudes of all products that make up the value in column `col` of row `row`, whose weights
    /// are `weights`.
    pub(super) fn summands(&self, row: usize, col: usize, weights: &[f32]) -> f32 {
        let value = |at: usize| self.values.get(at).copied().unwrap_or_default();
        match self.how {
            Multiply::Rows => (weights[col] * value(row)).abs(),
            Multiply::Columns { each } => (weights[col] * value(col / each)).abs(),
            Multiply::Blocks { size } => {
                let (first, matrix) = (col / size * size, size * size);
                let block = (col / size * matrix) % self.values.len().max(1);
                let products = weights[first..].iter().take(size).enumerate();
                products.map(|(k, w)| (w * value(block + k * size + col % size)).abs()).sum()
            }
        }
    }

    /// Fills `out` with the products of `values`, which are the rows `rows`.
    pub(super) fn apply(&self, rows: &Range<usize>, cols: usize, values: &[f32], out: &mut [f32]) {
        let given = values.chunks_exact(cols.max(1)).zip(out.chunks_exact_mut(cols.max(1)));
        match self.how {
            Multiply::Rows => {
                for ((values, out), factor) in given.zip(&self.values[rows.clone()]) {
                    out.iter_mut().zip(values).for_each(|(out, value)| *out = value * factor);
                }
            }
            Multiply::Columns { each } => {
                for (values, out) in given {
                    let shared = out.chunks_mut(each).zip(values.chunks(each)).zip(&self.values);
                    for ((out, values), factor) in shared {
                        out.iter_mut().zip(values).for_each(|(out, value)| *out = value * factor);
                    }
                }
            }
            Multiply::Blocks { size } => {
                let mut sums = vec![0f64; size];
                for (values, out) in given {
                    let runs = values.chunks_exact(size).zip(out.chunks_exact_mut(size));
                    for ((values, out), block) in runs.zip(self.values.chunks_exact(size * size).cycle()) {
                        sums.fill(0.0);
                        for (value, row) in values.iter().zip(block.chunks_exact(size)) {
                            let value = f64::from(*value);
                            sums.iter_mut().zip(row).for_each(|(sum, m)| *sum += value * f64::from(*m));
                        }
                        out.iter_mut().zip(&sums).for_each(|(out, sum)| *out = *sum as f32);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::tests::tensor;

    /// Rows 1 and 2 of a matrix of three rows and four columns.
    fn applied(factors: &[f32], how: Multiply) -> Vec<f32> {
        let factors = tensor("f", &[factors.len()], factors);
        let mut out = vec![0.0; 8];
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        Multiplied { factors, how }.load().unwrap().apply(&(1..3), 4, &values, &mut out);
        out
    }

    #[test]
    fn each_factor_reaches_what_it_belongs_to() {
        let rows = applied(&[9.0, 2.0, 3.0], Multiply::Rows);
        assert_eq!(rows, [2.0, 4.0, 6.0, 8.0, 15.0, 18.0, 21.0, 24.0]);
        let columns = applied(&[1.0, 0.0, 2.0, -1.0], Multiply::Columns { each: 1 });
        assert_eq!(columns, [1.0, 0.0, 6.0, -4.0, 5.0, 0.0, 14.0, -8.0]);
        let kernels = applied(&[1.0, 2.0], Multiply::Columns { each: 2 });
        assert_eq!(kernels, [1.0, 2.0, 6.0, 8.0, 5.0, 6.0, 14.0, 16.0]);
        // [1 2; 3 4] and [0 1; 1 0]: rows are multiplied from the right.
        let blocks = applied(&[1.0, 2.0, 3.0, 4.0, 0.0, 1.0, 1.0, 0.0], Multiply::Blocks { size: 2 });
        assert_eq!(blocks, [7.0, 10.0, 4.0, 3.0, 23.0, 34.0, 8.0, 7.0]);
        let shared = applied(&[1.0, 2.0, 3.0, 4.0], Multiply::Blocks { size: 2 });
        assert_eq!(shared, [7.0, 10.0, 15.0, 22.0, 23.0, 34.0, 31.0, 46.0]);
    }

    #[test]
    fn factors_of_rows_move_with_them() {
        let factors = tensor("f", &[3], &[1.0, 2.0, 3.0]);
        let multiplied = Multiplied { factors, how: Multiply::Rows };
        let moved = multiplied.gathered(&RowOrder::of_rows([2, 0]), 3).unwrap();
        assert_eq!(moved.factors.values().unwrap(), [3.0, 1.0]);
        assert!(moved.of_column().is_none());
        let factors = tensor("f", &[3], &[1.0, 2.0, 3.0]);
        let bias = Multiplied { factors, how: Multiply::Columns { each: 1 } };
        assert_eq!(bias.of_column().unwrap().how, Multiply::Rows);
    }
}
