//! `Q3_K`: 3-bit codes around 4, the third bits stored apart, in 16 sub-blocks of 16 with 6-bit scales around 32.
//!
//! ```text
//! hmask[32] │ qs[64] │ scales[12] │ d f16
//!
//! hmask[l]    = bit k: third bit of value 32k + l                                      l < 32
//! qs[32h + l] = values 128h + l (bits 0–1), + 32 (2–3), + 64 (4–5), + 96 (6–7)         l < 32
//! scales      = j < 8: bits 0–3 of scales[j], else bits 4–7 of scales[j - 8];
//!               bits 4–5 of the scale are bits 2(j / 4) and up of scales[8 + j % 4]
//! value = d · (scale - 32) · (code - 4)
//! ```

use super::search::{lane, lanes, nearest, symmetric, transposed, weight};
use super::{half, pairs_of_bits, to_half};

block_type!(Q3_K { hmask: 32, qs: 64, scales: 12, d: 2 });
super_block_encoder!(Q3_K { hmask, qs, scales, d });

const GROUP: usize = 2;

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        let (qs, hmask) = (self.qs.as_chunks::<16>().0, self.hmask.as_chunks::<16>().0);
        for (j, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let d = d * (f32::from(self.scale(j)) - 32.0);
            let shift = 2 * (j / 2 % 4);
            for ((value, q), h) in values.iter_mut().zip(&qs[2 * (j / 8) + j % 2]).zip(&hmask[j % 2]) {
                let code = ((q >> shift) & 3) | ((h >> (j / 2)) & 1) << 2;
                *value = d * (f32::from(code) - 4.0);
            }
        }
    }

    /// The 6-bit scale of sub-block `j < 16`.
    #[inline(always)]
    fn scale(&self, j: usize) -> u8 {
        let low = (self.scales[j % 8] >> (4 * (j / 8))) & 15;
        let high = (self.scales[8 + j % 4] >> (2 * (j / 4))) & 3;
        low | high << 4
    }

    #[inline(always)]
    fn encode(
        values: [&[f32; VALUES]; GROUP],
        importance: Option<[&[f32; VALUES]; GROUP]>,
    ) -> [Block; GROUP] {
        let x: [[f32; 32]; 16] = transposed(values);
        let weights = importance.map(|columns| weight::by_importance(values, columns, &x, 2.0));
        let fit = match &weights {
            Some(weights) => symmetric::fit(&x, weights, 4.0),
            None => symmetric::refine(&x, 4.0),
        };
        std::array::from_fn(|g| {
            let of = |all: &[f32; 32]| all.as_chunks::<16>().0[g];
            let scales = of(&fit.scale);
            let (d, scales) = match &weights {
                Some(weights) => {
                    let weights = of(&weight::sums(weights));
                    let fit = symmetric::fit(&scales.map(|s| [s]), &weights.map(|w| [w]), 32.0);
                    (fit.scale[0], fit.codes.map(|[code]| code))
                }
                None => share(&scales),
            };
            let d = to_half(d);
            let (mut codes, mut hmask) = ([0; VALUES], [0; 32]);
            for (j, codes) in codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = half(d) * (f32::from(scales[j]) - 32.0);
                let values = &values[g].as_chunks::<16>().0[j];
                *codes = match scale {
                    // The codes of the search stay.
                    0.0 => lane(&fit.codes, 16 * g + j),
                    _ => lanes(|l| (nearest(values[l] / scale).clamp(-4, 3) + 4) as u8),
                };
            }
            for (k, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
                for (h, code) in hmask.iter_mut().zip(codes) {
                    *h |= code >> 2 << k;
                }
            }
            let mut packed = [0; 12];
            for (j, scale) in scales.iter().enumerate() {
                packed[j % 8] |= (scale & 15) << (4 * (j / 8));
                packed[8 + j % 4] |= scale >> 4 << (2 * (j / 4));
            }
            Block { hmask, qs: pairs_of_bits(&codes), scales: packed, d }
        })
    }
}

/// Scales as multiples, from -32 to 31, of a 32nd of the largest: the unit, and the multiples plus 32.
#[inline(always)]
fn share(scales: &[f32; 16]) -> (f32, [u8; 16]) {
    let largest = scales.iter().fold(0.0f32, |max, &s| if s.abs() > max.abs() { s } else { max });
    if largest == 0.0 {
        return (0.0, [0; 16]);
    }
    let inverse = -32.0 / largest;
    (1.0 / inverse, lanes(|j| (nearest(inverse * scales[j]).clamp(-32, 31) + 32) as u8))
}
