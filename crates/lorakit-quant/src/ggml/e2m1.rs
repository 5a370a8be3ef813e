//! The 4-bit float of `MXFP4` and `NVFP4`: a sign, two exponent bits, one mantissa bit.

/// Twice the value of a code: 0, 1, 2, 3, 4, 6, 8, 12, then their negatives, except that code 8 is `+0` as in ggml.
/// The scales of both types are halved to match.
#[inline(always)]
pub(super) fn doubled(code: u8) -> f32 {
    let magnitude = u32::from(code & 7);
    let subnormal = if magnitude == 0 { 0 } else { 1f32.to_bits() };
    let normal = (magnitude << 22) + 1f32.to_bits();
    let sign = if magnitude == 0 { 0 } else { u32::from(code & 8) << 28 };
    f32::from_bits(sign | if magnitude < 2 { subnormal } else { normal })
}

#[cfg(test)]
mod tests {
    use super::doubled;

    #[test]
    fn every_code_has_its_value() {
        let expected =
            [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];
        for (code, expected) in (0..16).zip(expected) {
            assert_eq!(doubled(code).to_bits(), f32::to_bits(expected), "{code}");
        }
    }
}
