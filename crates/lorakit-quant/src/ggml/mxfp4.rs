//! `MXFP4`: E2M1 codes with a power of two as scale.
//!
//! ```text
//! e u8 │ qs[16]: value l (bits 0–3), value l + 16 (bits 4–7)      value = 2^(e - 127) · E2M1[code]
//! ```

use super::extremes::largest;
use super::{e2m1, nibbles, to_nibbles};

block_type!(MXFP4 { e: 1, qs: 16 });
block_encoder!(MXFP4 { e, qs });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let d = half_power(self.e[0]);
        for (value, code) in values.iter_mut().zip(nibbles::<32>(&self.qs)) {
            *value = d * e2m1::doubled(code);
        }
    }

    #[inline(always)]
    fn encode(values: &[f32; VALUES]) -> Block {
        let e = exponent(largest(values));
        let d = half_power(e);
        let codes: [u8; VALUES] = std::array::from_fn(|l| e2m1::nearest(values[l], d));
        Block { e: [e], qs: to_nibbles(&codes) }
    }
}

/// `2^(e - 128)`, half of what `e` says. Like ggml, it takes 255 for a number, not for NaN.
#[inline(always)]
fn half_power(e: u8) -> f32 {
    let e = u32::from(e);
    // The two smallest powers are subnormal.
    f32::from_bits(if e < 2 { 1 << (21 + e) } else { (e - 1) << 23 })
}

/// The exponent that puts the largest value at the largest codes: `floor(log2(largest)) - 2`, biased. ggml takes the
/// logarithm in `f32`, which rounds up just below a power of two.
#[inline(always)]
fn exponent(largest: f32) -> u8 {
    const MANTISSA: u32 = 0x7f_ffff;
    /// Mantissas above may be rounded up.
    const HIGH: u32 = MANTISSA - 0xff;
    let bits = largest.to_bits();
    let floor = match largest {
        0.0 => return 0,
        _ if bits & MANTISSA < HIGH && bits > MANTISSA => (bits >> 23) as i32 - 127,
        _ => (f64::from(largest).log2() as f32).floor() as i32,
    };
    (floor - 2 + 127) as u8
}

#[cfg(test)]
mod tests {
    use super::{exponent, half_power};

    #[test]
    fn every_exponent_is_a_power_of_two() {
        for e in 0..=u8::MAX {
            assert_eq!(f64::from(half_power(e)), 2f64.powi(i32::from(e) - 128), "{e}");
        }
    }

    #[test]
    fn exponents_are_those_of_the_rounded_logarithm() {
        let around = |power: i32| {
            let bits = 2f32.powi(power).to_bits();
            (-2000i32..2000).map(move |ulps| f32::from_bits(bits.wrapping_add_signed(ulps)))
        };
        for largest in (-125..=127).flat_map(around).filter(|x| x.is_finite()) {
            let log = f64::from(largest).log2() as f32;
            assert_eq!(exponent(largest), (log.floor() as i32 + 125) as u8, "{largest:e}");
        }
        assert_eq!(exponent(0.0), 0);
    }
}
