//! `Q5_K`: 5-bit codes, the fifth bits apart, in 8 sub-blocks of 32 with a 6-bit scale and a 6-bit minimum each.
//!
//! ```text
//! d f16 │ dmin f16 │ scales[12]: see `scale_min` │ qh[32] │ qs[128]
//!
//! qh[l]       = bit j: fifth bit of value 32j + l               l < 32
//! qs[32g + l] = values 64g + l (bits 0–3), + 32 (bits 4–7)      l < 32
//! value = d · scale · code - dmin · min
//! ```

use super::{half, scale_min};

block_type!(Q5_K { d: 2, dmin: 2, scales: 12, qh: 32, qs: 128 });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let (d, dmin) = (half(self.d), half(self.dmin));
        let pairs = scale_min::unpack(&self.scales);
        let qs = self.qs.as_chunks::<32>().0;
        for (j, (values, (scale, min))) in values.as_chunks_mut::<32>().0.iter_mut().zip(pairs).enumerate() {
            let (d, min) = (d * f32::from(scale), dmin * f32::from(min));
            let shift = 4 * (j % 2);
            for ((value, q), h) in values.iter_mut().zip(&qs[j / 2]).zip(&self.qh) {
                let code = ((q >> shift) & 15) | ((h >> j) & 1) << 4;
                *value = d * f32::from(code) - min;
            }
        }
    }
}
