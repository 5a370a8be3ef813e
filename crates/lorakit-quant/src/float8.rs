//! `F8_E4M3`, `F8_E5M2` and `F8_E8M0`: the 8-bit floats of the Open Compute Project.
//!
//! ```text
//! E4M3: sign (bit 7), exponent (3–6, bias 7),  mantissa (0–2)      no infinity, one NaN, at most 448
//! E5M2: sign (bit 7), exponent (2–6, bias 15), mantissa (0–1)      the upper byte of a half
//! E8M0: exponent (bias 127)                                        powers of two, NaN at 255
//! ```
//!
//! Values are rounded to nearest, ties to even. Values that are too large become infinite in E5M2 and NaN in E4M3,
//! where recent versions of PyTorch give the largest value: an overflow should be visible. E8M0 holds scales; the code
//! that makes them decides how they are rounded.

use lorakit_tensor::DType;

use crate::codec::{Codec, Encoder, assert_whole_blocks};
use crate::float::{INFINITY, SIGN, exponent, f16_to_f32, float_type};

float_type!(F8_E4M3: u8, u8 & 0x7f, e4m3_to_f32, f32_to_e4m3);
float_type!(F8_E5M2: u8, u8 & 0x7c, e5m2_to_f32, f32_to_e5m2);
float_type!(F8_E8M0: u8, u8 & 0xff, e8m0_to_f32);

const NAN: u32 = INFINITY | 1 << 22;

#[inline(always)]
fn e4m3_to_f32(bits: u8) -> f32 {
    const REBIAS: u32 = (127 - 7) << 23;
    const SMALLEST_NORMAL: u32 = exponent(-6);

    let bits = u32::from(bits);
    let magnitude = (bits & 0x7f) << 20;
    // A subnormal has no hidden bit: give it one, then subtract the bit's value.
    let subnormal = f32::from_bits(magnitude + SMALLEST_NORMAL) - f32::from_bits(SMALLEST_NORMAL);
    let value = match magnitude {
        m if m < 1 << 23 => subnormal.to_bits(),
        m if m < 0x7f << 20 => m + REBIAS,
        _ => NAN,
    };
    f32::from_bits(value | (bits & 0x80) << 24)
}

#[inline(always)]
pub(crate) fn f32_to_e4m3(value: f32) -> u8 {
    // Everything beyond the largest, NaN too, is the one NaN.
    (magnitude::<3, 7>(value).min(0x7f) | (value.to_bits() & SIGN) >> 24) as u8
}

#[inline(always)]
fn e5m2_to_f32(bits: u8) -> f32 {
    f16_to_f32(u16::from(bits) << 8)
}

#[inline(always)]
fn f32_to_e5m2(value: f32) -> u8 {
    let finite_or_infinite = magnitude::<2, 15>(value).min(0x7c);
    let rounded = if value.is_nan() { 0x7f } else { finite_or_infinite };
    (rounded | (value.to_bits() & SIGN) >> 24) as u8
}

/// The value of an E8M0 exponent: `2^(bits - 127)`.
#[inline(always)]
pub(crate) fn e8m0_to_f32(bits: u8) -> f32 {
    f32::from_bits(match u32::from(bits) {
        0 => 1 << 22,
        255 => NAN,
        bits => bits << 23,
    })
}

/// The magnitude of a value, rounded to a float of `MANTISSA` bits below an unbounded exponent of the given bias: too
/// large for the type if the value is.
#[inline(always)]
fn magnitude<const MANTISSA: u32, const BIAS: u32>(value: f32) -> u32 {
    let shift = 23 - MANTISSA;
    let rebias = (127 - BIAS) << 23;
    let smallest_normal = rebias + (1 << 23);
    // Its unit in the last place is that of the subnormals, so adding it rounds to them.
    let align = smallest_normal + (shift << 23);

    let magnitude = value.to_bits() & !SIGN;
    let subnormal = (f32::from_bits(magnitude) + f32::from_bits(align)).to_bits().wrapping_sub(align);
    let odd = (magnitude >> shift) & 1;
    let normal = magnitude.wrapping_sub(rebias).wrapping_add((1 << (shift - 1)) - 1 + odd) >> shift;
    if magnitude < smallest_normal { subnormal } else { normal }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of the bits of a float by definition.
    fn value(bits: u8, mantissa: u32, bias: i32) -> f64 {
        let fraction = f64::from(bits & ((1 << mantissa) - 1)) / f64::from(1 << mantissa);
        let power = i32::from((bits & 0x7f) >> mantissa);
        let magnitude = match power {
            0 => fraction * 2f64.powi(1 - bias),
            _ => (1.0 + fraction) * 2f64.powi(power - bias),
        };
        if bits & 0x80 == 0 { magnitude } else { -magnitude }
    }

    #[test]
    fn every_code_has_its_value() {
        for bits in 0..=u8::MAX {
            let (e4m3, e5m2, e8m0) = (e4m3_to_f32(bits), e5m2_to_f32(bits), e8m0_to_f32(bits));
            match bits & 0x7f {
                0x7f => assert!(e4m3.is_nan()),
                _ => assert_eq!(f64::from(e4m3).to_bits(), value(bits, 3, 7).to_bits(), "{bits}"),
            }
            match bits & 0x7f {
                0x7d.. => assert!(e5m2.is_nan()),
                0x7c => assert_eq!(e5m2, f32::INFINITY.copysign(e5m2)),
                _ => assert_eq!(f64::from(e5m2).to_bits(), value(bits, 2, 15).to_bits(), "{bits}"),
            }
            match bits {
                255 => assert!(e8m0.is_nan()),
                _ => assert_eq!(f64::from(e8m0), 2f64.powi(i32::from(bits) - 127)),
            }
        }
    }

    /// Every code is found again, and between two codes the nearer one; halfway, the even one.
    fn rounds_to_nearest(decode: fn(u8) -> f32, encode: fn(f32) -> u8, largest: u8, beyond: u8) {
        for low in 0..=largest {
            let value = decode(low);
            let step = value - decode(low.max(1) - 1);
            let next = if low == largest { value + step } else { decode(low + 1) };
            let middle = (value + next) / 2.0;
            let high = if low == largest { beyond } else { low + 1 };
            let even = if low % 2 == 0 { low } else { high };
            for (value, code) in
                [(value, low), (middle.next_down(), low), (middle, even), (middle.next_up(), high)]
            {
                assert_eq!(encode(value), code, "{value}");
                assert_eq!(encode(-value), code | 0x80, "-{value}");
            }
        }
        assert_eq!(encode(f32::from_bits(1)), 0);
        assert_eq!(encode(f32::MAX), beyond);
        assert_eq!(encode(f32::INFINITY), beyond);
        assert_eq!((encode(f32::NAN.copysign(1.0)), encode(f32::NAN.copysign(-1.0))), (0x7f, 0xff));
    }

    #[test]
    fn values_are_rounded_to_nearest() {
        rounds_to_nearest(e4m3_to_f32, f32_to_e4m3, 0x7e, 0x7f);
        rounds_to_nearest(e5m2_to_f32, f32_to_e5m2, 0x7b, 0x7c);
    }
}
