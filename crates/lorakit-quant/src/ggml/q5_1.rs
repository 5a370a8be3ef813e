//! `Q5_1`: 5-bit codes above a minimum, the fifth bits stored apart.
//!
//! ```text
//! d f16 │ m f16 │ qh u32: bit l of value l │ qs[16]: value l (bits 0–3), value l + 16 (bits 4–7)
//!
//! value = code · d + m
//! ```

use super::extremes::bounds;
use super::search::affine::Search;
use super::search::lane;
use super::{codes_of, fifth_bits, half, integer_part, inverse, nibbles, to_half, to_nibbles};

block_type!(Q5_1 { d: 2, m: 2, qh: 4, qs: 16 });
block_encoder!(Q5_1 { d, m, qh, qs }, weighted);

const SEARCH: Search =
    Search { max_code: 31.0, first: -0.9, step: 0.05, last: 36, absolute: false, saturating: true };

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let (d, m) = (half(self.d), half(self.m));
        let fifth = u32::from_le_bytes(self.qh);
        for (l, (value, code)) in values.iter_mut().zip(nibbles::<VALUES>(&self.qs)).enumerate() {
            let code = i32::from(code) | ((fifth >> l & 1) << 4) as i32;
            *value = code as f32 * d + m;
        }
    }

    #[inline(always)]
    fn encode(values: &[f32; VALUES]) -> Block {
        let (low, high) = bounds(values);
        let d = (high - low) / 31.0;
        let inverse = inverse(d);
        let codes = codes_of(values, |value| integer_part((value - low) * inverse + 0.5));
        Block { d: to_half(d), m: to_half(low), qh: fifth_bits(&codes), qs: to_nibbles(&codes) }
    }

    #[inline(always)]
    fn encode_weighted(x: &[[f32; 32]; VALUES], w: &[[f32; 32]; VALUES]) -> [Block; 32] {
        let fit = SEARCH.fit(x, w);
        std::array::from_fn(|i| {
            let codes = lane(&fit.codes, i);
            Block {
                d: to_half(fit.scale[i]),
                m: to_half(-fit.min[i]),
                qh: fifth_bits(&codes),
                qs: to_nibbles(&codes),
            }
        })
    }
}
