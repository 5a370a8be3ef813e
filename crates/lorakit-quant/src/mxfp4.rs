//! `MXFP4` as gpt-oss stores it: the codes and the scales of experts as two tensors.
//!
//! ```text
//! X_blocks U8 [experts, rows, groups, 16]      byte k of a group: value 2k (bits 0–3), value 2k + 1 (bits 4–7)
//! X_scales U8 [experts, rows, groups]          value = 2^(scale - 127) · E2M1[code]
//! ```
//!
//! The codes are those of GGUF's `MXFP4`, which orders the values within a group differently.

use crate::float::{INFINITY, absmax};
use crate::float8::e8m0_to_f32;
use crate::pair::{self, First, Pairs, pairs};

/// Values of one group.
pub const GROUP: usize = 32;

/// The values of the codes: a sign, two exponent bits, one mantissa bit.
const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Decodes whole groups of `blocks`, each with a scale. A scale of 255 makes NaNs.
///
/// # Panics
/// Unless there are 16 bytes of `blocks` and [`GROUP`] `values` for each scale.
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

/// Encodes 32 rows of a matrix of `cols` columns, whose groups run down the columns: 16 bytes of codes and a scale for
/// each column. `values` become what [`decode`] would return; scales are powers of two, or 0 for the byte 0, or NaN
/// if a value is not finite.
///
/// The scale is the least power of two with which the largest magnitude is at most 6; codes are the nearest, ties to
/// even. This is how triton_kernels, and so transformers, quantise gpt-oss.
/// Values already in that form do not change.
///
/// # Panics
/// Unless there are 32 `values`, 16 bytes of `blocks` and one of `scales` for each of `cols` columns.
pub fn encode_columns(cols: usize, values: &mut [f32], blocks: &mut [u8], scales: &mut [f32]) {
    wide! {
        fn encode_all(cols: usize, values: &mut [f32], blocks: &mut [u8], scales: &mut [f32]) {
            let blocks = blocks.as_chunks_mut::<{ GROUP / 2 }>().0;
            for (col, (codes, scale)) in blocks.iter_mut().zip(scales).enumerate() {
                let mut group = [0.0; GROUP];
                for (row, value) in group.iter_mut().enumerate() {
                    *value = values[row * cols + col];
                }
                *scale = encode_group(&mut group, codes);
                for (row, value) in group.iter().enumerate() {
                    values[row * cols + col] = *value;
                }
            }
        }
    }
    assert_eq!((values.len(), blocks.len(), scales.len()), (GROUP * cols, GROUP / 2 * cols, cols));
    encode_all(cols, values, blocks, scales);
}

/// Encodes one group and returns its scale.
#[inline(always)]
fn encode_group(values: &mut [f32; GROUP], codes: &mut [u8; GROUP / 2]) -> f32 {
    let largest = absmax(values);
    let power = ((largest / 6.0).to_bits() + ((1 << 23) - 1)) & INFINITY;
    let scale = if largest.is_finite() { f32::from_bits(power) } else { f32::NAN };
    let factor = if power == 0 { 0.0 } else { 1.0 / scale };
    let mut found = [0; GROUP];
    for (code, value) in found.iter_mut().zip(values.iter_mut()) {
        *code = nearest(*value * factor) | (value.to_bits() >> 31 << 3) as u8;
        *value = E2M1[usize::from(*code)] * scale;
    }
    for (byte, pair) in codes.iter_mut().zip(found.as_chunks::<2>().0) {
        *byte = pair[0] | pair[1] << 4;
    }
    scale
}

/// The code of the magnitude nearest to that of `x`; of two equally near, the even one.
#[inline(always)]
fn nearest(x: f32) -> u8 {
    let x = x.abs();
    let above = |middle: f32| u8::from(x > middle);
    let from = |middle: f32| u8::from(x >= middle);
    above(0.25) + from(0.75) + above(1.25) + from(1.75) + above(2.5) + from(3.5) + above(5.0)
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

    /// The same codes as a block of GGUF, which pairs values 16 apart in each byte.
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

    /// Codes and scales of a matrix of one strip, and the values that its columns then have.
    fn encoded(cols: usize, values: &[f32]) -> (Vec<u8>, Vec<u8>, Vec<f32>) {
        let (mut seen, mut blocks, mut scales) = (values.to_vec(), vec![0; 16 * cols], vec![9.0; cols]);
        encode_columns(cols, &mut seen, &mut blocks, &mut scales);
        (blocks, scales.into_iter().map(crate::fp8::e8m0).collect(), seen)
    }

    #[test]
    fn columns_are_encoded_as_they_are_decoded() {
        let cols = 7;
        let values: Vec<f32> = (0..32 * cols)
            .map(|i| ((i * 7919 % 2003) as f32 - 1001.0) * 2f32.powi((i % cols) as i32 * 9))
            .collect();
        let (blocks, scales, seen) = encoded(cols, &values);
        let mut plain = vec![0.0; values.len()];
        decode(&blocks, &scales, &mut plain);
        for (i, seen) in seen.iter().enumerate() {
            let (row, col) = (i / cols, i % cols);
            assert_eq!(seen.to_bits(), plain[col * GROUP + row].to_bits());
            let scale = e8m0_to_f32(scales[col]);
            let largest = (0..32).map(|row| values[row * cols + col].abs()).fold(0.0, f32::max);
            assert!(largest <= 6.0 * scale && largest > 3.0 * scale);
            let distance = |code: &f32| (code * scale - values[i]).abs();
            let least = E2M1.iter().map(distance).fold(f32::MAX, f32::min);
            assert_eq!((seen - values[i]).abs(), least, "{} became {seen}", values[i]);
        }
        assert_eq!(encoded(cols, &seen).2, seen, "what is on the grid stays");
    }

    #[test]
    fn ties_go_to_even_codes() {
        let middles = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0];
        assert_eq!(middles.map(nearest), [0, 2, 2, 4, 4, 6, 6]);
        assert_eq!(middles.map(|x: f32| nearest(x.next_down())), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(middles.map(|x: f32| nearest(-x.next_up())), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn strange_columns_do_not_panic() {
        for (value, scale) in
            [(0.0, 0), (-0.0, 0), (1e-40, 1), (f32::MAX / 2.0, 252), (6.0, 127), (6.0f32.next_up(), 128)]
        {
            let (_, scales, seen) = encoded(1, &[value; 32]);
            assert_eq!(scales, [scale], "{value}");
            assert!(seen[0].is_finite() && seen[0].is_sign_negative() == value.is_sign_negative());
        }
        for value in [f32::NAN, f32::INFINITY] {
            let (_, scales, seen) = encoded(1, &[&[value], [1.0; 31].as_slice()].concat());
            assert!(scales == [255] && seen.iter().all(|v| v.is_nan()));
        }
        encode_columns(0, &mut [], &mut [], &mut []);
    }
}
