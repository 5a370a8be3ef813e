//! `IQ2_S`: points of a grid of 1024, in 16 sub-blocks of 16 with 4-bit scales.
//!
//! ```text
//! d f16 │ qs[32] │ signs[32] │ qh[8] │ scales[8]: sub-block 2b (bits 0–3), 2b + 1 (bits 4–7)
//!
//! qs[p]     = bits 0–7 of the point of values 8p to 8p + 7; bits 8–9 are in qh[p / 4] at bits 2(p mod 4) and up
//! signs[p]  = their signs
//! value = d · (scale + 1/2) / 4 · ±GRID[point]
//! ```

use super::{grid, half};

block_type!(IQ2_S { d: 2, qs: 32, signs: 32, qh: 8, scales: 8 });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        let (qs, signs) = (self.qs.as_chunks::<4>().0, self.signs.as_chunks().0);
        for (b, values) in values.as_chunks_mut().0.iter_mut().enumerate() {
            let (high, scales) = (usize::from(self.qh[b]), self.scales[b]);
            let d = [scales & 15, scales >> 4].map(|scale| d * (0.5 + f32::from(scale)) * 0.25);
            let points: [usize; 4] =
                std::array::from_fn(|p| usize::from(qs[b][p]) | (high >> (2 * p) & 3) << 8);
            let magnitudes = grid::values(&grid::IQ2_S, points);
            grid::decode_signed(d, &magnitudes, u32::from_le_bytes(signs[b]), values);
        }
    }
}
