//! `IQ4_XS`: the codebook of `IQ4_NL` in 8 sub-blocks of 32 with 6-bit scales around 32.
//!
//! ```text
//! d f16 │ scales_h u16 │ scales_l[4] │ qs[128]
//!
//! scales_l[b / 2] = bits 0–3 of scale b (even b: bits 0–3, odd b: bits 4–7)
//! scales_h        = bits 4–5 of scale b at bits 2b and up
//! qs[16b + l]     = values 32b + l (bits 0–3), + 16 (bits 4–7)      l < 16
//! value = d · (scale - 32) · CODEBOOK[code]
//! ```

use super::{half, iq4_nl};

block_type!(IQ4_XS { d: 2, scales_h: 2, scales_l: 4, qs: 128 });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        let qs = self.qs.as_chunks::<16>().0;
        for (b, (values, qs)) in values.as_chunks_mut::<32>().0.iter_mut().zip(qs).enumerate() {
            let d = d * (f32::from(self.scale(b)) - 32.0);
            iq4_nl::decode(d, qs, values);
        }
    }

    /// The 6-bit scale of sub-block `b < 8`.
    #[inline(always)]
    fn scale(&self, b: usize) -> u8 {
        let low = (self.scales_l[b / 2] >> (4 * (b % 2))) & 15;
        let high = (u16::from_le_bytes(self.scales_h) >> (2 * b)) & 3;
        low | (high as u8) << 4
    }
}
