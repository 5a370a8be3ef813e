//! A GGUF file seen as the Hugging Face checkpoint from which it was made: names translated, rows put back in order,
//! experts taken out of their stacks.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lorakit_tensor::{Checkpoint, Extent, Origin, Result, TensorInfo, TensorSource};

use super::tensors::{HfTensor, RowMap};

/// A view of a GGUF checkpoint. Values stay as they are stored; only names and row order differ.
#[derive(Debug)]
pub(crate) struct HfView {
    gguf: Arc<Checkpoint>,
    mapped: Vec<HfTensor>,
    tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
}

impl HfView {
    /// The view of `gguf` that `mapped` describes.
    pub(crate) fn new(gguf: Arc<Checkpoint>, mapped: Vec<HfTensor>) -> Self {
        let info = |t: &HfTensor| {
            let stored = &gguf.tensors()[t.source];
            let outer = usize::from(matches!(t.rows, RowMap::Expert(_)));
            let shape = stored.shape.get(outer..).unwrap_or_default().to_vec();
            TensorInfo { name: t.name.clone(), dtype: stored.dtype, shape }
        };
        let tensors: Vec<TensorInfo> = mapped.iter().map(info).collect();
        let index = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        HfView { gguf, mapped, tensors, index }
    }
}

impl TensorSource for HfView {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    fn read(&self, index: usize, bytes: Range<u64>) -> Result<Cow<'_, [u8]>> {
        let HfTensor { source, rows, .. } = &self.mapped[index];
        let info = &self.tensors[index];
        let permutation = match rows {
            RowMap::Identity => return self.gguf.read(*source, bytes),
            RowMap::Expert(expert) => {
                let before = *expert as u64 * info.byte_len();
                return self.gguf.read(*source, before + bytes.start..before + bytes.end);
            }
            RowMap::Permuted(permutation) => permutation,
        };
        let rows = info.shape.first().copied().unwrap_or(1).max(1);
        let row_bytes = info.byte_len() / rows as u64;
        if bytes.is_empty() || row_bytes == 0 {
            return Ok(Cow::Owned(Vec::new()));
        }
        // Whole rows that cover the range, gathered one by one and cut afterwards.
        let (first, last) = (bytes.start / row_bytes, (bytes.end - 1) / row_bytes);
        let mut gathered = Vec::with_capacity(((last + 1 - first) * row_bytes) as usize);
        for row in first..=last {
            let from = permutation.gguf_row(row as usize) as u64 * row_bytes;
            gathered.extend_from_slice(&self.gguf.read(*source, from..from + row_bytes)?);
        }
        let start = (bytes.start - first * row_bytes) as usize;
        gathered.truncate(start + (bytes.end - bytes.start) as usize);
        gathered.drain(..start);
        Ok(Cow::Owned(gathered))
    }

    fn extent(&self, index: usize) -> Option<Extent<'_>> {
        let HfTensor { source, rows, .. } = &self.mapped[index];
        let mut extent = self.gguf.extent(*source)?;
        match rows {
            RowMap::Identity => {}
            RowMap::Expert(expert) => extent.offset += *expert as u64 * self.tensors[index].byte_len(),
            RowMap::Permuted(_) => return None,
        }
        Some(extent)
    }

    fn path_of(&self, index: usize) -> &Path {
        self.gguf.path_of(self.mapped[index].source)
    }

    fn origin(&self, index: usize, element: u64) -> Origin<'_> {
        let HfTensor { source, rows, .. } = &self.mapped[index];
        let info = &self.tensors[index];
        let element = match rows {
            RowMap::Identity => element,
            RowMap::Expert(expert) => *expert as u64 * info.elements() + element,
            RowMap::Permuted(permutation) => {
                let cols = info.rows_cols().1.max(1) as u64;
                permutation.gguf_row((element / cols) as usize) as u64 * cols + element % cols
            }
        };
        self.gguf.origin(*source, element)
    }
}
