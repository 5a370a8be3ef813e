//! `NVFP4`: E2M1 codes in 4 sub-blocks of 16 with unsigned E4M3 scales.
//!
//! ```text
//! d[4] u8: exponent (bits 3–6), mantissa (bits 0–2) │ qs[32]
//!
//! qs[8b + l] = values 16b + l (bits 0–3), + 8 (bits 4–7)      l < 8
//! value = d[b] · E2M1[code]
//! ```
//!
//! A tensor may have one more scale, stored as a separate tensor; it is not applied here.

use super::extremes::largest;
use super::{codes_of, e2m1, nibbles, to_nibbles};

block_type!(NVFP4 { d: 4, qs: 32 });
block_encoder!(NVFP4 { d, qs });

impl Block {
    #[inline(always)]
    fn decode(&self, values: &mut [f32; VALUES]) {
        let qs = self.qs.as_chunks::<8>().0;
        for ((values, qs), d) in values.as_chunks_mut::<16>().0.iter_mut().zip(qs).zip(self.d) {
            let d = half_ue4m3(d);
            for (value, code) in values.iter_mut().zip(nibbles::<16>(qs)) {
                *value = d * e2m1::doubled(code);
            }
        }
    }

    #[inline(always)]
    fn encode(values: &[f32; VALUES]) -> Block {
        let mut block = Block { d: [0; 4], qs: [0; 32] };
        let qs = block.qs.as_chunks_mut::<8>().0;
        for ((values, qs), d) in values.as_chunks::<16>().0.iter().zip(qs).zip(&mut block.d) {
            *d = to_ue4m3(largest(values) / 6.0);
            let scale = half_ue4m3(*d);
            *qs = to_nibbles(&codes_of(values, |value| e2m1::nearest(value, scale)));
        }
        block
    }
}

/// Half the value of an unsigned E4M3 float. Like ggml, it treats NaN (127) as 0 and ignores the sign bit.
#[inline(always)]
fn half_ue4m3(bits: u8) -> f32 {
    let (exponent, mantissa) = ((bits >> 3) & 15, bits & 7);
    match exponent {
        _ if bits == 0x7f => 0.0,
        0 => f32::from(mantissa) / 1024.0,
        // An `f32` with the same exponent, less one, and the same mantissa.
        _ => f32::from_bits((u32::from(exponent) + 127 - 8) << 23 | u32::from(mantissa) << 20),
    }
}

/// The unsigned E4M3 float near a value: halves round up, whatever the bits below. Like ggml, it treats everything that
/// rounds to 256 or more as 448.
#[inline(always)]
fn to_ue4m3(value: f32) -> u8 {
    const LARGEST: u8 = 0x7e;
    if value.is_nan() || value <= 0.0 {
        return 0;
    }
    let bits = value.to_bits();
    let exponent = (bits >> 23) as i32 - 127 + 7;
    if exponent <= 0 {
        return ((value * 512.0 + 0.5) as u8).min(7);
    }
    // A carry out of the mantissa raises the exponent.
    let rounded = ((exponent as u32) << 3) + (bits >> 20 & 7) + (bits >> 19 & 1);
    if rounded < 15 << 3 { rounded as u8 } else { LARGEST }
}

#[cfg(test)]
mod tests {
    use super::{half_ue4m3, to_ue4m3};

    #[test]
    fn scales_are_half_of_e4m3() {
        let doubled = [0x00, 0x01, 0x07, 0x08, 0x38, 0x39, 0x7e, 0x7f].map(|bits| 2.0 * half_ue4m3(bits));
        assert_eq!(doubled, [0.0, 0.001953125, 0.013671875, 0.015625, 1.0, 1.125, 448.0, 0.0]);
    }

    #[test]
    fn scales_are_rounded_to_the_nearest() {
        for bits in 1..0x78 {
            let (value, next) = (2.0 * half_ue4m3(bits), 2.0 * half_ue4m3(bits + 1));
            assert_eq!(to_ue4m3(value), bits);
            // Above the largest subnormal ggml rounds down.
            if bits != 7 && bits < 0x77 {
                let middle = (value + next) / 2.0;
                assert_eq!((to_ue4m3(middle.next_down()), to_ue4m3(middle)), (bits, bits + 1), "{bits}");
            }
        }
        assert_eq!([0.0, -1.0, f32::NAN, 248.0, 256.0, 1e9].map(to_ue4m3), [0, 0, 0, 0x7e, 0x7e, 0x7e]);
    }
}
