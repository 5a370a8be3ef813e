//! `Q5_0`: 5-bit codes around 16, the fifth bits stored apart.
//!
//! ```text
//! d f16 │ qh u32: bit l of value l │ qs[16]: value l (bits 0–3), value l + 16 (bits 4–7)
//!
//! value = (code - 16) · d
//! ```

use super::extremes::signed_largest;
use super::search::{lane, symmetric};
use super::{codes_of, fifth_bits, half, integer_part, inverse, nibbles, to_half, to_nibbles};

block_type!(Q5_0 { d: 2, qh: 4, qs: 16 });
block_encoder!(Q5_0 { d, qh, qs }, weighted);

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        let fifth = u32::from_le_bytes(self.qh);
        for (l, (value, code)) in values.iter_mut().zip(nibbles::<VALUES>(&self.qs)).enumerate() {
            let code = i32::from(code) | ((fifth >> l & 1) << 4) as i32;
            *value = (code as f32 - 16.0) * d;
        }
    }

    #[inline(always)]
    fn encode(values: &[f32; VALUES]) -> Block {
        let d = signed_largest(values) / -16.0;
        let inverse = inverse(d);
        let codes = codes_of(values, |value| integer_part(value * inverse + 16.5).min(31));
        Block { d: to_half(d), qh: fifth_bits(&codes), qs: to_nibbles(&codes) }
    }

    #[inline(always)]
    fn encode_weighted(x: &[[f32; 32]; VALUES], w: &[[f32; 32]; VALUES]) -> [Block; 32] {
        let fit = symmetric::fit(x, w, 16.0);
        std::array::from_fn(|i| {
            let codes = lane(&fit.codes, i);
            Block { d: to_half(fit.scale[i]), qh: fifth_bits(&codes), qs: to_nibbles(&codes) }
        })
    }
}
