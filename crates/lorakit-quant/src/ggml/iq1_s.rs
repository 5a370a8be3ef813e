//! `IQ1_S`: points of a grid of 2048, in 8 sub-blocks of 32 with odd scales, all shifted up or down.
//!
//! ```text
//! d f16 │ qs[32] │ qh[8] u16
//!
//! qs[p] = bits 0–7 of the point of values 8p to 8p + 7
//! qh[b] = bits 8–10 of point 4b + n at bits 3n and up; scale (bits 12–14); delta: 1/8, or -1/8 (bit 15)
//! value = d · (1 + 2 · scale) · (GRID[point] + delta)
//! ```

use super::{grid, half};

block_type!(IQ1_S { d: 2, qs: 32, qh: 16 });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        let (qs, qh) = (self.qs.as_chunks::<4>().0, self.qh.as_chunks().0);
        for ((values, qs), qh) in values.as_chunks_mut().0.iter_mut().zip(qs).zip(qh) {
            let qh = u16::from_le_bytes(*qh);
            let d = d * f32::from(1 + 2 * (qh >> 12 & 7));
            let delta = if qh >> 15 == 0 { grid::DELTA } else { -grid::DELTA };
            let points: [u16; 4] = std::array::from_fn(|n| u16::from(qs[n]) | (qh >> (3 * n) & 7) << 8);
            let steps = grid::values(&grid::IQ1, points.map(usize::from));
            grid::decode_shifted([d; 2], &steps, [delta; 4], values);
        }
    }
}
