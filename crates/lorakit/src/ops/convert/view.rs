//! A GGUF file seen as the Hugging Face checkpoint it was made from: names translated, rows put back in order.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lorakit_tensor::{Checkpoint, Extent, Result, TensorInfo, TensorSource};

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
        let info = |t: &HfTensor| TensorInfo { name: t.name.clone(), ..gguf.tensors()[t.source].clone() };
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
        let RowMap::Permuted(permutation) = rows else { return self.gguf.read(*source, bytes) };
        let info = &self.tensors[index];
        let rows = info.shape.first().copied().unwrap_or(1).max(1);
        let row_bytes = info.byte_len() / rows as u64;
        if bytes.is_empty() || row_bytes == 0 {
            return Ok(Cow::Owned(Vec::new()));
        }
        // Whole rows that cover the range, gathered one by one, then cut.
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
        match self.mapped[index].rows {
            RowMap::Identity => self.gguf.extent(self.mapped[index].source),
            RowMap::Permuted(_) => None,
        }
    }

    fn path_of(&self, index: usize) -> &Path {
        self.gguf.path_of(self.mapped[index].source)
    }
}
