//! `Q6_K`: 6-bit codes around 32, the upper two bits stored apart, in 16 sub-blocks of 16 with signed 8-bit scales.
//!
//! ```text
//! ql[128] │ qh[64] │ scales[16] i8 │ d f16
//!
//! ql[64h + l]      = values 128h + l (bits 0–3), + 64 (bits 4–7)                           l < 32
//! ql[64h + 32 + l] = values 128h + 32 + l (bits 0–3), + 64 (bits 4–7)                      l < 32
//! qh[32h + l]      = values 128h + l (bits 0–1), + 32 (2–3), + 64 (4–5), + 96 (6–7)        l < 32
//! value = d · scale · (code - 32)
//! ```

use super::search::{NEARLY_ZERO, lane, lanes, nearest, symmetric, transposed};
use super::{half, to_half};

block_type!(Q6_K { ql: 128, qh: 64, scales: 16, d: 2 });
super_block_encoder!(Q6_K { ql, qh, scales, d });

const GROUP: usize = 2;

/// The values whose codes begin at these bits of `low` and `high`, in two sub-blocks.
#[inline(always)]
fn part<const LOW: u8, const HIGH: u8>(values: &mut [f32; 32], low: &[u8; 32], high: &[u8; 32], d: [f32; 2]) {
    let mut scales = [d[0]; 32];
    scales[16..].fill(d[1]);
    for (((value, low), high), scale) in values.iter_mut().zip(low).zip(high).zip(scales) {
        let code = ((low >> LOW) & 15) | ((high >> HIGH) & 3) << 4;
        *value = scale * (f32::from(code) - 32.0);
    }
}

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        let (ql, qh) = (self.ql.as_chunks::<32>().0, self.qh.as_chunks::<32>().0);
        let mut scales = [0.0; 16];
        for (scale, stored) in scales.iter_mut().zip(self.scales) {
            *scale = d * f32::from(stored as i8);
        }
        let scales = scales.as_chunks::<2>().0;
        let (halves, _) = values.as_chunks_mut::<128>();
        for (h, values) in halves.iter_mut().enumerate() {
            let (values, _) = values.as_chunks_mut::<32>();
            part::<0, 0>(&mut values[0], &ql[2 * h], &qh[h], scales[4 * h]);
            part::<0, 2>(&mut values[1], &ql[2 * h + 1], &qh[h], scales[4 * h + 1]);
            part::<4, 4>(&mut values[2], &ql[2 * h], &qh[h], scales[4 * h + 2]);
            part::<4, 6>(&mut values[3], &ql[2 * h + 1], &qh[h], scales[4 * h + 3]);
        }
    }

    #[inline(always)]
    fn encode(
        values: [&[f32; VALUES]; GROUP],
        importance: Option<[&[f32; VALUES]; GROUP]>,
    ) -> [Block; GROUP] {
        let x: [[f32; 32]; 16] = transposed(values);
        let weights = match importance {
            Some(columns) => transposed(columns),
            None => x.map(|x| lanes(|i| x[i] * x[i])),
        };
        let fit = symmetric::fit(&x, &weights, 32.0);
        std::array::from_fn(|g| {
            let scales = &fit.scale.as_chunks::<16>().0[g];
            let largest = scales.iter().fold(0.0f32, |max, &s| if s.abs() > max.abs() { s } else { max });
            if largest.abs() < NEARLY_ZERO {
                return Block { ql: [0; 128], qh: [0; 64], scales: [0; 16], d: [0; 2] };
            }
            let inverse = -128.0 / largest;
            let d = to_half(1.0 / inverse);
            let scales: [u8; 16] = lanes(|j| nearest(inverse * scales[j]).min(127) as i8 as u8);
            let mut codes = [0; VALUES];
            for (j, codes) in codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = half(d) * f32::from(scales[j] as i8);
                let values = &values[g].as_chunks::<16>().0[j];
                *codes = match scale {
                    // The codes of the search stay.
                    0.0 => lane(&fit.codes, 16 * g + j),
                    _ => lanes(|l| (nearest(values[l] / scale).clamp(-32, 31) + 32) as u8),
                };
            }
            let (mut ql, mut qh) = ([0; 128], [0; 64]);
            for (h, codes) in codes.as_chunks::<128>().0.iter().enumerate() {
                for l in 0..32 {
                    let of = |i: usize| codes[32 * i + l];
                    ql[64 * h + l] = of(0) & 15 | (of(2) & 15) << 4;
                    ql[64 * h + 32 + l] = of(1) & 15 | (of(3) & 15) << 4;
                    qh[32 * h + l] = of(0) >> 4 | of(1) >> 4 << 2 | of(2) >> 4 << 4 | of(3) >> 4 << 6;
                }
            }
            Block { ql, qh, scales, d }
        })
    }
}
