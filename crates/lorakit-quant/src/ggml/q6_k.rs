//! `Q6_K`: 6-bit codes around 32, the upper two bits apart, in 16 sub-blocks of 16 with signed 8-bit scales.
//!
//! ```text
//! ql[128] │ qh[64] │ scales[16] i8 │ d f16
//!
//! ql[64h + l]      = values 128h + l (bits 0–3), + 64 (bits 4–7)                           l < 32
//! ql[64h + 32 + l] = values 128h + 32 + l (bits 0–3), + 64 (bits 4–7)                      l < 32
//! qh[32h + l]      = values 128h + l (bits 0–1), + 32 (2–3), + 64 (4–5), + 96 (6–7)        l < 32
//! value = d · scale · (code - 32)
//! ```

use super::half;

block_type!(Q6_K { ql: 128, qh: 64, scales: 16, d: 2 });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        let (ql, qh) = (self.ql.as_chunks::<32>().0, self.qh.as_chunks::<32>().0);
        let scales = self.scales.as_chunks::<2>().0;
        for (i, (values, scales)) in values.as_chunks_mut::<32>().0.iter_mut().zip(scales).enumerate() {
            let d = scales.map(|scale| d * f32::from(scale as i8));
            let (h, i) = (i / 4, i % 4);
            let (low_shift, high_shift) = (4 * (i / 2), 2 * i);
            for (l, ((value, low), high)) in values.iter_mut().zip(&ql[2 * h + i % 2]).zip(&qh[h]).enumerate()
            {
                let code = ((low >> low_shift) & 15) | ((high >> high_shift) & 3) << 4;
                *value = d[l / 16] * (f32::from(code) - 32.0);
            }
        }
    }
}
