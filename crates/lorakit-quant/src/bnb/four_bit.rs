//! `NF4` and `FP4`: 4-bit codes into a table, one `f32` scale for each block.
//!
//! ```text
//! byte i: value 2i (bits 4–7), value 2i + 1 (bits 0–3)      value = table[code] · absmax of its block
//! ```
//!
//! A code is found by counting: the table's values in ascending order have 15 midpoints, and a value belongs to the
//! entry that follows the midpoints below it. The counts are taken from above (`code = 15 - midpoints not below`), so a
//! NaN, for which every comparison is false, gets the last code, as in bitsandbytes.

use super::table::{FP4, FP4_CUTS, FP4_ORDER, FP4_PAIRS, NF4, NF4_CUTS, NF4_ORDER, NF4_PAIRS};
use crate::float::absmax;
use crate::pair::{self, Pairs};

/// Block sizes of bitsandbytes, in values.
pub const BLOCK_SIZES: [usize; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/// What replaces a scale of zero before a block is divided by it.
const SMALLEST_SCALE: f32 = 1e-38;

/// A 4-bit type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FourBit {
    /// NormalFloat: quantiles of the normal distribution, with an exact zero.
    Nf4,
    /// A float with a sign, two exponent bits and one mantissa bit, scaled so that the largest is 1.
    Fp4,
}

impl FourBit {
    /// Both types.
    pub const ALL: [FourBit; 2] = [FourBit::Nf4, FourBit::Fp4];

    /// `nf4` or `fp4`, as checkpoints spell it.
    pub const fn name(self) -> &'static str {
        match self {
            FourBit::Nf4 => "nf4",
            FourBit::Fp4 => "fp4",
        }
    }

    /// The type called `name`.
    pub fn from_name(name: &str) -> Option<FourBit> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }

    /// The value of each code.
    pub fn table(self) -> &'static [f32; 16] {
        match self {
            FourBit::Nf4 => &NF4,
            FourBit::Fp4 => &FP4,
        }
    }

    /// Encodes a whole tensor: [`Self::encode_blocks`], then [`Self::encode_tail`] for what is left.
    ///
    /// # Panics
    /// If `block_size` is not one of [`BLOCK_SIZES`], or if `codes` are not `ceil(n / 2)` bytes and `absmax`
    /// `ceil(n / block_size)` values for the `n` values.
    pub fn encode(self, values: &[f32], block_size: usize, codes: &mut [u8], absmax: &mut [f32]) {
        assert!(BLOCK_SIZES.contains(&block_size), "blocks of {block_size} values");
        assert_eq!(codes.len(), values.len().div_ceil(2));
        assert_eq!(absmax.len(), values.len().div_ceil(block_size));
        let whole = values.len() / block_size;
        let (blocks, tail) = values.split_at(whole * block_size);
        let (codes, tail_codes) = codes.split_at_mut(blocks.len() / 2);
        let (absmax, tail_absmax) = absmax.split_at_mut(whole);
        self.encode_blocks(blocks, block_size, codes, absmax);
        if let [absmax] = tail_absmax {
            *absmax = self.encode_tail(tail, tail_codes);
        }
    }

    /// Encodes whole blocks: any part of a tensor that starts and ends at block boundaries.
    ///
    /// A NaN makes the scale of its block NaN, and an infinity makes it infinite.
    ///
    /// # Panics
    /// If `block_size` is not one of [`BLOCK_SIZES`], or if `values` and `codes` are not `absmax.len()` blocks.
    pub fn encode_blocks(self, values: &[f32], block_size: usize, codes: &mut [u8], absmax: &mut [f32]) {
        wide! {
            fn nf4(values: &[f32], block_size: usize, codes: &mut [u8], absmax: &mut [f32]) {
                encode_blocks(&NF4_CUTS, &NF4_ORDER, values, block_size, codes, absmax);
            }
        }
        wide! {
            fn fp4(values: &[f32], block_size: usize, codes: &mut [u8], absmax: &mut [f32]) {
                encode_blocks(&FP4_CUTS, &FP4_ORDER, values, block_size, codes, absmax);
            }
        }
        assert!(BLOCK_SIZES.contains(&block_size), "blocks of {block_size} values");
        assert_eq!(values.len(), absmax.len() * block_size);
        assert_eq!(codes.len(), values.len() / 2);
        match self {
            FourBit::Nf4 => nf4(values, block_size, codes, absmax),
            FourBit::Fp4 => fp4(values, block_size, codes, absmax),
        }
    }

    /// Encodes the last, partial block of a tensor and returns its scale. Here bitsandbytes divides, while it
    /// multiplies whole blocks by the reciprocal, and never makes the scale less than `1e-38`. An odd number of values
    /// is padded with a zero.
    ///
    /// # Panics
    /// If `codes` are not `ceil(n / 2)` bytes.
    pub fn encode_tail(self, values: &[f32], codes: &mut [u8]) -> f32 {
        assert_eq!(codes.len(), values.len().div_ceil(2));
        let absmax = at_least_smallest(absmax(values));
        let (cuts, order) = match self {
            FourBit::Nf4 => (&NF4_CUTS, &NF4_ORDER),
            FourBit::Fp4 => (&FP4_CUTS, &FP4_ORDER),
        };
        let code = |value: f32| code(cuts, order, value) as u8;
        for (pair, byte) in values.chunks(2).zip(codes) {
            *byte = code(pair[0] / absmax) << 4 | pair.get(1).map_or(code(0.0), |v| code(v / absmax));
        }
        absmax
    }

    /// Decodes `values.len()` values, starting at value `skip` of the first block in `codes` and `absmax`:
    /// any range of a tensor, from the bytes and scales of the blocks that it touches.
    ///
    /// # Panics
    /// If `block_size` is odd or zero, or if `codes` or `absmax` end before the values do.
    pub fn decode(self, codes: &[u8], absmax: &[f32], block_size: usize, skip: usize, values: &mut [f32]) {
        assert!(block_size > 0 && block_size.is_multiple_of(2), "blocks of {block_size} values");
        let pairs = match self {
            FourBit::Nf4 => &NF4_PAIRS,
            FourBit::Fp4 => &FP4_PAIRS,
        };
        wide! {
            fn decode(pairs: &Pairs, codes: &[u8], absmax: &[f32], block_size: usize, skip: usize, values: &mut [f32]) {
                let (mut at, mut rest) = (skip, values);
                while !rest.is_empty() {
                    let left = block_size - at % block_size;
                    let (block, after) = rest.split_at_mut(left.min(rest.len()));
                    decode_run(pairs, codes, absmax[at / block_size], at, block);
                    at += block.len();
                    rest = after;
                }
            }
        }
        decode(pairs, codes, absmax, block_size, skip, values);
    }
}

/// Decodes values `at..` of `codes`, all with one scale.
#[inline(always)]
fn decode_run(pairs: &Pairs, codes: &[u8], absmax: f32, at: usize, values: &mut [f32]) {
    // The second value of a byte, if the range starts inside one.
    let (head, values) = values.split_at_mut(at % 2);
    if let [value] = head {
        *value = pairs[usize::from(codes[at / 2])][1] * absmax;
    }
    let first = at.div_ceil(2);
    let codes = &codes[first..first + values.len().div_ceil(2)];
    let ((pieces, rest), (piece_codes, rest_codes)) = (values.as_chunks_mut::<32>(), codes.as_chunks::<16>());
    for (values, codes) in pieces.iter_mut().zip(piece_codes) {
        pair::decode(pairs, codes, absmax, values);
    }
    for (values, code) in rest.chunks_mut(2).zip(rest_codes) {
        pair::decode(pairs, &[*code], absmax, values);
    }
}

/// `a`, or the smallest scale that a block is divided by; NaN stays NaN.
#[inline(always)]
fn at_least_smallest(a: f32) -> f32 {
    if a < SMALLEST_SCALE { SMALLEST_SCALE } else { a }
}

/// The code of a scaled value: the last in the order, less the steps whose cut is not below the value.
#[inline(always)]
fn code(cuts: &[f32; 15], order: &[u8; 16], value: f32) -> u32 {
    let mut code = u32::from(order[15]);
    for (cut, step) in cuts.iter().zip(order.as_slice().windows(2)) {
        let step = u32::from(step[1]).wrapping_sub(u32::from(step[0]));
        code = code.wrapping_sub(if value <= *cut { step } else { 0 });
    }
    code
}

#[inline(always)]
fn encode_blocks(
    cuts: &[f32; 15],
    order: &[u8; 16],
    values: &[f32],
    block_size: usize,
    codes: &mut [u8],
    scales: &mut [f32],
) {
    const PIECE: usize = 32;
    let blocks = values.chunks_exact(block_size).zip(codes.chunks_exact_mut(block_size / 2));
    for ((values, codes), scale) in blocks.zip(scales) {
        *scale = absmax(values);
        let reciprocal = 1.0 / at_least_smallest(*scale);
        let pieces = values.as_chunks::<PIECE>().0.iter().zip(codes.as_chunks_mut::<{ PIECE / 2 }>().0);
        for (values, bytes) in pieces {
            let mut piece = [0u32; PIECE];
            for (code_of, value) in piece.iter_mut().zip(values) {
                *code_of = code(cuts, order, value * reciprocal);
            }
            for (byte, pair) in bytes.iter_mut().zip(piece.as_chunks::<2>().0) {
                *byte = (pair[0] << 4 | pair[1]) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(four_bit: FourBit, values: &[f32]) -> (Vec<u8>, Vec<f32>) {
        let mut codes = vec![0xaa; values.len().div_ceil(2)];
        let mut absmax = vec![-1.0; values.len().div_ceil(64)];
        four_bit.encode(values, 64, &mut codes, &mut absmax);
        (codes, absmax)
    }

    #[test]
    fn every_entry_is_its_own_code() {
        for four_bit in FourBit::ALL {
            let mut values = [0.0; 64];
            values[..16].copy_from_slice(four_bit.table());
            let (codes, absmax) = encode(four_bit, &values);
            let zero = encode(four_bit, &[0.0; 64]).0[0] & 15;
            for code in 0..16 {
                let found = if code % 2 == 0 { codes[code / 2] >> 4 } else { codes[code / 2] & 15 };
                let wanted = if four_bit.table()[code] == 0.0 { zero } else { code as u8 };
                assert_eq!(found, wanted, "{four_bit:?}");
            }
            assert_eq!(absmax, [1.0]);
        }
    }

    #[test]
    fn edges_are_those_of_bitsandbytes() {
        // A block of zeros, and a partial one.
        assert_eq!(encode(FourBit::Nf4, &[0.0; 64]), (vec![0x77; 32], vec![0.0]));
        assert_eq!(encode(FourBit::Nf4, &[-0.0; 64]), (vec![0x77; 32], vec![0.0]));
        assert_eq!(encode(FourBit::Nf4, &[0.0; 3]), (vec![0x77; 2], vec![1e-38]));
        assert_eq!(encode(FourBit::Fp4, &[0.0; 3]), (vec![0x00; 2], vec![1e-38]));
        // An odd number of values is padded with zero.
        assert_eq!(encode(FourBit::Nf4, &[1.0]), (vec![0xf7], vec![1.0]));
        assert_eq!(encode(FourBit::Fp4, &[-1.0]), (vec![0xb0], vec![1.0]));
        // Infinity turns everything else into zero and itself into a NaN, whose code is the last.
        let mut values = [1.0; 64];
        values[0] = f32::INFINITY;
        let (codes, absmax) = encode(FourBit::Nf4, &values);
        assert_eq!((codes[0], &codes[1..], absmax), (0xf7, [0x77; 31].as_slice(), vec![f32::INFINITY]));
        // A NaN turns every value into a NaN.
        values[0] = f32::NAN;
        let (codes, absmax) = encode(FourBit::Nf4, &values);
        assert!(absmax[0].is_nan());
        assert_eq!(codes, [0xff; 32]);
        assert!(encode(FourBit::Fp4, &values[..5]).1[0].is_nan());
        // A scale below the smallest: the block is not scaled to 1.
        let (codes, absmax) = encode(FourBit::Nf4, &[1e-40; 64]);
        assert_eq!((codes, absmax), (vec![0x77; 32], vec![1e-40]));
        // Small values around zero.
        let mut values = [0.002; 64];
        (values[0], values[1]) = (1.0, -0.002);
        assert_eq!(encode(FourBit::Fp4, &values).0[..2], [0x30, 0x88]);
        encode(FourBit::Nf4, &[]);
    }

    #[test]
    fn parts_decode_like_the_whole() {
        let values: Vec<f32> = (0..333).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
        for four_bit in FourBit::ALL {
            let (codes, absmax) = encode(four_bit, &values);
            let mut whole = vec![f32::NAN; values.len()];
            four_bit.decode(&codes, &absmax, 64, 0, &mut whole);
            for (i, value) in whole.iter().enumerate() {
                let code = if i % 2 == 0 { codes[i / 2] >> 4 } else { codes[i / 2] & 15 };
                assert_eq!(*value, four_bit.table()[usize::from(code)] * absmax[i / 64]);
            }
            for start in [0, 1, 63, 64, 65, 130] {
                for end in [start, start + 1, start + 2, 200, 201, 332, 333] {
                    let mut part = vec![f32::NAN; end - start];
                    let block = start / 64;
                    four_bit.decode(
                        &codes[block * 32..end.div_ceil(2)],
                        &absmax[block..],
                        64,
                        start % 64,
                        &mut part,
                    );
                    assert_eq!(part, whole[start..end], "{start}..{end}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "blocks of 63 values")]
    fn other_block_sizes_are_bugs() {
        FourBit::Nf4.encode_blocks(&[0.0; 63], 63, &mut [0; 31], &mut [0.0]);
    }
}
