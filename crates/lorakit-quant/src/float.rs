//! `F64`, `F32`, `F16` and `BF16`: one value per block, IEEE formats in little-endian order.
//!
//! Conversions to a narrower format round to nearest, ties to even; values that are too large become infinite, and a
//! NaN stays a NaN (made quiet, its payload cut). The loops run at the speed of memory, so the half formats are
//! converted by integer arithmetic without branches, which every vector unit can do.

use lorakit_tensor::DType;

use crate::codec::{Codec, Encoder, assert_whole_blocks};

/// Declares the codec of a float type from its conversions: bits to `f32`, and `f32` to bits if it can be encoded. Its
/// bits, as the unsigned integer `$raw`, are a NaN or an infinity if all bits of `$special` are set.
macro_rules! float_type {
    ($name:ident: $bits:ident, $raw:ident & $special:expr, $to_f32:path) => {
        #[allow(non_camel_case_types, reason = "spelled as the specification spells it")]
        #[derive(Debug)]
        pub(crate) struct $name;

        impl Codec for $name {
            fn dtype(&self) -> DType {
                DType::$name
            }

            fn decode(&self, bytes: &[u8], values: &mut [f32]) {
                wide! {
                    fn decode(bytes: &[u8], values: &mut [f32]) {
                        for (bytes, value) in bytes.as_chunks().0.iter().zip(values) {
                            *value = $to_f32($bits::from_le_bytes(*bytes));
                        }
                    }
                }
                assert_whole_blocks(DType::$name, values.len(), bytes.len());
                decode(bytes, values);
            }

            fn all_finite(&self, bytes: &[u8]) -> bool {
                wide! {
                    fn all_finite(bytes: &[u8]) -> bool {
                        // No branch, so that the loop is vectorised.
                        let mut bad = 0;
                        for bytes in bytes.as_chunks().0 {
                            bad |= $raw::from($raw::from_le_bytes(*bytes) & $special == $special);
                        }
                        bad == 0
                    }
                }
                all_finite(bytes)
            }
        }
    };
    ($name:ident: $bits:ident, $raw:ident & $special:expr, $to_f32:path, $from_f32:path) => {
        float_type!($name: $bits, $raw & $special, $to_f32);

        impl Encoder for $name {
            fn dtype(&self) -> DType {
                DType::$name
            }

            fn encode(&self, values: &[f32], bytes: &mut [u8]) {
                wide! {
                    fn encode(values: &[f32], bytes: &mut [u8]) {
                        for (value, bytes) in values.iter().zip(bytes.as_chunks_mut().0) {
                            *bytes = $bits::to_le_bytes($from_f32(*value));
                        }
                    }
                }
                assert_whole_blocks(DType::$name, values.len(), bytes.len());
                encode(values, bytes);
            }
        }
    };
}
pub(crate) use float_type;

float_type!(F64: f64, u64 & (0x7ff << 52), f64_to_f32, f64::from);
float_type!(F32: u32, u32 & INFINITY, f32::from_bits, f32::to_bits);
float_type!(F16: u16, u16 & 0x7c00, f16_to_f32, f32_to_f16);
float_type!(BF16: u16, u16 & 0x7f80, bf16_to_f32, f32_to_bf16);

/// Whether every value is finite.
pub fn all_finite(values: &[f32]) -> bool {
    wide! {
        fn all_finite(values: &[f32]) -> bool {
            let mut bad = 0;
            for value in values {
                bad |= u32::from(value.to_bits() & INFINITY == INFINITY);
            }
            bad == 0
        }
    }
    all_finite(values)
}

/// The value nearest to a double.
#[inline(always)]
fn f64_to_f32(double: f64) -> f32 {
    double as f32
}

pub(crate) const SIGN: u32 = 1 << 31;
pub(crate) const INFINITY: u32 = 0xff << 23;

/// The exponent `e` of an `f32`, in place.
pub(crate) const fn exponent(e: i32) -> u32 {
    ((e + 127) as u32) << 23
}

/// The largest magnitude. Magnitudes compare like the integers with the same bits, NaN above all.
#[inline(always)]
pub(crate) fn absmax(values: &[f32]) -> f32 {
    f32::from_bits(values.iter().map(|v| v.abs().to_bits()).fold(0, u32::max))
}

/// The value of half-precision bits.
#[inline(always)]
pub(crate) fn f16_to_f32(half: u16) -> f32 {
    const REBIAS: u32 = (127 - 15) << 23;
    const SMALLEST_NORMAL: u32 = exponent(-14);

    let half = u32::from(half);
    let magnitude = (half & 0x7fff) << 13;
    let normal = magnitude + REBIAS;
    // A subnormal has no hidden bit: give it one, then subtract the bit's value.
    let subnormal = f32::from_bits(magnitude + SMALLEST_NORMAL) - f32::from_bits(SMALLEST_NORMAL);
    let quiet = u32::from(magnitude > 0x7c00 << 13) << 22;
    let infinite = magnitude | INFINITY | quiet;

    let bits = match magnitude {
        m if m < 1 << 23 => subnormal.to_bits(),
        m if m < 0x7c00 << 13 => normal,
        _ => infinite,
    };
    f32::from_bits(bits | (half & 0x8000) << 16)
}

/// The half-precision bits nearest to a value.
#[inline(always)]
pub(crate) fn f32_to_f16(value: f32) -> u16 {
    const REBIAS: u32 = (127 - 15) << 23;
    /// Its unit in the last place is that of half-precision subnormals, so adding it rounds to them.
    const ALIGN: u32 = exponent(-1);

    let bits = value.to_bits();
    let magnitude = bits & !SIGN;
    let subnormal = (f32::from_bits(magnitude) + f32::from_bits(ALIGN)).to_bits().wrapping_sub(ALIGN);
    let odd = (magnitude >> 13) & 1;
    let normal = magnitude.wrapping_sub(REBIAS).wrapping_add(0xfff + odd) >> 13;
    let nan = 0x7e00 | ((magnitude >> 13) & 0x3ff);

    let half = match magnitude {
        m if m < exponent(-14) => subnormal,
        m if m < exponent(16) => normal,
        m if m <= INFINITY => 0x7c00,
        _ => nan,
    };
    (half | (bits & SIGN) >> 16) as u16
}

/// The value of bfloat16 bits: the upper half of an `f32`.
#[inline(always)]
fn bf16_to_f32(upper: u16) -> f32 {
    f32::from_bits(u32::from(upper) << 16)
}

/// The bfloat16 bits nearest to a value.
#[inline(always)]
fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let odd = (bits >> 16) & 1;
    let rounded = bits.wrapping_add(0x7fff + odd) >> 16;
    let nan = (bits >> 16) | 0x40;
    (if bits & !SIGN > INFINITY { nan } else { rounded }) as u16
}
