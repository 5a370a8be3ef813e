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

use super::search::{codebook, lanes, nearest, transposed, weight};
use super::{half, inverse, iq4_nl, to_half};

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
        [
            Block::with_scales(values[0], &lanes(|b| scales[b])),
            Block::with_scales(values[1], &lanes(|b| scales[8 + b])),
        ]
    }

    /// The block whose sub-blocks have the scales nearest to `scales`.
    #[inline(always)]
    fn with_scales(values: &[f32; VALUES], scales: &[f32; 8]) -> Block {
        let mut largest = 0.0f32;
        for scale in scales {
            largest = if scale.abs() > largest.abs() { *scale } else { largest };
        }
        let d = -largest / 32.0;
        let (mut high, mut low, mut qs) = (0, [0; 4], [0; 128]);
        let sub_blocks = qs.as_chunks_mut::<16>().0.iter_mut().zip(values.as_chunks::<32>().0);
        for (b, (qs, values)) in sub_blocks.enumerate() {
            let scale = nearest(inverse(d) * scales[b]).clamp(-32, 31);
            *qs = iq4_nl::codes(inverse(d * scale as f32), values);
            let scale = (scale + 32) as u16;
            low[b / 2] |= (scale as u8 & 15) << (4 * (b % 2));
            high |= (scale >> 4) << (2 * b);
        }
        Block { d: to_half(d), scales_h: high.to_le_bytes(), scales_l: low, qs }
    }
}
