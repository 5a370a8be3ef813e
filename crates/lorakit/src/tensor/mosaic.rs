//! Tensors assembled from views of others when the layout changes: transposed, cut, stacked, padded with zeros.
//! Values keep their stored bytes; recipes read the result like a tensor of a file.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lorakit_tensor::{Extent, Origin, Result as TensorResult, TensorInfo, TensorSource};

use super::{Factor, Problem};
use crate::{Error, Result, TensorRef};

/// Views at their places in a matrix; values that no view covers are zero.
struct Mosaic {
    info: [TensorInfo; 1],
    cols: usize,
    /// Bytes of one value.
    size: usize,
    pieces: Vec<Piece>,
}

struct Piece {
    tensor: TensorRef,
    view: Factor,
    row: usize,
    col: usize,
}

impl TensorRef {
    /// Returns the tensor of shape `shape`, a row-major matrix of `cols` columns, in which each view of `pieces` is at
    /// its `(row, column)` and everything else is zero. It has the name of the tensor of its first piece.
    ///
    /// # Errors
    /// `Unsupported` for views of different dtypes, and for block types, whose values cannot be moved one by one.
    pub(crate) fn assembled(
        pieces: Vec<(Factor, usize, usize)>,
        cols: usize,
        shape: Vec<usize>,
    ) -> Result<Self> {
        let mut placed: Vec<Piece> = Vec::with_capacity(pieces.len());
        for (view, row, col) in pieces {
            let Some(tensor) = view.tensor.clone() else {
                return Err(Problem::Constant.into());
            };
            placed.push(Piece { tensor, view, row, col });
        }
        let Some(first) = placed.first().map(|piece| piece.tensor.info().clone()) else {
            return Err(Problem::NoValues.into());
        };
        for piece in &placed {
            let info = piece.tensor.info();
            if info.dtype != first.dtype || info.dtype.block().elements != 1 {
                let problem = Problem::ValueTypes { dtype: info.dtype, others: first.dtype };
                return Err(Error::from(problem).tensor(&info.name));
            }
            debug_assert!(piece.col + piece.view.cols <= cols);
        }
        let size = first.dtype.block().bytes;
        let mosaic = Mosaic { info: [TensorInfo { shape, ..first }], cols, size, pieces: placed };
        debug_assert_eq!(mosaic.info[0].elements() % cols.max(1) as u64, 0);
        Ok(TensorRef::new(Arc::new(mosaic), 0))
    }
}

impl Factor {
    /// The view as a tensor of shape `shape`.
    ///
    /// # Errors
    /// As [`TensorRef::assembled`].
    pub(crate) fn to_tensor(&self, shape: Vec<usize>) -> Result<TensorRef> {
        TensorRef::assembled(vec![(self.clone(), 0, 0)], self.cols, shape)
    }

    /// Where its values are in its tensor, if they form a single run there.
    fn run(&self) -> Option<usize> {
        let row_major = (self.cols == 1 || self.col_stride == 1)
            && (self.rows == 1 || self.row_stride == self.cols)
            && self.gathered.is_none();
        row_major.then_some(self.offset)
    }
}

impl Piece {
    /// Copies the part of the piece that falls in the values `values` of the mosaic to `out`, which holds those values.
    fn copy(&self, values: &Range<usize>, cols: usize, size: usize, out: &mut [u8]) -> TensorResult<()> {
        let view = &self.view;
        let width = self.view.cols;
        let first = (values.start / cols).max(self.row);
        let last = values.end.div_ceil(cols).min(self.row + view.rows);
        if first >= last || width == 0 {
            return Ok(());
        }
        let rows = first - self.row..last - self.row;
        let sources: Vec<usize> = match &view.gathered {
            Some((order, _)) => order.sources(rows.clone()).flatten().collect(),
            None => rows.clone().collect(),
        };
        let at = |row: usize, col: usize| view.offset + row * view.row_stride + col * view.col_stride;
        let (low, high) =
            sources.iter().fold((usize::MAX, 0), |(low, high), &row| (low.min(row), high.max(row)));
        let (start, end) = (at(low, 0), at(high, width - 1) + 1);
        let bytes = self.tensor.stored((start * size) as u64..(end * size) as u64)?;
        for (row, &source) in (first..last).zip(&sources) {
            let left = (row * cols + self.col).max(values.start);
            let right = (row * cols + self.col + width).min(values.end);
            if left >= right {
                continue;
            }
            let skipped = left - (row * cols + self.col);
            let target = &mut out[(left - values.start) * size..(right - values.start) * size];
            let source = (at(source, skipped) - start) * size;
            if view.col_stride == 1 {
                target.copy_from_slice(&bytes[source..source + target.len()]);
                continue;
            }
            let step = view.col_stride * size;
            for (i, value) in target.chunks_exact_mut(size).enumerate() {
                value.copy_from_slice(&bytes[source + i * step..][..size]);
            }
        }
        Ok(())
    }

    /// Which value of its tensor is in that row and column of the mosaic, if any.
    fn element(&self, row: usize, col: usize) -> Option<usize> {
        let (row, col) = (row.checked_sub(self.row)?, col.checked_sub(self.col)?);
        (row < self.view.rows && col < self.view.cols).then(|| self.view.element(row, col))
    }

    /// Where the bytes of the whole mosaic are stored, if it is a single unchanged piece.
    fn whole(&self, mosaic: &Mosaic) -> Option<u64> {
        let covers = (self.row, self.col, self.view.cols) == (0, 0, mosaic.cols)
            && (self.view.rows * self.view.cols) as u64 == mosaic.info[0].elements();
        Some((self.view.run().filter(|_| covers)? * mosaic.size) as u64)
    }
}

impl Mosaic {
    /// The one piece that is the whole mosaic, unchanged, and where its bytes begin.
    fn plain(&self) -> Option<(&Piece, u64)> {
        let [piece] = self.pieces.as_slice() else { return None };
        Some((piece, piece.whole(self)?))
    }
}

impl TensorSource for Mosaic {
    fn tensors(&self) -> &[TensorInfo] {
        &self.info
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.info.iter().position(|info| info.name == name)
    }

    fn read(&self, _: usize, bytes: Range<u64>) -> TensorResult<Cow<'_, [u8]>> {
        if let Some((piece, start)) = self.plain() {
            return piece.tensor.stored(start + bytes.start..start + bytes.end);
        }
        // Whole values that cover the range; the first and the last may be cut.
        let values = bytes.start as usize / self.size..(bytes.end as usize).div_ceil(self.size);
        let mut out = vec![0; values.len() * self.size];
        for piece in &self.pieces {
            piece.copy(&values, self.cols.max(1), self.size, &mut out)?;
        }
        let skip = bytes.start as usize % self.size;
        if skip > 0 || values.end * self.size > bytes.end as usize {
            out = out[skip..skip + (bytes.end - bytes.start) as usize].to_vec();
        }
        Ok(Cow::Owned(out))
    }

    fn extent(&self, _: usize) -> Option<Extent<'_>> {
        let (piece, start) = self.plain()?;
        let mut extent = piece.tensor.extent()?;
        extent.offset += start;
        Some(extent)
    }

    fn path_of(&self, _: usize) -> &Path {
        self.pieces[0].tensor.path()
    }

    fn is_computed(&self, _: usize) -> bool {
        self.pieces.iter().any(|piece| piece.tensor.is_computed())
    }

    fn origin(&self, index: usize, element: u64) -> Origin<'_> {
        let cols = self.cols.max(1);
        let (row, col) = (element as usize / cols, element as usize % cols);
        let stored = self.pieces.iter().find_map(|p| Some((p, p.element(row, col)?)));
        match stored {
            Some((piece, element)) => piece.tensor.origin(element as u64),
            None => Origin { path: self.path_of(index), info: &self.info[0], element },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::RowOrder;
    use crate::tensor::tests::tensor;

    fn factor(rows: usize, cols: usize, first: u8) -> Factor {
        let values: Vec<f32> = (0..rows * cols).map(|i| f32::from(first) + i as f32).collect();
        Factor::matrix(tensor("w", &[rows, cols], &values), rows, cols)
    }

    #[test]
    fn pieces_stand_where_they_are_put() {
        let placed = vec![(factor(2, 3, 1), 0, 0), (factor(3, 2, 10).transposed(), 2, 1)];
        let mosaic = TensorRef::assembled(placed, 4, vec![4, 4]).unwrap();
        #[rustfmt::skip]
        let expected = [
            1.0, 2.0, 3.0, 0.0,
            4.0, 5.0, 6.0, 0.0,
            0.0, 10.0, 12.0, 14.0,
            0.0, 11.0, 13.0, 15.0,
        ];
        assert_eq!(mosaic.values().unwrap(), expected);
        assert!(mosaic.extent().is_none());
    }

    #[test]
    fn every_range_reads_as_the_whole_does() {
        let order = RowOrder::of_rows([2, 0, 1]);
        let views = [
            factor(4, 3, 0),
            factor(4, 3, 0).transposed(),
            factor(4, 6, 0).take_cols(1, 2, 3),
            factor(3, 5, 0).gather_rows(&order),
            factor(6, 2, 0).take_rows(1, 2, 3),
        ];
        for view in views {
            let mosaic = view.to_tensor(vec![view.rows, view.cols]).unwrap();
            assert_eq!(mosaic.values().unwrap(), view.load().unwrap());
            let whole = mosaic.read(0..mosaic.info().byte_len()).unwrap().into_owned();
            for start in 0..whole.len() {
                for end in start + 1..=whole.len() {
                    let part = mosaic.read(start as u64..end as u64).unwrap();
                    assert_eq!(*part, whole[start..end], "{start}..{end}");
                }
            }
        }
    }
}
