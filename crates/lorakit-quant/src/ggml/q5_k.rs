//! `Q5_K`: 5-bit codes, the fifth bits stored apart, in 8 sub-blocks of 32 with a 6-bit scale and a 6-bit minimum each.
//!
//! ```text
//! d f16 │ dmin f16 │ scales[12]: see `scale_min` │ qh[32] │ qs[128]
//!
//! qh[l]       = bit j: fifth bit of value 32j + l               l < 32
//! qs[32g + l] = values 64g + l (bits 0–3), + 32 (bits 4–7)      l < 32
//! value = d · scale · code - dmin · min
//! ```

use super::scale_min::{self, Coded, GROUP};
use super::search::affine::Search;
use super::{half, to_nibbles};

block_type!(Q5_K { d: 2, dmin: 2, scales: 12, qh: 32, qs: 128 });
super_block_encoder!(Q5_K { d, dmin, scales, qh, qs });

const SEARCH: Search =
    Search { max_code: 31.0, first: -0.5, step: 0.1, last: 15, absolute: false, saturating: false };

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let (d, dmin) = (half(self.d), half(self.dmin));
        let pairs = scale_min::unpack(&self.scales);
        let qs = self.qs.as_chunks::<32>().0;
        for (j, (values, (scale, min))) in values.as_chunks_mut::<32>().0.iter_mut().zip(pairs).enumerate() {
            let (d, min) = (d * f32::from(scale), dmin * f32::from(min));
            let shift = 4 * (j % 2);
            for ((value, q), h) in values.iter_mut().zip(&qs[j / 2]).zip(&self.qh) {
                let code = ((q >> shift) & 15) | ((h >> j) & 1) << 4;
                *value = d * f32::from(code) - min;
            }
        }
    }

    #[inline(always)]
    fn encode(
        values: [&[f32; VALUES]; GROUP],
        importance: Option<[&[f32; VALUES]; GROUP]>,
    ) -> [Block; GROUP] {
        scale_min::encode(values, importance, &SEARCH).map(|Coded { d, dmin, scales, codes }| {
            let (mut qh, mut qs) = ([0; 32], [0; 128]);
            for (qs, codes) in qs.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<64>().0) {
                *qs = to_nibbles(codes);
            }
            for (j, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
                for (h, code) in qh.iter_mut().zip(codes) {
                    *h |= code >> 4 << j;
                }
            }
            Block { d, dmin, scales, qh, qs }
        })
    }
}
