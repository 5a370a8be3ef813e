//! Matrices inside stored tensors, as views.

use std::ops::Range;

use lorakit_quant::codec;

use super::RowOrder;
use crate::tensor::first_bad;
use crate::{Result, TensorRef};

/// A matrix inside a stored tensor. Every layout in use (transposed factors, stacked experts, interleaved
/// experts) is an affine index: value `(i, j)` is element `offset + i * row_stride + j * col_stride`.
#[derive(Debug, Clone)]
pub struct Factor {
    /// The tensor; `None` for the 1 x 1 matrix `[1]`.
    pub(crate) tensor: Option<TensorRef>,
    /// Rows of the view.
    pub rows: usize,
    /// Columns of the view.
    pub cols: usize,
    pub(crate) offset: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
    /// An order of rows on top of the affine view, and the number of rows of the affine view.
    pub(crate) gathered: Option<(RowOrder, usize)>,
}

impl Factor {
    /// The tensor as a row-major `(rows, cols)` matrix. The shape product must be `rows * cols`.
    pub fn matrix(tensor: TensorRef, rows: usize, cols: usize) -> Self {
        debug_assert_eq!(tensor.info().elements(), (rows * cols) as u64);
        Factor {
            tensor: Some(tensor),
            rows,
            cols,
            offset: 0,
            row_stride: cols,
            col_stride: 1,
            gathered: None,
        }
    }

    /// The matrix `[1]`, which turns a vector into a low-rank term.
    pub fn one() -> Self {
        Factor { tensor: None, rows: 1, cols: 1, offset: 0, row_stride: 1, col_stride: 1, gathered: None }
    }

    /// The transpose.
    #[must_use]
    pub fn transposed(self) -> Self {
        debug_assert!(self.gathered.is_none());
        Factor {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Takes `count` rows from `start`, `step` apart.
    #[must_use]
    pub fn take_rows(self, start: usize, count: usize, step: usize) -> Self {
        debug_assert!(count == 0 || start + (count - 1) * step < self.rows);
        debug_assert!(self.gathered.is_none());
        Factor {
            rows: count,
            offset: self.offset + start * self.row_stride,
            row_stride: self.row_stride * step,
            ..self
        }
    }

    /// Puts the rows in another order; this must be the last change to a view.
    #[must_use]
    pub(crate) fn gather_rows(self, order: &RowOrder) -> Self {
        if order.keeps(self.rows) {
            return self;
        }
        let (order, beneath) = match &self.gathered {
            Some((first, beneath)) => (order.after(first), *beneath),
            None => (order.clone(), self.rows),
        };
        Factor { rows: order.len(), gathered: Some((order, beneath)), ..self }
    }

    /// Takes `count` columns from `start`, `step` apart.
    #[must_use]
    pub fn take_cols(self, start: usize, count: usize, step: usize) -> Self {
        self.transposed().take_rows(start, count, step).transposed()
    }

    /// Which value of the tensor is in that row and column of the view.
    pub(crate) fn element(&self, row: usize, col: usize) -> usize {
        let row = match &self.gathered {
            Some((order, _)) => order.sources(row..row + 1).next().map_or(row, |source| source.start),
            None => row,
        };
        self.offset + row * self.row_stride + col * self.col_stride
    }

    /// Loads the view, row-major.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite) for NaN and infinity; if the tensor cannot be read, or its
    /// dtype cannot be decoded.
    pub fn load(&self) -> Result<Vec<f32>> {
        if let Some((order, beneath)) = &self.gathered {
            let plain = Factor { rows: *beneath, gathered: None, ..self.clone() }.load()?;
            let values = |rows: Range<usize>| &plain[rows.start * self.cols..rows.end * self.cols];
            return Ok(order.sources(0..order.len()).flat_map(values).copied().collect());
        }
        let (rows, cols) = (self.rows, self.cols);
        let Some(tensor) = &self.tensor else { return Ok(vec![1.0]) };
        let mut out = vec![0.0; rows * cols];
        if out.is_empty() {
            return Ok(out);
        }
        let dtype = tensor.info().dtype;
        let size = dtype.block().bytes;
        let decoder = codec(dtype).ok_or_else(|| tensor.no_decoder())?;
        let last = self.offset + (rows - 1) * self.row_stride + (cols - 1) * self.col_stride;
        let bytes = tensor.read((self.offset * size) as u64..((last + 1) * size) as u64)?;
        // Decode along the contiguous direction, gather along the other.
        if self.col_stride == 1 {
            for (i, row) in out.chunks_exact_mut(cols).enumerate() {
                let start = i * self.row_stride * size;
                decoder.decode(&bytes[start..start + cols * size], row);
            }
        } else if self.row_stride == 1 {
            let mut column = vec![0.0; rows];
            for j in 0..cols {
                let start = j * self.col_stride * size;
                decoder.decode(&bytes[start..start + rows * size], &mut column);
                for (i, &value) in column.iter().enumerate() {
                    out[i * cols + j] = value;
                }
            }
        } else {
            for (i, row) in out.chunks_exact_mut(cols).enumerate() {
                for (j, value) in row.iter_mut().enumerate() {
                    let start = (i * self.row_stride + j * self.col_stride) * size;
                    decoder.decode(&bytes[start..start + size], std::slice::from_mut(value));
                }
            }
        }
        match first_bad(&out) {
            None => Ok(out),
            Some((at, value)) => {
                let at = at as usize;
                Err(tensor.holds(self.element(at / cols, at % cols) as u64, value))
            }
        }
    }
}
