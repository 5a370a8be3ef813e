//! The view of a checkpoint in which packed tensors are decoded as they are read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lorakit_quant::encoder;
use lorakit_tensor::{Checkpoint, Error, Extent, Result, TensorInfo, TensorSource};

use super::Problem;
use super::scheme::{Packed, Weight};
use crate::error::of_file;

/// A checkpoint with its packed tensors unpacked.
pub(super) struct PackedView {
    stored: Arc<Checkpoint>,
    tensors: Vec<TensorInfo>,
    parts: Vec<Part>,
    index: HashMap<String, usize>,
}

enum Part {
    /// A stored tensor, as it is.
    Stored(usize),
    /// A weight in place of a stored tensor.
    Packed(usize, Box<dyn Weight>),
}

impl PackedView {
    /// Makes the view of `stored` that shows the weights `packed`, sorted by their places, and returns their positions.
    pub(super) fn new(stored: Arc<Checkpoint>, packed: Vec<Packed>) -> crate::Result<(Self, Vec<usize>)> {
        let corrupt = |index: usize, name: &str, problem: Problem| {
            crate::Error::from(problem).tensor(name).at(stored.path_of(index))
        };
        if let Some(twice) = packed.windows(2).find(|pair| pair[0].codes == pair[1].codes) {
            let index = twice[0].codes;
            return Err(corrupt(index, &stored.tensors()[index].name, Problem::DescribedTwice));
        }
        let mut hidden = vec![false; stored.tensors().len()];
        packed.iter().flat_map(|p| &p.sidecars).for_each(|&sidecar| hidden[sidecar] = true);
        let mut view = PackedView {
            tensors: Vec::new(),
            parts: Vec::new(),
            index: HashMap::new(),
            stored: Arc::clone(&stored),
        };
        let mut packed = packed.into_iter().peekable();
        let mut positions = Vec::new();
        for (index, info) in stored.tensors().iter().enumerate() {
            let (info, part) = match packed.next_if(|p| p.codes == index) {
                Some(p) => {
                    positions.push(view.tensors.len());
                    (p.weight.info().clone(), Part::Packed(index, p.weight))
                }
                None if hidden[index] => continue,
                None => (info.clone(), Part::Stored(index)),
            };
            if view.index.insert(info.name.clone(), view.tensors.len()).is_some() {
                return Err(corrupt(index, &info.name, Problem::StoredTwice));
            }
            view.tensors.push(info);
            view.parts.push(part);
        }
        Ok((view, positions))
    }
}

impl TensorSource for PackedView {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    fn read(&self, index: usize, bytes: Range<u64>) -> Result<Cow<'_, [u8]>> {
        /// Number of values decoded at a time, few enough to stay in a cache.
        const PIECE: u64 = 1 << 16;
        let (stored, weight) = match &self.parts[index] {
            Part::Stored(stored) => return self.stored.read(*stored, bytes),
            Part::Packed(stored, weight) => (*stored, weight),
        };
        let info = weight.info();
        let name = |e: Error| e.tensor(&info.name).at(self.stored.path_of(stored));
        let encoder =
            encoder(info.dtype).ok_or_else(|| name(of_file(Problem::NoEncoder { dtype: info.dtype })))?;
        let size = info.dtype.block().bytes as u64;
        // Whole values that cover the range, cut afterwards.
        let (first, end) = (bytes.start / size, bytes.end.div_ceil(size));
        let mut read = vec![0; ((end - first) * size) as usize];
        let mut values = vec![0.0; (end - first).min(PIECE) as usize];
        for (start, encoded) in
            (first..end).step_by(PIECE as usize).zip(read.chunks_mut((PIECE * size) as usize))
        {
            let values = &mut values[..encoded.len() / size as usize];
            weight.decode(&self.stored, start, values).map_err(name)?;
            encoder.encode(values, encoded);
        }
        let cut = (bytes.start - first * size) as usize;
        read.truncate(cut + (bytes.end - bytes.start) as usize);
        read.drain(..cut);
        Ok(Cow::Owned(read))
    }

    fn extent(&self, index: usize) -> Option<Extent<'_>> {
        match self.parts[index] {
            Part::Stored(stored) => self.stored.extent(stored),
            Part::Packed(..) => None,
        }
    }

    fn path_of(&self, index: usize) -> &Path {
        let (Part::Stored(stored) | Part::Packed(stored, _)) = self.parts[index];
        self.stored.path_of(stored)
    }

    fn is_computed(&self, index: usize) -> bool {
        matches!(self.parts[index], Part::Packed(..))
    }
}
