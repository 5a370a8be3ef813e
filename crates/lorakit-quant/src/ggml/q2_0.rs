//! `Q2_0`: 2-bit codes around 1.
//!
//! ```text
//! d f16 │ qs[16]: bits 2(l mod 4) and up of qs[l / 4] for value l      value = (code - 1) · d
//! ```

use super::extremes::largest;
use super::{codes_of, half, inverse, round, to_half};

block_type!(Q2_0 { d: 2, qs: 16 });
block_encoder!(Q2_0 { d, qs });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        for (values, codes) in values.as_chunks_mut::<16>().0.iter_mut().zip(self.qs.as_chunks().0) {
            let codes = u32::from_le_bytes(*codes);
            for (l, value) in values.iter_mut().enumerate() {
                *value = ((codes >> (2 * l) & 3) as f32 - 1.0) * d;
            }
        }
    }

    /// The scale is the largest magnitude, so code 3 is never used.
    #[inline(always)]
    fn encode(values: &[f32; VALUES]) -> Block {
        let d = largest(values);
        let inverse = inverse(d);
        let codes = codes_of(values, |value| {
            let position = value * inverse;
            // Unlike the other types, this one treats values that are not finite as -1.
            if position.is_finite() { round(position).wrapping_add(1).clamp(0, 3) as u8 } else { 0 }
        });
        let mut qs = [0; 16];
        for (byte, codes) in qs.iter_mut().zip(codes.as_chunks::<4>().0) {
            *byte = codes[0] | codes[1] << 2 | codes[2] << 4 | codes[3] << 6;
        }
        Block { d: to_half(d), qs }
    }
}
