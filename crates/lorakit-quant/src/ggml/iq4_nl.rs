//! `IQ4_NL`: 4-bit codes into a codebook that is denser around zero.
//!
//! ```text
//! d f16 │ qs[16]: value l (bits 0–3), value l + 16 (bits 4–7)      value = d · CODEBOOK[code]
//! ```

use super::{half, nibbles};

block_type!(IQ4_NL { d: 2, qs: 16 });

/// The values of the codes, before scaling.
const CODEBOOK: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        decode(half(self.d), &self.qs, values);
    }
}

/// Decodes 32 values of one scale.
#[inline(always)]
pub(super) fn decode(d: f32, qs: &[u8; 16], values: &mut [f32; 32]) {
    for (value, code) in values.iter_mut().zip(nibbles::<32>(qs)) {
        *value = d * CODEBOOK[usize::from(code & 15)];
    }
}
