//! `IQ2_XXS`: points of a grid of 256, in 8 sub-blocks of 32 with 4-bit scales.
//!
//! ```text
//! d f16 │ 8 × (grid[4] │ u32: 7 signs of point p at bits 7p and up, scale at bits 28–31)
//!
//! value = d · (scale + 1/2) / 4 · ±GRID[grid]
//! ```
//!
//! The eighth value of a point takes the sign that makes the number of minuses even.

use super::{grid, half};

block_type!(IQ2_XXS { d: 2, qs: 64 });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        let (codes, _) = self.qs.as_chunks::<4>();
        for (values, codes) in values.as_chunks_mut().0.iter_mut().zip(codes.as_chunks::<2>().0) {
            let [points, signs] = *codes;
            let signs = u32::from_le_bytes(signs);
            let d = d * (0.5 + (signs >> 28) as f32) * 0.25;
            let magnitudes = grid::values(&grid::IQ2_XXS, points.map(usize::from));
            grid::decode_signed([d; 2], &magnitudes, grid::even_signs(signs), values);
        }
    }
}
