//! `IQ2_XS`: points of a grid of 512, in 16 sub-blocks of 16 with 4-bit scales.
//!
//! ```text
//! d f16 │ qs[32] u16: point (bits 0–8), 7 signs (bits 9–15) │ scales[8]: sub-block 2b (bits 0–3), 2b + 1 (bits 4–7)
//!
//! qs[p] = values 8p to 8p + 7
//! value = d · (scale + 1/2) / 4 · ±GRID[point]
//! ```
//!
//! The eighth value of a point takes the sign that makes the number of minuses even.

use super::{grid, half};

block_type!(IQ2_XS { d: 2, qs: 64, scales: 8 });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        let codes = self.qs.as_chunks().0.as_chunks::<4>().0;
        for ((values, codes), scales) in values.as_chunks_mut().0.iter_mut().zip(codes).zip(self.scales) {
            let d = [scales & 15, scales >> 4].map(|scale| d * (0.5 + f32::from(scale)) * 0.25);
            let codes = codes.map(u16::from_le_bytes);
            let magnitudes = grid::values(&grid::IQ2_XS, codes.map(|code| usize::from(code & 511)));
            let [a, b, c, e] = codes.map(|code| u32::from(code >> 9));
            grid::decode_signed(d, &magnitudes, grid::even_signs(a | b << 7 | c << 14 | e << 21), values);
        }
    }
}
