//! `LLM.int8`: 8-bit codes, one `f32` scale for each row.
//!
//! ```text
//! P.weight  I8  [rows, cols]      P.SCB  F32 [rows]: the largest magnitude of each row
//!
//! value = code · SCB / 127
//! ```
//!
//! bitsandbytes keeps columns with outlying activations in 16 bits while it computes, but this is what it stores.

use crate::float::absmax;

/// The factor that bitsandbytes uses instead of dividing by 127.
const STEP: f32 = 1.0 / 127.0;

/// Encodes rows of `cols` values: their codes as two's complement, and the scale `SCB` of each.
///
/// A row of zeros gets codes of zero; so do NaNs.
///
/// # Panics
/// If `values` and `codes` are not `scb.len()` rows.
pub fn encode(values: &[f32], cols: usize, codes: &mut [u8], scb: &mut [f32]) {
    wide! {
        fn encode_row(values: &[f32], codes: &mut [u8], scale: f32) {
            for (code, value) in codes.iter_mut().zip(values) {
                *code = (value * scale).round_ties_even() as i8 as u8;
            }
        }
    }
    assert_eq!(values.len(), scb.len() * cols);
    assert_eq!(codes.len(), values.len());
    let cols = cols.max(1);
    for ((values, codes), scb) in values.chunks_exact(cols).zip(codes.chunks_exact_mut(cols)).zip(scb) {
        *scb = absmax(values);
        encode_row(values, codes, 127.0 / *scb);
    }
}

/// Decodes `values.len()` values, starting at value `skip` of the first row in `codes` and `scb`.
///
/// # Panics
/// If `cols` is zero, or if `codes` or `scb` end before the values do.
pub fn decode(codes: &[u8], scb: &[f32], cols: usize, skip: usize, values: &mut [f32]) {
    wide! {
        fn decode_row(codes: &[u8], scb: f32, values: &mut [f32]) {
            for (value, code) in values.iter_mut().zip(codes) {
                *value = f32::from(*code as i8) * scb * STEP;
            }
        }
    }
    let (mut at, mut rest) = (skip, values);
    while !rest.is_empty() {
        let (row, after) = rest.split_at_mut((cols - at % cols).min(rest.len()));
        decode_row(&codes[at..at + row.len()], scb[at / cols], row);
        at += row.len();
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_is_that_of_bitsandbytes() {
        assert_eq!(f64::from(STEP), 7.874_015_718_698_502e-3);
    }

    /// The codes and values that bitsandbytes' `int8_vectorwise_quant` and `int8_vectorwise_dequant` give.
    #[test]
    fn rows_are_scaled_by_their_largest_magnitude() {
        let values = [1.0, -2.0, 0.5, 0.007_874_016, 0.0, 0.0, 0.0, 0.0];
        let (mut codes, mut scb) = ([9; 8], [9.0; 2]);
        encode(&values, 4, &mut codes, &mut scb);
        assert_eq!(scb, [2.0, 0.0]);
        // 63.5 and 31.75 are rounded to 64 and 32, 0.5 to the even 0.
        assert_eq!(codes.map(|c| c as i8), [64, -127, 32, 0, 0, 0, 0, 0]);

        let mut decoded = [9.0; 8];
        decode(&codes, &scb, 4, 0, &mut decoded);
        assert_eq!(decoded, [1.007_874, -2.0, 0.503_937, 0.0, 0.0, 0.0, 0.0, 0.0]);
        for (start, end) in [(0, 0), (1, 3), (2, 7), (5, 8)] {
            let mut part = vec![9.0; end - start];
            decode(&codes[start / 4 * 4..], &scb[start / 4..], 4, start % 4, &mut part);
            assert_eq!(part, decoded[start..end], "{start}..{end}");
        }
    }

    #[test]
    fn what_is_not_finite_does_not_panic() {
        let (mut codes, mut scb) = ([9; 4], [9.0; 2]);
        encode(&[f32::NAN, 1.0, f32::INFINITY, -1.0], 2, &mut codes, &mut scb);
        assert!(scb[0].is_nan() && scb[1] == f32::INFINITY);
        assert_eq!(codes, [0; 4]);
    }
}
