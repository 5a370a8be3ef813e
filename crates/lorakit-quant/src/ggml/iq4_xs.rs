//! `IQ4_XS`: the codebook of `IQ4_NL` in 8 sub-blocks of 32 with 6-bit scales around 32.
//!
//! ```text
//! d f16 │ scales_h u16 │ scales_l[4] │ qs[128]
//!
//! scales_l[b / 2] = bits 0–3 of scale b (even b: bits 0–3, odd b: bits 4–7)
//! scales_h        = bits 4–5 of scale b at bits 2b and up
//! qs[16b + l]     = values 32b + l (bits 0–3), + 16 (bits 4–7)      l < 16
//! value = d · (scale - 32) · CODEBOOK[code]
//! ```

use super::search::codebook;
use super::search::{lane, lanes, nearest, transposed, weight};
use super::{half, inverse, iq4_nl, to_half, to_nibbles};

block_type!(IQ4_XS { d: 2, scales_h: 2, scales_l: 4, qs: 128 });

super_block_encoder!(IQ4_XS { d, scales_h, scales_l, qs });

/// Blocks that are searched side by side.
const GROUP: usize = 2;

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        let qs = self.qs.as_chunks::<16>().0;
        for (b, (values, qs)) in values.as_chunks_mut::<32>().0.iter_mut().zip(qs).enumerate() {
            let d = d * (f32::from(self.scale(b)) - 32.0);
            iq4_nl::decode(d, qs, values);
        }
    }

    /// The 6-bit scale of sub-block `b < 8`.
    #[inline(always)]
    fn scale(&self, b: usize) -> u8 {
        let low = (self.scales_l[b / 2] >> (4 * (b % 2))) & 15;
        let high = (u16::from_le_bytes(self.scales_h) >> (2 * b)) & 3;
        low | (high as u8) << 4
    }

    #[inline(always)]
    fn encode(
        values: [&[f32; VALUES]; GROUP],
        importance: Option<[&[f32; VALUES]; GROUP]>,
    ) -> [Block; GROUP] {
        let x: [[f32; 16]; 32] = transposed(values);
        let weights = match importance {
            Some(columns) => weight::by_importance(values, columns, &x, 2.0),
            None => x.map(|x| lanes(|i| x[i] * x[i])),
        };
        let scales = codebook::scales(&x, &weights);
        let d: [f32; GROUP] = std::array::from_fn(|g| {
            let scales = &scales[8 * g..][..8];
            -scales.iter().fold(0.0f32, |max, &s| if s.abs() > max.abs() { s } else { max }) / 32.0
        });
        let steps: [i32; 16] = lanes(|i| nearest(inverse(d[i / 8]) * scales[i]).clamp(-32, 31));
        let codes = codebook::codes(&x, &lanes(|i| inverse(d[i / 8] * steps[i] as f32)));
        std::array::from_fn(|g| {
            let (mut high, mut low, mut qs) = (0, [0; 4], [0; 128]);
            for (b, qs) in qs.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = (steps[8 * g + b] + 32) as u16;
                low[b / 2] |= (scale as u8 & 15) << (4 * (b % 2));
                high |= (scale >> 4) << (2 * b);
                *qs = to_nibbles(&lane(&codes, 8 * g + b));
            }
            Block { d: to_half(d[g]), scales_h: high.to_le_bytes(), scales_l: low, qs }
        })
    }
}
