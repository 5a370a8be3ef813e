//! `TQ1_0`: ternary values, five to a byte.
//!
//! ```text
//! qs[48] │ qh[4] │ d f16
//!
//! qs[l]      = values l + 32n            n < 5, l < 32
//! qs[32 + l] = values 160 + l + 16n      n < 5, l < 16
//! qh[l]      = values 240 + l + 4n       n < 4, l < 4
//! value = d · (trit - 1)
//! ```
//!
//! A byte is the fraction `0.t0 t1 t2 t3 t4` in base 3, in 256ths, rounded up: times 3ⁿ (modulo 1) its leading digit
//! is trit `n`.

use super::extremes::largest;
use super::{codes_of, half, inverse, round, to_half};

block_type!(TQ1_0 { qs: 48, qh: 4, d: 2 });
block_encoder!(TQ1_0 { qs, qh, d });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        let (first, rest) = values.split_at_mut(160);
        let (second, third) = rest.split_at_mut(80);
        let (wide, narrow) = self.qs.split_at(32);
        trits(d, wide, first);
        trits(d, narrow, second);
        trits(d, &self.qh, third);
    }

    #[inline(always)]
    fn encode(values: &[f32; VALUES]) -> Block {
        let d = largest(values);
        let inverse = inverse(d);
        let codes = codes_of(values, |value| round(value * inverse).wrapping_add(1) as u8);
        let (first, rest) = codes.split_at(160);
        let (second, third) = rest.split_at(80);
        let mut block = Block { qs: [0; 48], qh: [0; 4], d: to_half(d) };
        let (wide, narrow) = block.qs.split_at_mut(32);
        bytes_of(first, wide);
        bytes_of(second, narrow);
        bytes_of(third, &mut block.qh);
        block
    }
}

/// Fills `values` with the first trit of every byte, then the second of every byte, and so on.
#[inline(always)]
fn trits(d: f32, bytes: &[u8], values: &mut [f32]) {
    let mut power = 1u8;
    for values in values.chunks_exact_mut(bytes.len()) {
        for (value, byte) in values.iter_mut().zip(bytes) {
            let trit = (3 * u16::from(byte.wrapping_mul(power))) >> 8;
            *value = d * (f32::from(trit) - 1.0);
        }
        power = power.wrapping_mul(3);
    }
}

/// Fills `bytes` with fractions whose first digits are the first codes, whose second digits are the next, and so on.
#[inline(always)]
fn bytes_of(codes: &[u8], bytes: &mut [u8]) {
    let n = bytes.len();
    for (l, byte) in bytes.iter_mut().enumerate() {
        let digit = |k: usize| codes.get(l + k * n).copied().unwrap_or(0);
        let fraction = (0..5).fold(0u8, |fraction, k| fraction.wrapping_mul(3).wrapping_add(digit(k)));
        *byte = (u16::from(fraction) * 256).div_ceil(243) as u8;
    }
}
