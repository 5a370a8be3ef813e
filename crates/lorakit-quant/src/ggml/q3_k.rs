//! `Q3_K`: 3-bit codes around 4, the third bits apart, in 16 sub-blocks of 16 with 6-bit scales around 32.
//!
//! ```text
//! hmask[32] │ qs[64] │ scales[12] │ d f16
//!
//! hmask[l]    = bit k: third bit of value 32k + l                                      l < 32
//! qs[32h + l] = values 128h + l (bits 0–1), + 32 (2–3), + 64 (4–5), + 96 (6–7)         l < 32
//! scales      = j < 8: bits 0–3 of scales[j], else bits 4–7 of scales[j - 8];
//!               bits 4–5 of the scale are bits 2(j / 4) and up of scales[8 + j % 4]
//! value = d · (scale - 32) · (code - 4)
//! ```

use super::half;

block_type!(Q3_K { hmask: 32, qs: 64, scales: 12, d: 2 });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        let (qs, hmask) = (self.qs.as_chunks::<16>().0, self.hmask.as_chunks::<16>().0);
        for (j, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let d = d * (f32::from(self.scale(j)) - 32.0);
            let shift = 2 * (j / 2 % 4);
            for ((value, q), h) in values.iter_mut().zip(&qs[2 * (j / 8) + j % 2]).zip(&hmask[j % 2]) {
                let code = ((q >> shift) & 3) | ((h >> (j / 2)) & 1) << 2;
                *value = d * (f32::from(code) - 4.0);
            }
        }
    }

    /// The 6-bit scale of sub-block `j < 16`.
    #[inline(always)]
    fn scale(&self, j: usize) -> u8 {
        let low = (self.scales[j % 8] >> (4 * (j / 8))) & 15;
        let high = (self.scales[8 + j % 4] >> (2 * (j / 4))) & 3;
        low | high << 4
    }
}
