//! `Q4_K`: 4-bit codes in 8 sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum.
//!
//! ```text
//! d f16 │ dmin f16 │ scales[12]: see `scale_min` │ qs[128]
//!
//! qs[32g + l] = values 64g + l (bits 0–3), + 32 (bits 4–7)      l < 32
//! value = d · scale · code - dmin · min
//! ```

use super::scale_min::{self, Coded, GROUP};
use super::search::affine::Search;
use super::{half, to_nibbles};

block_type!(Q4_K { d: 2, dmin: 2, scales: 12, qs: 128 });
super_block_encoder!(Q4_K { d, dmin, scales, qs });

const SEARCH: Search =
    Search { max_code: 15.0, first: -1.0, step: 0.1, last: 20, absolute: false, saturating: false };

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let (d, dmin) = (half(self.d), half(self.dmin));
        let pairs = scale_min::unpack(&self.scales);
        let qs = self.qs.as_chunks::<32>().0;
        for (j, (values, (scale, min))) in values.as_chunks_mut::<32>().0.iter_mut().zip(pairs).enumerate() {
            let (d, min) = (d * f32::from(scale), dmin * f32::from(min));
            let shift = 4 * (j % 2);
            for (value, q) in values.iter_mut().zip(&qs[j / 2]) {
                *value = d * f32::from((q >> shift) & 15) - min;
            }
        }
    }

    #[inline(always)]
    fn encode(
        values: [&[f32; VALUES]; GROUP],
        importance: Option<[&[f32; VALUES]; GROUP]>,
    ) -> [Block; GROUP] {
        scale_min::encode(values, importance, &SEARCH).map(|Coded { d, dmin, scales, codes }| {
            let mut qs = [0; 128];
            for (qs, codes) in qs.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<64>().0) {
                *qs = to_nibbles(codes);
            }
            Block { d, dmin, scales, qs }
        })
    }
}
