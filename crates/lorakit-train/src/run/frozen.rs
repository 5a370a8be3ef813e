//! What enters the lowest trained layer, on disk: later epochs skip the layers below it.

use std::path::Path;

use lorakit_tensor::{Spill, publish};

use crate::data::Document;
use crate::kernel::Products;
use crate::model::Model;

/// Where the states of each row are. They are f32, so that gradients have the same bits with and without; the file has
/// no name, so nothing is left of it however the run ends.
pub(crate) struct Frozen {
    spill: Spill,
    offsets: Vec<Option<u64>>,
    layer: usize,
}

impl Frozen {
    /// A file for the states of `rows`, if there are layers below `layer`, and the disk of `folder` has room.
    pub(crate) fn new(model: &Model, layer: usize, rows: &[Document], folder: &Path) -> Option<Self> {
        let tokens: u64 = rows.iter().map(|row| row.tokens.len() as u64).sum();
        let bytes = tokens * 4 * model.shape.hidden as u64;
        let room = publish::free_space(&folder.join("x")).ok()?;
        if layer == 0 || bytes > room / 10 * 8 {
            return None;
        }
        Some(Self { spill: Spill::in_folder(folder).ok()?, offsets: vec![None; rows.len()], layer })
    }

    /// What enters the layer for these rows, one after another: `(tokens, hidden)`. None if the disk failed; then they are
    /// computed as without it.
    pub(crate) fn states(
        &mut self,
        model: &Model,
        rows: &[Document],
        chosen: &[usize],
        products: Products,
    ) -> Option<Vec<f32>> {
        let width = model.shape.hidden;
        let offsets: Option<Vec<u64>> = chosen.iter().map(|row| self.offsets[*row]).collect();
        if let Some(offsets) = offsets {
            let mut states = Vec::new();
            for (row, offset) in chosen.iter().zip(offsets) {
                let bytes = self.spill.read(offset, rows[*row].tokens.len() * width * 4).ok()?;
                let (values, _) = bytes.as_chunks::<4>();
                states.extend(values.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
            return Some(states);
        }
        let tokens: Vec<u32> = chosen.iter().flat_map(|row| &rows[*row].tokens).copied().collect();
        let lengths: Vec<usize> = chosen.iter().map(|row| rows[*row].tokens.len()).collect();
        let states = model.states(&tokens, &lengths, self.layer, products);
        let mut rest = states.as_slice();
        for (row, length) in chosen.iter().zip(lengths) {
            let (own, after) = rest.split_at(length * width);
            rest = after;
            if self.offsets[*row].is_none() {
                let bytes: Vec<u8> = own.iter().flat_map(|value| value.to_le_bytes()).collect();
                self.offsets[*row] = Some(self.spill.push(&bytes).ok()?);
            }
        }
        Some(states)
    }
}
