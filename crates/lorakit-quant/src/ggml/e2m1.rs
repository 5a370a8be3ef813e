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

/// The code whose value is nearest to `x` if a code is worth `d` times [`doubled`]; of two equally near, the smaller.
/// Code 8 is never used, and without a scale all codes are 0.
#[inline(always)]
pub(super) fn nearest(x: f32, d: f32) -> u8 {
    /// Halfway between neighbours. Products with a scale are exact: both have few bits.
    const MIDDLES: [f32; 7] = [0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0];
    let magnitude: u8 = MIDDLES.iter().map(|middle| u8::from(x.abs() > middle * d)).sum();
    let sign = u8::from(x < 0.0 && magnitude > 0) << 3;
    if d == 0.0 { 0 } else { magnitude | sign }
}

#[cfg(test)]
mod tests {
    use super::{doubled, nearest};

    #[test]
    fn every_code_has_its_value() {
        let expected =
            [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];
        for (code, expected) in (0..16).zip(expected) {
            assert_eq!(doubled(code).to_bits(), f32::to_bits(expected), "{code}");
        }
    }

    #[test]
    fn the_nearest_is_the_first_of_least_distance() {
        for d in [1.0f32, 0.0, 2f32.powi(-128), 0.171875, 2f32.powi(60), 224.0] {
            let values = (0..16).map(|code| doubled(code) * d);
            let middles = (0..16).flat_map(|a| (0..16).map(move |b| (doubled(a) + doubled(b)) / 2.0 * d));
            let near = values.chain(middles).flat_map(|x: f32| [x.next_down(), x, x.next_up()]);
            for x in near.chain((-500..500).map(|n| n as f32 * 0.03 * d)) {
                let distance = |code: &u8| (doubled(*code) * d - x).abs();
                let first = (0..16).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap();
                assert_eq!(nearest(x, d), first, "{x:e} {d:e}");
            }
        }
    }
}
