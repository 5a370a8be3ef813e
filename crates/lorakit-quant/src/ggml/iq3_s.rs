//! `IQ3_S`: points of a grid of 512, in 8 sub-blocks of 32 with odd scales.
//!
//! ```text
//! d f16 │ qs[64] │ qh[8] │ signs[32] │ scales[4]: sub-block 2b (bits 0–3), 2b + 1 (bits 4–7)
//!
//! qs[p]    = bits 0–7 of the point of values 4p to 4p + 3; bit 8 is bit p mod 8 of qh[p / 8]
//! signs[p] = signs of values 8p to 8p + 7
//! value = d · (1 + 2 · scale) · ±GRID[point]
//! ```

use super::{grid, half};

block_type!(IQ3_S { d: 2, qs: 64, qh: 8, signs: 32, scales: 4 });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        let (qs, signs) = (self.qs.as_chunks::<8>().0, self.signs.as_chunks().0);
        for (b, values) in values.as_chunks_mut().0.iter_mut().enumerate() {
            let scale = self.scales[b / 2] >> (4 * (b % 2)) & 15;
            let d = d * f32::from(1 + 2 * scale);
            let high = usize::from(self.qh[b]);
            let points: [usize; 8] = std::array::from_fn(|p| usize::from(qs[b][p]) | (high >> p & 1) << 8);
            let magnitudes = grid::values(&grid::IQ3_S, points);
            grid::decode_signed([d; 2], &magnitudes, u32::from_le_bytes(signs[b]), values);
        }
    }
}
