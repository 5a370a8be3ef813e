//! `MXFP4`: E2M1 codes with a power of two as scale.
//!
//! ```text
//! e u8 │ qs[16]: value l (bits 0–3), value l + 16 (bits 4–7)      value = 2^(e - 127) · E2M1[code]
//! ```

use super::{e2m1, nibbles};

block_type!(MXFP4 { e: 1, qs: 16 });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half_power(self.e[0]);
        for (value, code) in values.iter_mut().zip(nibbles::<32>(&self.qs)) {
            *value = d * e2m1::doubled(code);
        }
    }
}

/// `2^(e - 128)`, half of what `e` says. Like ggml, it takes 255 for a number, not for NaN.
#[inline(always)]
fn half_power(e: u8) -> f32 {
    let e = u32::from(e);
    // The two smallest powers are subnormal.
    f32::from_bits(if e < 2 { 1 << (21 + e) } else { (e - 1) << 23 })
}

#[cfg(test)]
mod tests {
    use super::half_power;

    #[test]
    fn every_exponent_is_a_power_of_two() {
        for e in 0..=u8::MAX {
            assert_eq!(f64::from(half_power(e)), 2f64.powi(i32::from(e) - 128), "{e}");
        }
    }
}
