//! `MXFP4` as gpt-oss stores it: codes and scales of experts as two tensors.
//!
//! ```text
//! X_blocks U8 [experts, rows, groups, 16]      byte k of a group: value 2k (bits 0–3), value 2k + 1 (bits 4–7)
//! X_scales U8 [experts, rows, groups]          value = 2^(scale - 127) · E2M1[code]
//! ```
//!
//! The codes are those of GGUF's `MXFP4`, which has another order of the values within a group.

use crate::float8::e8m0_to_f32;
use crate::pair::{self, First, Pairs, pairs};

/// Values of one group.
pub const GROUP: usize = 32;

/// The values of the codes: a sign, two exponent bits, one mantissa bit.
const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Decodes whole groups of `blocks` with a scale each. A scale of 255 makes NaNs.
///
/// # Panics
/// If `blocks` are not 16 bytes, and `values` not [`GROUP`], for each scale.
pub fn decode(blocks: &[u8], scales: &[u8], values: &mut [f32]) {
    wide! {
        fn decode_groups(blocks: &[u8], scales: &[u8], values: &mut [f32]) {
            const PAIRS: &Pairs = &pairs(&E2M1, First::Low);
            let groups = blocks.as_chunks::<{ GROUP / 2 }>().0.iter().zip(scales);
            for ((codes, scale), values) in groups.zip(values.as_chunks_mut::<GROUP>().0) {
                pair::decode(PAIRS, codes, e8m0_to_f32(*scale), values);
            }
        }
    }
    assert_eq!(blocks.len(), scales.len() * GROUP / 2);
    assert_eq!(values.len(), scales.len() * GROUP);
    decode_groups(blocks, scales, values);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_bits_come_first() {
        let mut values = [9.0; 64];
        let blocks: Vec<u8> = (0..16).map(|k| k << 4 | (15 - k)).chain([0x21; 16]).collect();
        decode(&blocks, &[128, 127], &mut values);
        for k in 0..16 {
            assert_eq!(values[2 * k].to_bits(), (2.0 * E2M1[15 - k]).to_bits());
            assert_eq!(values[2 * k + 1].to_bits(), (2.0 * E2M1[k]).to_bits());
        }
        assert_eq!(values[32..34], [0.5, 1.0]);
        decode(&[0x11; 16], &[0], &mut values[..32]);
        assert_eq!(values[0], f32::from_bits(1 << 21), "half of the smallest power");
        decode(&[0x11; 16], &[255], &mut values[..32]);
        assert!(values[..32].iter().all(|v| v.is_nan()));
    }

    /// The same codes as a block of GGUF, whose values lie 16 apart in the two halves of its bytes.
    #[test]
    fn values_are_those_of_gguf() {
        let codec = crate::codec(lorakit_tensor::DType::MXFP4).unwrap();
        let codes: [u8; 32] = std::array::from_fn(|i| (i * 7 % 16) as u8);
        let ours: Vec<u8> = (0..16).map(|k| codes[2 * k] | codes[2 * k + 1] << 4).collect();
        let theirs: Vec<u8> = (0..16).map(|k| codes[k] | codes[k + 16] << 4).collect();
        for scale in [0, 1, 100, 127, 200] {
            let (mut values, mut expected) = ([9.0; 32], [9.0; 32]);
            decode(&ours, &[scale], &mut values);
            codec.decode(&[&[scale], theirs.as_slice()].concat(), &mut expected);
            assert_eq!(values, expected);
        }
    }
}
