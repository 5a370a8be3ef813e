//! `MXFP4`: E2M1 codes with a power of two as scale.
//!
//! ```text
//! e u8 │ qs[16]: value l (bits 0–3), value l + 16 (bits 4–7)      value = 2^(e - 127) · E2M1[code]
//! ```

use super::extremes::largest;
use super::{codes_of, e2m1, nibbles, to_nibbles};

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
        Block { e: [e], qs: to_nibbles(&codes_of(values, |value| e2m1::nearest(value, d))) }
    }
}

/// `2^(e - 128)`, half of what `e` says. Like ggml, it treats 255 as a number, not as NaN.
#[inline(always)]
fn half_power(e: u8) -> f32 {
    let e = u32::from(e);
    // The two smallest powers are subnormal.
    f32::from_bits(if e < 2 { 1 << (21 + e) } else { (e - 1) << 23 })
}

/// The exponent that puts the largest value at the largest codes: `floor(log2(largest)) - 2`, biased. Like ggml's on
/// x86, it wraps below 0.
#[inline(always)]
fn exponent(largest: f32) -> u8 {
    const MANTISSA: u32 = 0x7f_ffff;
    let bits = largest.to_bits();
    let floor = match largest {
        0.0 => return 0,
        // Normal, and far from the next power.
        _ if bits > MANTISSA && bits & MANTISSA < MANTISSA - 0xff => (bits >> 23) as i32 - 127,
        _ => floor_log2(largest),
    };
    (floor - 2 + 127) as u8
}

/// `floor(log2f(value))` of a positive value. As the logarithm is an `f32`, a value just below a power of two has the
/// logarithm of the power.
#[cold]
fn floor_log2(value: f32) -> i32 {
    /// Subnormals times this are normal.
    const UP: f32 = (1 << 24) as f32;
    let (value, shift) = if value < f32::MIN_POSITIVE { (value * UP, 24) } else { (value, 0) };
    let power = |bits: u32| (bits >> 23) as i32 - 127 - shift;
    let low = power(value.to_bits());
    // A distance of n units of 2⁻²⁴ below the next power makes the logarithm n / ln 2 such units smaller, which is lost
    // if it is less than half a unit in the last place. For logarithms from 128 to 256 that is up to n = 88 = floor(2⁷
    // ln 2); each halving of the logarithm halves it.
    let magnitude = (low ^ low >> 31) as u32;
    power(value.to_bits() + (88 >> (magnitude.leading_zeros() - 24)))
}

#[cfg(test)]
mod tests {
    use super::{exponent, floor_log2, half_power};

    #[test]
    fn every_exponent_is_a_power_of_two() {
        for e in 0..=u8::MAX {
            assert_eq!(f64::from(half_power(e)), 2f64.powi(i32::from(e) - 128), "{e}");
        }
    }

    #[test]
    fn logarithms_are_rounded_before_they_are_floored() {
        let around = |power: i32| {
            let bits = 2f32.powi(power).to_bits();
            (-2000i32..2000).filter_map(move |ulps| bits.checked_add_signed(ulps)).map(f32::from_bits)
        };
        let values = (-149..=127).flat_map(around);
        for value in values.chain([f32::MIN_POSITIVE, f32::MAX]).filter(|x| *x > 0.0 && x.is_finite()) {
            let floor = (f64::from(value).log2() as f32).floor() as i32;
            assert_eq!(floor_log2(value), floor, "{value:e}");
            assert_eq!(exponent(value), (floor + 125) as u8, "{value:e}");
        }
        assert_eq!([0.0, 1.0, 6.0].map(exponent), [0, 125, 127]);
    }
}
