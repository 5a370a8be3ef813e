//! `Q8_0`: signed bytes.
//!
//! ```text
//! d f16 │ qs[32] i8      value = qs · d
//! ```

use super::half;

block_type!(Q8_0 { d: 2, qs: 32 });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half(self.d);
        for (value, q) in values.iter_mut().zip(self.qs) {
            *value = f32::from(q as i8) * d;
        }
    }
}
