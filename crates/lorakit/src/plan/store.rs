//! How values become the bytes of an output tensor, and what a reader will see of them.

use std::ops::Range;

use lorakit_quant::{Codec, Encoder, codec, encoder};
use lorakit_tensor::DType;

use super::Problem;
use super::kernel;
use super::largest::Largest;
use super::pack::Packed;
use super::recipe::{Compute, Importance};
use crate::{Error, Result};

/// Values worked on at a time; three such buffers of f32 fit a second-level cache.
const PIECE: usize = 1 << 14;

/// Rows longer than this are worked on one by one, to bound the memory.
const WIDE: usize = 1 << 17;

/// From this value on, an F16 is infinite.
const F16_END: f32 = 65520.0;

/// The form in which a computed tensor is stored.
pub(super) enum Store<'a> {
    /// Blocks of one type.
    Blocks { encoder: &'static dyn Encoder, decoder: &'static dyn Codec, importance: Option<&'a Importance> },
    /// Codes, with scales in another tensor.
    Packed { packed: &'a Packed, largest: Option<Largest> },
}

impl<'a> Store<'a> {
    /// The form of a tensor of `dtype` that `compute` produces.
    pub(super) fn new(compute: &'a Compute, dtype: DType, name: &str) -> Result<Self> {
        if let Some(packed) = &compute.packing {
            let packing = packed.packing;
            let pieces =
                || compute.rows.div_ceil(rows_of_piece(compute.cols, packing.rows_together(compute.cols)));
            let largest = packing.needs_largest().then(|| Largest::new(pieces()));
            return Ok(Store::Packed { packed, largest });
        }
        match (encoder(dtype), codec(dtype)) {
            (Some(encoder), Some(decoder)) => {
                Ok(Store::Blocks { encoder, decoder, importance: compute.importance.as_ref() })
            }
            _ => Err(Error::from(Problem::NoEncoder { dtype }).tensor(name)),
        }
    }

    /// Bytes of `values` values.
    pub(super) fn bytes(&self, values: usize) -> usize {
        match self {
            Store::Blocks { encoder, .. } => encoder.dtype().byte_len(values as u64).unwrap_or(0) as usize,
            Store::Packed { packed, .. } => packed.packing.code_bytes(values),
        }
    }

    /// Rows that must be stored together.
    pub(super) fn rows_together(&self, cols: usize) -> usize {
        match self {
            Store::Blocks { .. } => 1,
            Store::Packed { packed, .. } => packed.packing.rows_together(cols),
        }
    }

    /// The search for the largest magnitude, which must be over before anything is stored.
    pub(super) fn largest(&self) -> Option<&Largest> {
        match self {
            Store::Packed { largest, .. } => largest.as_ref(),
            Store::Blocks { .. } => None,
        }
    }

    /// What must be able to hold the values, for messages.
    pub(super) fn description(&self) -> String {
        match self {
            Store::Blocks { encoder, .. } => encoder.dtype().name().into(),
            Store::Packed { packed, .. } if packed.dtype == DType::F16 => {
                format!("{} that is read as F16", packed.packing.name())
            }
            Store::Packed { packed, .. } => packed.packing.name().into(),
        }
    }

    /// Stores the rows `rows` in `out`, and their scales at the end of `scales`; `values` become what a reader
    /// will see.
    pub(super) fn put(
        &self,
        rows: &Range<usize>,
        cols: usize,
        values: &mut [f32],
        out: &mut [u8],
        scales: &mut Vec<f32>,
    ) {
        match self {
            Store::Blocks { encoder, decoder, importance } => {
                match importance {
                    None => encoder.encode(values, out),
                    Some(importance) => put_weighted(*encoder, importance, rows, cols, values, out),
                }
                decoder.decode(out, values);
            }
            Store::Packed { packed, largest } => {
                let largest = largest.as_ref().map_or(0.0, Largest::so_far);
                packed.packing.encode(cols, largest, values, out, scales);
                if packed.dtype == DType::F16 {
                    values.iter_mut().filter(|v| v.abs() >= F16_END).for_each(|v| *v *= f32::INFINITY);
                }
            }
        }
    }

    /// Brings the bytes and scales of a panel, whose rows were put one after another, into the order of the file.
    pub(super) fn arrange(&self, cols: usize, bytes: &mut Vec<u8>, scales: &mut Vec<f32>) {
        if let Store::Packed { packed, .. } = self {
            packed.arrange(cols, bytes, scales);
        }
    }

    /// Rounds `values` to the stored type, using `room` for the bytes.
    pub(super) fn round(&self, values: &mut [f32], room: &mut [u8]) {
        if let Store::Blocks { encoder, decoder, .. } = self {
            encoder.encode(values, room);
            decoder.decode(room, values);
        }
    }
}

/// Encodes runs of rows that share a set of importances.
fn put_weighted(
    encoder: &dyn Encoder,
    importance: &Importance,
    rows: &Range<usize>,
    cols: usize,
    values: &[f32],
    out: &mut [u8],
) {
    let row_bytes = out.len() / rows.len().max(1);
    let mut start = rows.start;
    while start < rows.end {
        let set = start / importance.rows_each;
        let end = rows.end.min((set + 1) * importance.rows_each);
        let run = start - rows.start..end - rows.start;
        encoder.encode_weighted(
            &values[run.start * cols..run.end * cols],
            &importance.values[set * cols..][..cols],
            &mut out[run.start * row_bytes..run.end * row_bytes],
        );
        start = end;
    }
}

/// As many rows as the product's kernel takes at a time, except where a few rows are a tensor of their own; always
/// whole groups of rows that must be stored together.
pub(super) fn rows_of_piece(cols: usize, together: usize) -> usize {
    let rows = if cols > WIDE { 1 } else { (PIECE / cols.max(1)).max(1).next_multiple_of(kernel::ROWS) };
    rows.next_multiple_of(together)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stack of experts is encoded as each of them would be alone, wherever a panel begins and ends.
    #[test]
    fn each_expert_has_its_own_importances() {
        const COLS: usize = 256;
        const EACH: usize = 3;
        let number = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0;
        let values: Vec<f32> = (0..2 * EACH * COLS).map(number).collect();
        let of_column = |i: usize| if (i < COLS) == (i % COLS < COLS / 2) { 100.0 } else { 0.01 };
        let importances: Vec<f32> = (0..2 * COLS).map(of_column).collect();
        let encoder = encoder(DType::Q4_K).unwrap();
        let row_bytes = DType::Q4_K.byte_len(COLS as u64).unwrap() as usize;
        let mut alone = vec![0; 2 * EACH * row_bytes];
        let experts = values.chunks(EACH * COLS).zip(alone.chunks_mut(EACH * row_bytes));
        for ((values, out), importance) in experts.zip(importances.chunks(COLS)) {
            encoder.encode_weighted(values, importance, out);
        }
        let swapped = {
            let mut out = vec![0; EACH * row_bytes];
            encoder.encode_weighted(&values[EACH * COLS..], &importances[..COLS], &mut out);
            out
        };
        assert_ne!(swapped, alone[EACH * row_bytes..], "importances matter");

        let importance = Importance { values: importances.into(), rows_each: EACH };
        for panels in [std::iter::once(0..6).collect(), vec![0..2, 2..5, 5..6], vec![0..3, 3..6]] {
            let mut out = vec![0; alone.len()];
            for rows in panels {
                let values = &values[rows.start * COLS..rows.end * COLS];
                let out = &mut out[rows.start * row_bytes..rows.end * row_bytes];
                put_weighted(encoder, &importance, &rows, COLS, values, out);
            }
            assert_eq!(out, alone);
        }
    }
}
