//! `Q4_0`: 4-bit codes around 8.
//!
//! ```text
//! d f16 │ qs[16]: value l (bits 0–3), value l + 16 (bits 4–7)      value = (code - 8) · d
//! ```

use super::extremes::signed_largest;
use super::search::{lane, symmetric};
use super::{codes_of, half, integer_part, inverse, nibbles, to_half, to_nibbles};

block_type!(Q4_0 { d: 2, qs: 16 });
block_encoder!(Q4_0 { d, qs }, weighted);

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        for (value, code) in values.iter_mut().zip(nibbles::<VALUES>(&self.qs)) {
            *value = (f32::from(code) - 8.0) * d;
        }
    }

    #[inline(always)]
    fn encode(values: &[f32; VALUES]) -> Block {
        let d = signed_largest(values) / -8.0;
        let inverse = inverse(d);
        let codes = codes_of(values, |value| integer_part(value * inverse + 8.5).min(15));
        Block { d: to_half(d), qs: to_nibbles(&codes) }
    }

    #[inline(always)]
    fn encode_weighted(x: &[[f32; 32]; VALUES], w: &[[f32; 32]; VALUES]) -> [Block; 32] {
        let fit = symmetric::fit(x, w, 8.0);
        std::array::from_fn(|i| {
            let codes = lane(&fit.codes, i);
            Block { d: to_half(fit.scale[i]), qs: to_nibbles(&codes) }
        })
    }
}
