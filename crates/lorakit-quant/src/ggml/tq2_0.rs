//! `TQ2_0`: ternary values, two bits each.
//!
//! ```text
//! qs[64] │ d f16
//!
//! qs[32h + l] = values 128h + l (bits 0–1), + 32 (2–3), + 64 (4–5), + 96 (6–7)      l < 32
//! value = d · (code - 1)
//! ```

use super::extremes::largest;
use super::{codes_of, half, inverse, pairs_of_bits, round, to_half};

block_type!(TQ2_0 { qs: 64, d: 2 });
block_encoder!(TQ2_0 { qs, d });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        let qs = self.qs.as_chunks::<32>().0;
        for (i, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let shift = 2 * (i % 4);
            for (value, q) in values.iter_mut().zip(&qs[i / 4]) {
                *value = d * (f32::from((q >> shift) & 3) - 1.0);
            }
        }
    }

    #[inline(always)]
    fn encode(values: &[f32; VALUES]) -> Block {
        let d = largest(values);
        let inverse = inverse(d);
        let codes = codes_of(values, |value| round(value * inverse).wrapping_add(1) as u8);
        Block { qs: pairs_of_bits(&codes), d: to_half(d) }
    }
}
