//! `Q2_K`: 2-bit codes in 16 sub-blocks of 16, each with a 4-bit scale and a 4-bit minimum.
//!
//! ```text
//! scales[16]: scale (bits 0–3), min (bits 4–7) │ qs[64] │ d f16 │ dmin f16
//!
//! qs[32h + l] = values 128h + l (bits 0–1), + 32 (2–3), + 64 (4–5), + 96 (6–7)      l < 32
//! value = d · scale · code - dmin · min
//! ```

use super::scale_min::share;
use super::search::affine::Search;
use super::search::{lane, lanes, nearest, non_negative, transposed, weight};
use super::{half, pairs_of_bits, to_half};

block_type!(Q2_K { scales: 16, qs: 64, d: 2, dmin: 2 });
super_block_encoder!(Q2_K { scales, qs, d, dmin });

const GROUP: usize = 1;

const SEARCH: Search =
    Search { max_code: 3.0, first: -0.5, step: 0.1, last: 15, absolute: true, saturating: false };
const WEIGHTED: Search =
    Search { first: -0.9, step: 0.05, last: 36, absolute: false, saturating: true, ..SEARCH };

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let (d, dmin) = (half(self.d), half(self.dmin));
        let qs = self.qs.as_chunks::<32>().0;
        let scales = self.scales.as_chunks::<2>().0;
        for (i, (values, scales)) in values.as_chunks_mut::<32>().0.iter_mut().zip(scales).enumerate() {
            let d = scales.map(|scale| d * f32::from(scale & 15));
            let min = scales.map(|scale| dmin * f32::from(scale >> 4));
            for (l, (value, q)) in values.iter_mut().zip(&qs[i / 4]).enumerate() {
                *value = d[l / 16] * f32::from((q >> (2 * (i % 4))) & 3) - min[l / 16];
            }
        }
    }

    #[inline(always)]
    fn encode(
        values: [&[f32; VALUES]; GROUP],
        importance: Option<[&[f32; VALUES]; GROUP]>,
    ) -> [Block; GROUP] {
        let x: [[f32; 16]; 16] = transposed(values);
        let (fit, (d, scales), (dmin, mins));
        match importance {
            Some(columns) => {
                fit = WEIGHTED.fit(&x, &weight::by_importance(values, columns, &x, 1.0));
                (d, scales) = non_negative::fit(&fit.scale, &fit.weight, 15);
                (dmin, mins) = non_negative::fit(&fit.min, &fit.weight, 15);
            }
            None => {
                fit = SEARCH.fit(&x, &x.map(|x| lanes(|i| x[i].abs())));
                (d, scales) = share(&fit.scale, 15);
                (dmin, mins) = share(&fit.min, 15);
            }
        }
        let (d, dmin) = (to_half(d), to_half(dmin));
        let mut codes = [0; VALUES];
        for (j, codes) in codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let (scale, min) = (half(d) * f32::from(scales[j]), half(dmin) * f32::from(mins[j]));
            let values = &values[0].as_chunks::<16>().0[j];
            *codes = match scale {
                // The codes of the search stay.
                0.0 => lane(&fit.codes, j),
                _ => lanes(|l| nearest((values[l] + min) / scale).clamp(0, 3) as u8),
            };
        }
        [Block { scales: lanes(|j| scales[j] | mins[j] << 4), qs: pairs_of_bits(&codes), d, dmin }]
    }
}
