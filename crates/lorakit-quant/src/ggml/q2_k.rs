//! `Q2_K`: 2-bit codes in 16 sub-blocks of 16, each with a 4-bit scale and a 4-bit minimum.
//!
//! ```text
//! scales[16]: scale (bits 0–3), min (bits 4–7) │ qs[64] │ d f16 │ dmin f16
//!
//! qs[32h + l] = values 128h + l (bits 0–1), + 32 (2–3), + 64 (4–5), + 96 (6–7)      l < 32
//! value = d · scale · code - dmin · min
//! ```

use super::half;

block_type!(Q2_K { scales: 16, qs: 64, d: 2, dmin: 2 });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let (d, dmin) = (half(self.d), half(self.dmin));
        let qs = self.qs.as_chunks::<32>().0;
        let scales = self.scales.as_chunks::<2>().0;
        for (i, (values, scales)) in values.as_chunks_mut::<32>().0.iter_mut().zip(scales).enumerate() {
            let d = scales.map(|scale| d * f32::from(scale & 15));
            let min = scales.map(|scale| dmin * f32::from(scale >> 4));
            for (l, (value, q)) in values.iter_mut().zip(&qs[i / 4]).enumerate() {
                *value = d[l / 16] * f32::from((q >> (2 * (i % 4))) & 3) - min[l / 16];
            }
        }
    }
}
