//! `IQ4_NL`: 4-bit codes of a codebook that is denser around zero.
//!
//! ```text
//! d f16 │ qs[16]: value l (bits 0–3), value l + 16 (bits 4–7)      value = d · CODEBOOK[code]
//! ```

use super::search::codebook::{self, CODEBOOK, nearest_code};
use super::search::{lanes, transposed, weight};
use super::{half, inverse, nibbles, to_half, to_nibbles};

block_type!(IQ4_NL { d: 2, qs: 16 });

super_block_encoder!(IQ4_NL { d, qs });

/// Blocks that are searched side by side.
const GROUP: usize = 16;

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        decode(half(self.d), &self.qs, values);
    }

    #[inline(always)]
    fn encode(
        values: [&[f32; VALUES]; GROUP],
        importance: Option<[&[f32; VALUES]; GROUP]>,
    ) -> [Block; GROUP] {
        let x: [[f32; GROUP]; VALUES] = transposed(values);
        let weights = match importance {
            Some(columns) => weight::by_importance(values, columns, &x, 2.0),
            None => x.map(|x| lanes(|i| x[i] * x[i])),
        };
        let scales = codebook::scales(&x, &weights);
        let mut qs = [[0; 16]; GROUP];
        for ((qs, values), scale) in qs.iter_mut().zip(values).zip(scales) {
            *qs = codes(inverse(scale), values);
        }
        std::array::from_fn(|i| Block { d: to_half(scales[i]), qs: qs[i] })
    }
}

/// The codes of 32 values that `inverse` scales to the codebook.
#[inline(always)]
pub(super) fn codes(inverse: f32, values: &[f32; 32]) -> [u8; 16] {
    to_nibbles(&lanes::<u8, 32>(|l| nearest_code(inverse * values[l])))
}

/// Decodes 32 values with one scale.
#[inline(always)]
pub(super) fn decode(d: f32, qs: &[u8; 16], values: &mut [f32; 32]) {
    for (value, code) in values.iter_mut().zip(nibbles::<32>(qs)) {
        *value = d * CODEBOOK[usize::from(code & 15)];
    }
}
