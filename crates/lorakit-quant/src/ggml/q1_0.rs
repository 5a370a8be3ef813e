//! `Q1_0`: signs.
//!
//! ```text
//! d f16 │ qs[16]: bit l mod 8 of qs[l / 8] for value l      value = d, or -d where the bit is 0
//! ```

use super::{half, to_half};

block_type!(Q1_0 { d: 2, qs: 16 });
block_encoder!(Q1_0 { d, qs });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        for (values, bits) in values.as_chunks_mut::<32>().0.iter_mut().zip(self.qs.as_chunks().0) {
            let bits = u32::from_le_bytes(*bits);
            for (l, value) in values.iter_mut().enumerate() {
                *value = if bits >> l & 1 == 1 { d } else { -d };
            }
        }
    }

    /// The scale is the mean magnitude.
    #[inline(always)]
    fn encode(values: &[f32; VALUES]) -> Block {
        let sum = values.iter().fold(0.0, |sum, value| sum + value.abs());
        let mut qs = [0; 16];
        for (values, bytes) in values.as_chunks::<32>().0.iter().zip(qs.as_chunks_mut().0) {
            let mut bits = 0;
            for (l, value) in values.iter().enumerate() {
                bits |= u32::from(*value >= 0.0) << l;
            }
            *bytes = bits.to_le_bytes();
        }
        Block { d: to_half(sum / VALUES as f32), qs }
    }
}
