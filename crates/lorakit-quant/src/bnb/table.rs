//! The values of the 4-bit codes, and what follows from them.

use crate::pair::{First, Pairs, pairs};

pub(super) const NF4: [f32; 16] = [
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
pub(super) const FP4: [f32; 16] = [
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
pub(super) const NF4_ORDER: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
pub(super) const FP4_ORDER: [u8; 16] = [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3];

pub(super) const NF4_CUTS: [f32; 15] = midpoints(&NF4, &NF4_ORDER);
pub(super) const FP4_CUTS: [f32; 15] = midpoints(&FP4, &FP4_ORDER);

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

pub(super) static NF4_PAIRS: Pairs = pairs(&NF4, First::High);
pub(super) static FP4_PAIRS: Pairs = pairs(&FP4, First::High);

#[cfg(test)]
mod tests {
    use super::*;

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
}
