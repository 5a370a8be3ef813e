//! `IQ3_XXS`: points of a grid of 256, in 8 sub-blocks of 32 with 4-bit scales.
//!
//! ```text
//! d f16 │ qs[64] │ signs[8] u32: 7 signs of values 8p to 8p + 7 at bits 7p and up, scale at bits 28–31
//!
//! qs[p] = point of values 4p to 4p + 3
//! value = d · (scale + 1/2) / 2 · ±GRID[point]
//! ```
//!
//! The eighth value takes the sign that makes the number of minuses even.

use super::{grid, half};

block_type!(IQ3_XXS { d: 2, qs: 64, signs: 32 });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        let (qs, signs) = (self.qs.as_chunks::<8>().0, self.signs.as_chunks().0);
        for ((values, qs), signs) in values.as_chunks_mut().0.iter_mut().zip(qs).zip(signs) {
            let signs = u32::from_le_bytes(*signs);
            let d = d * (0.5 + (signs >> 28) as f32) * 0.5;
            let magnitudes = grid::values(&grid::IQ3_XXS, qs.map(usize::from));
            grid::decode_signed([d; 2], &magnitudes, grid::even_signs(signs), values);
        }
    }
}
