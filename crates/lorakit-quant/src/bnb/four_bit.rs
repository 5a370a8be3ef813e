//! `NF4` and `FP4`: 4-bit codes of a table, one `f32` scale for each block.
//!
//! ```text
//! byte i: value 2i (bits 4–7), value 2i + 1 (bits 0–3)      value = table[code] · absmax of its block
//! ```
//!
//! A code is found by counting: the table's values in ascending order have 15 midpoints, and a value belongs to the
//! entry that follows the midpoints below it. The counts are taken from above (`code = 15 - midpoints not below`), so
//! that a NaN, which compares with nothing, gets the last code, as in bitsandbytes.

use crate::float::absmax;

/// Block sizes of bitsandbytes, in values.
pub const BLOCK_SIZES: [usize; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/// What a scale of zero is replaced by before a block is divided by it.
const SMALLEST_SCALE: f32 = 1e-38;

/// A 4-bit type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FourBit {
    /// NormalFloat: quantiles of the normal distribution, with an exact zero.
    Nf4,
    /// A float with a sign, two exponent bits and one mantissa bit, scaled so that the largest is 1.
    Fp4,
}

const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// In the order of the bits. Code 8, "minus zero", decodes to `+0`.
const FP4: [f32; 16] = [
    0.0,
    0.005_208_333_5,
    0.666_666_7,
    1.0,
    0.333_333_34,
    0.5,
    0.166_666_67,
    0.25,
    0.0,
    -0.005_208_333_5,
    -0.666_666_7,
    -1.0,
    -0.333_333_34,
    -0.5,
    -0.166_666_67,
    -0.25,
];

/// The codes in ascending order of their values; of the two zeros, the positive one comes first.
const NF4_ORDER: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const FP4_ORDER: [u8; 16] = [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3];

const NF4_CUTS: [f32; 15] = midpoints(&NF4, &NF4_ORDER);
const FP4_CUTS: [f32; 15] = midpoints(&FP4, &FP4_ORDER);

/// The midpoints of neighbours in ascending order.
const fn midpoints(table: &[f32; 16], order: &[u8; 16]) -> [f32; 15] {
    let mut cuts = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        cuts[i] = (table[order[i] as usize] + table[order[i + 1] as usize]) / 2.0;
        i += 1;
    }
    cuts
}

/// The two values of each byte.
const fn pairs(table: &[f32; 16]) -> [[f32; 2]; 256] {
    let mut pairs = [[0.0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [table[byte >> 4], table[byte & 15]];
        byte += 1;
    }
    pairs
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

    /// The type of that name.
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

    /// Encodes whole blocks: any part of a tensor that starts and ends between blocks.
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

    /// Encodes the last, partial block of a tensor and returns its scale. bitsandbytes divides where it multiplies
    /// whole blocks by the reciprocal, and never makes the scale less than `1e-38`. An odd number of values is made
    /// even by a zero.
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

    /// Decodes `values.len()` values, of which the first is value `skip` of the first block in `codes` and `absmax`:
    /// any range of a tensor, from the bytes and scales of the blocks that it touches.
    ///
    /// # Panics
    /// If `block_size` is odd or zero, or if `codes` or `absmax` end before the values do.
    pub fn decode(self, codes: &[u8], absmax: &[f32], block_size: usize, skip: usize, values: &mut [f32]) {
        const NF4_PAIRS: &[[f32; 2]; 256] = &pairs(&NF4);
        const FP4_PAIRS: &[[f32; 2]; 256] = &pairs(&FP4);
        assert!(block_size > 0 && block_size.is_multiple_of(2), "blocks of {block_size} values");
        let pairs = match self {
            FourBit::Nf4 => NF4_PAIRS,
            FourBit::Fp4 => FP4_PAIRS,
        };
        wide! {
            fn decode(pairs: &[[f32; 2]; 256], codes: &[u8], absmax: &[f32], block_size: usize, skip: usize, values: &mut [f32]) {
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

/// Decodes values `at..` of `codes`, all of one scale.
#[inline(always)]
fn decode_run(pairs: &[[f32; 2]; 256], codes: &[u8], absmax: f32, at: usize, values: &mut [f32]) {
    // A single value where the range starts or ends inside of a byte.
    let (head, values) = values.split_at_mut(at % 2);
    if let [value] = head {
        *value = pairs[usize::from(codes[at / 2])][1] * absmax;
    }
    let codes = &codes[at.div_ceil(2)..(at + head.len() + values.len()).div_ceil(2)];
    let (whole, last) = values.as_chunks_mut::<2>();
    let ((pieces, rest), (piece_codes, rest_codes)) = (whole.as_chunks_mut(), codes.as_chunks());
    for (values, codes) in pieces.iter_mut().zip(piece_codes) {
        decode_pairs::<16>(pairs, codes, absmax, values);
    }
    for (values, codes) in rest.as_chunks_mut().0.iter_mut().zip(rest_codes.as_chunks().0) {
        decode_pairs::<1>(pairs, codes, absmax, values);
    }
    if let ([value], [.., code]) = (last, codes) {
        *value = pairs[usize::from(*code)][0] * absmax;
    }
}

/// Looks all pairs up before it multiplies them, which is what makes vectors of the products.
#[inline(always)]
fn decode_pairs<const N: usize>(
    pairs: &[[f32; 2]; 256],
    codes: &[u8; N],
    absmax: f32,
    values: &mut [[f32; 2]; N],
) {
    let found = codes.map(|code| pairs[usize::from(code)]);
    for (value, found) in values.as_flattened_mut().iter_mut().zip(found.as_flattened()) {
        *value = found * absmax;
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
    fn cuts_are_those_of_bitsandbytes() {
        let nf4 = [
            0xbf59_1cd8_u32,
            0xbf1c_5270,
            0xbeeb_8480,
            0xbead_ea76,
            0xbe70_3cec,
            0xbe0d_38bc,
            0xbd3a_7871,
            0x3d22_faff,
            0x3df6_4862,
            0x3e50_67e0,
            0x3e95_82d4,
            0x3ec7_53f9,
            0x3f00_6d04,
            0x3f24_8daf,
            0x3f5c_89da,
        ];
        assert_eq!(NF4_CUTS.map(f32::to_bits), nf4);
        let fp4 = [
            0.833_333_4,
            0.583_333_4,
            0.416_666_7,
            0.291_666_7,
            0.208_333_34,
            0.085_937_5,
            0.002_604_166_7_f32,
        ];
        assert_eq!(FP4_CUTS[8..].iter().rev().copied().collect::<Vec<_>>(), fp4);
        assert_eq!(FP4_CUTS[..7].iter().map(|c| -c).collect::<Vec<_>>(), fp4);
        assert_eq!(FP4_CUTS[7], 0.0);
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
        // A block of zeros, and one that is partial.
        assert_eq!(encode(FourBit::Nf4, &[0.0; 64]), (vec![0x77; 32], vec![0.0]));
        assert_eq!(encode(FourBit::Nf4, &[-0.0; 64]), (vec![0x77; 32], vec![0.0]));
        assert_eq!(encode(FourBit::Nf4, &[0.0; 3]), (vec![0x77; 2], vec![1e-38]));
        assert_eq!(encode(FourBit::Fp4, &[0.0; 3]), (vec![0x00; 2], vec![1e-38]));
        // An odd number of values is padded with zero.
        assert_eq!(encode(FourBit::Nf4, &[1.0]), (vec![0xf7], vec![1.0]));
        assert_eq!(encode(FourBit::Fp4, &[-1.0]), (vec![0xb0], vec![1.0]));
        // Infinity makes everything else zero, and itself a NaN, whose code is the last.
        let mut values = [1.0; 64];
        values[0] = f32::INFINITY;
        let (codes, absmax) = encode(FourBit::Nf4, &values);
        assert_eq!((codes[0], &codes[1..], absmax), (0xf7, [0x77; 31].as_slice(), vec![f32::INFINITY]));
        // A NaN makes a NaN of every value.
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
