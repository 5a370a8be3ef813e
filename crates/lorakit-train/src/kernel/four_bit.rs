//! NF4 and FP4 as bitsandbytes packs them.

use std::ops::Range;

use lorakit_quant::bnb::{FourBit, double_quant};

use super::FrozenMatrix;
use super::fetch::fetch;
use super::frozen::{fetch_after, row_slices};
use super::row::{self, Input, ROWS};

/// Scales of blocks.
#[derive(Debug, Clone)]
pub enum Scales {
    /// As they are.
    Plain(Vec<f32>),
    /// Themselves quantised: see [`double_quant`].
    Double {
        /// A code for each block.
        codes: Vec<u8>,
        /// A scale for each 256 codes.
        nested: Vec<f32>,
        /// The value of each code.
        map: Box<[f32; 256]>,
        /// The mean of all scales.
        offset: f32,
    },
}

impl Scales {
    /// How many there are.
    fn len(&self) -> usize {
        match self {
            Scales::Plain(scales) => scales.len(),
            Scales::Double { codes, nested, .. } => codes.len().min(nested.len() * double_quant::BLOCK),
        }
    }

    /// The scales from `first` on.
    fn get(&self, first: usize, scales: &mut [f32]) {
        match self {
            Scales::Plain(all) => scales.copy_from_slice(&all[first..][..scales.len()]),
            Scales::Double { codes, nested, map, offset } => {
                let block = first / double_quant::BLOCK;
                let (codes, nested) = (&codes[block * double_quant::BLOCK..], &nested[block..]);
                double_quant::decode(codes, nested, map, *offset, first % double_quant::BLOCK, scales);
            }
        }
    }
}

/// Weights of 4 bits. Blocks run over all values in order and may cross rows.
#[derive(Debug, Clone)]
pub struct FourBitMatrix<B = Vec<u8>> {
    kind: FourBit,
    codes: B,
    scales: Scales,
    block: usize,
    rows: usize,
    cols: usize,
}

/// Values in a block that the fast decoders know.
const BLOCK: usize = 64;

/// Blocks that are decoded at a time.
const BLOCKS: usize = 16;

impl<B: AsRef<[u8]>> FourBitMatrix<B> {
    /// The weight `(rows, cols)` in `codes`, with a scale for each `block` values. `None` if there are not as many of
    /// both, or `block` is odd or zero.
    pub fn new(
        kind: FourBit,
        codes: B,
        scales: Scales,
        block: usize,
        rows: usize,
        cols: usize,
    ) -> Option<FourBitMatrix<B>> {
        let values = rows.checked_mul(cols)?;
        let even = block > 0 && block.is_multiple_of(2);
        let fits =
            even && codes.as_ref().len() == values.div_ceil(2) && scales.len() == values.div_ceil(block);
        fits.then_some(FourBitMatrix { kind, codes, scales, block, rows, cols })
    }

    fn decode_any(&self, first: usize, out: &mut [f32]) {
        let (block, end) = (first / self.block, (first + out.len()).div_ceil(self.block));
        let mut scales = vec![0.0; end - block];
        self.scales.get(block, &mut scales);
        let codes = &self.codes.as_ref()[block * self.block / 2..];
        self.kind.decode(codes, &scales, self.block, first % self.block, out);
    }
}

impl FourBitMatrix {
    /// Quantises `(rows, cols)` values in blocks of 64, and with `double` the scales too.
    ///
    /// # Panics
    /// If `values` are not whole rows.
    pub fn encode(kind: FourBit, values: &[f32], cols: usize, double: bool) -> FourBitMatrix {
        assert!(values.is_empty() || cols > 0 && values.len().is_multiple_of(cols), "rows of {cols} values");
        let mut codes = vec![0; values.len().div_ceil(2)];
        let mut absmax = vec![0.0; values.len().div_ceil(BLOCK)];
        kind.encode(values, BLOCK, &mut codes, &mut absmax);
        let scales = if double {
            let offset = double_quant::offset(&absmax);
            let mut nested = vec![0.0; absmax.len().div_ceil(double_quant::BLOCK)];
            let mut codes = vec![0; absmax.len()];
            double_quant::encode(&absmax, offset, double_quant::Rounding::default(), &mut codes, &mut nested);
            Scales::Double { codes, nested, map: Box::new(double_quant::MAP), offset }
        } else {
            Scales::Plain(absmax)
        };
        let rows = values.len().checked_div(cols).unwrap_or(0);
        FourBitMatrix { kind, codes, scales, block: BLOCK, rows, cols }
    }
}

impl<B: AsRef<[u8]> + Send + Sync> FrozenMatrix for FourBitMatrix<B> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        let first = row * self.cols + cols.start;
        if self.block != BLOCK || !first.is_multiple_of(BLOCK) {
            return self.decode_any(first, out);
        }
        let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
        let whole = blocks.len();
        let codes = self.codes.as_ref()[first / 2..].as_chunks::<{ BLOCK / 2 }>().0;
        let mut scales = [0.0; BLOCKS];
        let mut done = 0;
        while done < whole {
            let end = whole.min(done + BLOCKS);
            let scales = &mut scales[..end - done];
            self.scales.get(first / BLOCK + done, scales);
            decode_blocks(self.kind, &codes[done..end], scales, &mut blocks[done..end]);
            done = end;
        }
        if !rest.is_empty() {
            self.decode_any(first + whole * BLOCK, rest);
        }
    }

    fn fetch(&self, row: usize, cols: Range<usize>) {
        let first = row * self.cols;
        fetch(&self.codes.as_ref()[(first + cols.start) / 2..(first + cols.end).div_ceil(2)]);
    }

    fn products(&self, input: &Input<'_>, rows: Range<usize>, out: &mut [f32]) {
        let whole = self.block == BLOCK && self.cols.is_multiple_of(BLOCK);
        let Some((find, x)) = input.four_bit().filter(|_| whole) else {
            return input.decoded(self, rows, out);
        };
        let codes = self.codes.as_ref();
        let width = self.cols / BLOCK;
        let mut scales = vec![0.0; ROWS * width];
        row::each(rows, 1, out, |numbers, out| {
            fetch_after(codes, self.cols / 2, numbers);
            let first = numbers[0];
            let scales = &mut scales[..(numbers[ROWS - 1] + 1 - first) * width];
            self.scales.get(first * width, scales);
            let scales = row_slices(scales, width, numbers.map(|number| number - first));
            let codes = row_slices(codes.as_chunks().0, width, numbers);
            out.copy_from_slice(&find(self.kind.table(), codes, scales, x)[..out.len()]);
        });
    }
}

/// Decodes blocks: each has its scale multiplied into the table, so that a value is one lookup.
fn decode_blocks(kind: FourBit, codes: &[[u8; BLOCK / 2]], scales: &[f32], blocks: &mut [[f32; BLOCK]]) {
    #[cfg(target_arch = "x86_64")]
    {
        if super::avx512::decode_four_bit(kind.table(), codes, scales, blocks) {
            return;
        }
        if super::avx2::decode_four_bit(kind.table(), codes, scales, blocks) {
            return;
        }
    }
    kind.decode(codes.as_flattened(), scales, BLOCK, 0, blocks.as_flattened_mut());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every range decodes to what `lorakit-quant` makes of the whole, also where blocks cross rows.
    #[test]
    fn ranges_decode_like_the_whole() {
        for (rows, cols) in [(5, 64), (3, 320), (7, 100), (2, 2368)] {
            let values: Vec<f32> =
                (0..rows * cols).map(|i| ((i * 37 % 1009) as f32 - 500.0) / 77.0).collect();
            for (kind, double) in FourBit::ALL.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
                let matrix = FourBitMatrix::encode(kind, &values, cols, double);
                let mut scales = vec![0.0; matrix.scales.len()];
                matrix.scales.get(0, &mut scales);
                let mut whole = vec![0.0; values.len()];
                kind.decode(&matrix.codes, &scales, 64, 0, &mut whole);
                for row in 0..rows {
                    for start in (0..cols).step_by(64) {
                        let mut part = vec![f32::NAN; cols - start];
                        matrix.decode(row, start..cols, &mut part);
                        assert_eq!(part, whole[row * cols + start..][..part.len()], "{kind:?} {row} {start}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_none() {
        let scales = |n| Scales::Plain(vec![1.0; n]);
        assert!(FourBitMatrix::new(FourBit::Nf4, vec![0; 64], scales(2), 64, 2, 64).is_some());
        assert!(FourBitMatrix::new(FourBit::Nf4, vec![0; 63], scales(2), 64, 2, 64).is_none());
        assert!(FourBitMatrix::new(FourBit::Nf4, vec![0; 64], scales(1), 64, 2, 64).is_none());
        assert!(FourBitMatrix::new(FourBit::Nf4, vec![0; 64], scales(2), 0, 2, 64).is_none());
    }
}
