//! Tensors made of rows of other tensors; recipes read them like tensors of files.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lorakit_tensor::{Extent, Origin, Result as TensorResult, TensorInfo, TensorSource};

use super::{Problem, RowOrder};
use crate::{Error, Result, TensorRef};

/// Rows taken from several tensors, one tensor after another.
struct Rows {
    info: [TensorInfo; 1],
    parts: Vec<Part>,
    row_bytes: u64,
}

/// Rows of one tensor, and the row of the view at which they start.
struct Part {
    tensor: TensorRef,
    order: RowOrder,
    start: usize,
}

impl TensorRef {
    /// Returns the tensor of shape `shape` whose rows are rows of `parts`, all with the same dtype and `cols` columns.
    ///
    /// # Errors
    /// `Unsupported` if rows do not begin at whole blocks, or dtypes differ.
    pub(crate) fn of_rows(parts: Vec<(TensorRef, RowOrder)>, cols: usize, shape: Vec<usize>) -> Result<Self> {
        let Some(first) = parts.first().map(|(tensor, _)| tensor.info().clone()) else {
            return Err(Problem::NoRows.into());
        };
        if let Some((other, _)) = parts.iter().find(|(tensor, _)| tensor.info().dtype != first.dtype) {
            let problem = Problem::RowTypes { dtype: other.info().dtype, others: first.dtype };
            return Err(Error::from(problem).tensor(&other.info().name));
        }
        let Some(row_bytes) = first.dtype.byte_len(cols as u64) else {
            return Err(Error::from(Problem::PartOfBlock { cols, dtype: first.dtype }).tensor(&first.name));
        };
        let mut start = 0;
        let parts = parts.into_iter().map(|(tensor, order)| {
            let part = Part { start, tensor, order };
            start += part.order.len();
            part
        });
        let parts: Vec<Part> = parts.collect();
        let known = parts.iter().all(|part| part.tensor.is_known_finite());
        let rows = Rows { parts, info: [TensorInfo { shape, ..first }], row_bytes };
        let tensor = TensorRef::new(Arc::new(rows), 0);
        Ok(if known { tensor.known_finite() } else { tensor })
    }
}

impl Rows {
    /// The runs of stored rows that make up the rows `rows` of the view.
    fn runs(&self, rows: Range<usize>) -> impl Iterator<Item = (&TensorRef, Range<usize>)> {
        self.parts.iter().flat_map(move |part| {
            let end = part.start + part.order.len();
            let start = rows.start.clamp(part.start, end) - part.start;
            let end = rows.end.clamp(part.start, end) - part.start;
            part.order.sources(start..end).map(|source| (&part.tensor, source))
        })
    }
}

impl TensorSource for Rows {
    fn tensors(&self) -> &[TensorInfo] {
        &self.info
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.info.iter().position(|info| info.name == name)
    }

    fn read(&self, _: usize, bytes: Range<u64>) -> TensorResult<Cow<'_, [u8]>> {
        if bytes.is_empty() {
            return Ok(Cow::Borrowed(&[]));
        }
        // Whole rows that cover the range; the first and the last may be cut.
        let rows = (bytes.start / self.row_bytes) as usize..bytes.end.div_ceil(self.row_bytes) as usize;
        let mut skip = bytes.start % self.row_bytes;
        let mut left = bytes.end - bytes.start;
        let mut gathered = Vec::new();
        for (tensor, source) in self.runs(rows) {
            let start = source.start as u64 * self.row_bytes + skip;
            let end = (source.end as u64 * self.row_bytes).min(start + left);
            let piece = tensor.stored(start..end)?;
            if end - start == bytes.end - bytes.start {
                return Ok(piece);
            }
            gathered.reserve_exact(if gathered.is_empty() { left as usize } else { 0 });
            gathered.extend_from_slice(&piece);
            left -= end - start;
            skip = 0;
        }
        Ok(Cow::Owned(gathered))
    }

    fn extent(&self, _: usize) -> Option<Extent<'_>> {
        let mut runs = self.runs(0..usize::MAX);
        let (Some((tensor, rows)), None) = (runs.next(), runs.next()) else { return None };
        let mut extent = tensor.extent()?;
        extent.offset += rows.start as u64 * self.row_bytes;
        Some(extent)
    }

    fn path_of(&self, _: usize) -> &Path {
        self.parts[0].tensor.path()
    }

    fn is_computed(&self, _: usize) -> bool {
        self.parts.iter().any(|part| part.tensor.is_computed())
    }

    fn origin(&self, index: usize, element: u64) -> Origin<'_> {
        let block = self.info[0].dtype.block();
        let cols = (self.row_bytes / block.bytes as u64 * block.elements as u64).max(1);
        let row = (element / cols) as usize;
        match self.runs(row..row + 1).next() {
            Some((tensor, source)) => tensor.origin(source.start as u64 * cols + element % cols),
            None => Origin { path: self.path_of(index), info: &self.info[0], element },
        }
    }
}
