//! `IQ1_M`: points of a grid of 2048, in 16 sub-blocks of 16 with odd scales, each shifted up or down.
//!
//! ```text
//! qs[32] │ qh[16] │ scales[4] u16
//!
//! qs[p]     = bits 0–7 of the point of values 8p to 8p + 7
//! qh[p / 2] = bits 8–10 of the point; delta: 1/8, or -1/8 (bit 3)      (even p: bits 0–3, odd p: bits 4–7)
//! scales[i] = scale of sub-block 4i + n at bits 3n and up; bits 4i to 4i + 3 of d f16 (bits 12–15)
//! value = d · (1 + 2 · scale) · (GRID[point] + delta)
//! ```

use super::{grid, half};

block_type!(IQ1_M { qs: 32, qh: 16, scales: 8 });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let scales: [u16; 4] = std::array::from_fn(|i| u16::from_le_bytes(self.scales.as_chunks().0[i]));
        let bits = scales.iter().rev().fold(0, |bits, scales| bits << 4 | scales >> 12);
        let d = half(bits.to_le_bytes());
        let (qs, qh) = (self.qs.as_chunks::<4>().0, self.qh.as_chunks::<2>().0);
        for (b, values) in values.as_chunks_mut().0.iter_mut().enumerate() {
            let d = [0, 3].map(|shift| d * f32::from(1 + 2 * (scales[b / 2] >> (6 * (b % 2) + shift) & 7)));
            let high: [usize; 4] = std::array::from_fn(|n| usize::from(qh[b][n / 2] >> (4 * (n % 2)) & 15));
            let points: [usize; 4] = std::array::from_fn(|n| usize::from(qs[b][n]) | (high[n] & 7) << 8);
            let steps = grid::values(&grid::IQ1, points);
            let delta = high.map(|high| if high & 8 == 0 { grid::DELTA } else { -grid::DELTA });
            grid::decode_shifted(d, &steps, delta, values);
        }
    }
}
