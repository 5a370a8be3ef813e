//! `Q8_0`: signed bytes.
//!
//! ```text
//! d f16 │ qs[32] i8      value = qs · d
//! ```

use super::extremes::largest;
use super::{codes_of, half, inverse, round, to_half};

block_type!(Q8_0 { d: 2, qs: 32 });
block_encoder!(Q8_0 { d, qs });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        for (value, q) in values.iter_mut().zip(self.qs) {
            *value = f32::from(q as i8) * d;
        }
    }

    #[inline(always)]
    fn encode(values: &[f32; VALUES]) -> Block {
        let d = largest(values) / 127.0;
        let inverse = inverse(d);
        Block { d: to_half(d), qs: codes_of(values, |value| round(value * inverse) as u8) }
    }
}
