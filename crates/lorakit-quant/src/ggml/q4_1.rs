//! `Q4_1`: 4-bit codes above a minimum.
//!
//! ```text
//! d f16 │ m f16 │ qs[16]: value l (bits 0–3), value l + 16 (bits 4–7)      value = code · d + m
//! ```

use super::extremes::bounds;
use super::search::affine::Search;
use super::search::lane;
use super::{codes_of, half, integer_part, inverse, nibbles, to_half, to_nibbles};

block_type!(Q4_1 { d: 2, m: 2, qs: 16 });
block_encoder!(Q4_1 { d, m, qs }, weighted);

const SEARCH: Search =
    Search { max_code: 15.0, first: -0.9, step: 0.05, last: 36, absolute: false, saturating: true };

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let (d, m) = (half(self.d), half(self.m));
        for (value, code) in values.iter_mut().zip(nibbles::<VALUES>(&self.qs)) {
            *value = f32::from(code) * d + m;
        }
    }

    #[inline(always)]
    fn encode(values: &[f32; VALUES]) -> Block {
        let (low, high) = bounds(values);
        let d = (high - low) / 15.0;
        let inverse = inverse(d);
        let codes = codes_of(values, |value| integer_part((value - low) * inverse + 0.5).min(15));
        Block { d: to_half(d), m: to_half(low), qs: to_nibbles(&codes) }
    }

    #[inline(always)]
    fn encode_weighted(x: &[[f32; 32]; VALUES], w: &[[f32; 32]; VALUES]) -> [Block; 32] {
        let fit = SEARCH.fit(x, w);
        std::array::from_fn(|i| {
            let codes = lane(&fit.codes, i);
            Block { d: to_half(fit.scale[i]), m: to_half(-fit.min[i]), qs: to_nibbles(&codes) }
        })
    }
}
