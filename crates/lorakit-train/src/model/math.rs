//! Elementary functions of our own, so that their bits are the same on every machine: only additions, products, fused
//! multiply-adds, divisions and square roots, which IEEE 754 rounds correctly.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2, LN_2, LOG2_E, SQRT_2};

/// What `FRAC_PI_2` lacks of pi / 2.
const PI_2_REST: f64 = 6.123_233_995_736_766e-17;
/// What `LN_2` lacks of ln 2.
const LN_2_REST: f64 = 2.319_046_813_846_299_6e-17;

/// `1 / k!` for `k` from 19 down to 0.
const INVERSE_FACTORIALS: [f64; 20] = inverse_factorials();

const fn inverse_factorials() -> [f64; 20] {
    let mut found = [1.0; 20];
    let mut factorial: u64 = 1;
    let mut k = 1;
    while k < 20 {
        factorial *= k as u64;
        found[19 - k] = 1.0 / factorial as f64;
        k += 1;
    }
    found
}

/// `exp(x)` within 2 units in the last place. Results that would be denormal are zero; above 88, the result is that
/// of 88.
#[inline(always)]
pub(super) fn exp_f32(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer, which is then in the low bits
    let small = x < -87.0;
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if small { -87.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = 1.987_569_1e-4f32;
    let p = p.mul_add(r, 1.398_2e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_58e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let y = (p * r).mul_add(r, r) + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_shl(23).wrapping_add(127 << 23));
    if small { 0.0 } else { y * power }
}

/// `exp(x)` within 2 units in the last place. Results that would be denormal are zero; above 709, the result is that
/// of 709.
#[inline(always)]
pub(super) fn exp(x: f64) -> f64 {
    const MAGIC: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52
    let small = x < -708.0;
    let x = if x > 709.0 { 709.0 } else { x };
    let x = if small { -708.0 } else { x };
    let shifted = x.mul_add(LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-LN_2_REST, n.mul_add(-LN_2, x));
    let y = INVERSE_FACTORIALS[4..].iter().fold(0.0, |sum: f64, term| sum.mul_add(r, *term));
    let power = f64::from_bits(shifted.to_bits().wrapping_shl(52).wrapping_add(1023 << 52));
    if small { 0.0 } else { y * power }
}

/// The natural logarithm of a positive, normal `x`.
pub(super) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    let (mantissa, exponent) =
        if mantissa > SQRT_2 { (mantissa / 2.0, exponent + 1) } else { (mantissa, exponent) };
    // ln m = 2 artanh s
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..12).rev().fold(0.0, |sum: f64, k| sum.mul_add(square, 1.0 / f64::from(2 * k + 1)));
    f64::from(exponent).mul_add(LN_2, 2.0 * s * series)
}

/// `base` to the power of `exponent`, for a positive base.
pub(crate) fn pow(base: f64, exponent: f64) -> f64 {
    exp(exponent * ln(base))
}

/// Sine and cosine of `x`, which is less than 2^20.
pub(crate) fn sin_cos(x: f64) -> (f64, f64) {
    let quarter = (x * FRAC_2_PI).round_ties_even();
    let r = quarter.mul_add(-PI_2_REST, quarter.mul_add(-FRAC_PI_2, x));
    let minus = -(r * r);
    // The terms of odd and of even powers, from 19 and 18 down.
    let odd = INVERSE_FACTORIALS.iter().step_by(2).fold(0.0, |sum: f64, term| sum.mul_add(minus, *term)) * r;
    let even =
        INVERSE_FACTORIALS.iter().skip(1).step_by(2).fold(0.0, |sum: f64, term| sum.mul_add(minus, *term));
    match (quarter as i64).rem_euclid(4) {
        0 => (odd, even),
        1 => (even, -odd),
        2 => (-odd, -even),
        _ => (-even, odd),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_those_of_the_platform() {
        let mut x = -87.0;
        while x < 88.0 {
            let (found, expected) = (f64::from(exp_f32(x as f32)), f64::from(x as f32).exp());
            assert!((found / expected - 1.0).abs() < 2.5e-7, "exp_f32({x})");
            assert!((exp(x * 8.0) / (x * 8.0).exp() - 1.0).abs() < 1e-15, "exp({})", x * 8.0);
            let big = (x + 88.0) * 700.0;
            let (sin, cos) = sin_cos(big);
            assert!((sin - big.sin()).abs() < 1e-15 && (cos - big.cos()).abs() < 1e-15, "sin_cos({big})");
            assert!((ln(big) - big.ln()).abs() < 4e-16 * big.ln().abs().max(1.0), "ln({big})");
            x += 0.037;
        }
        assert_eq!((exp_f32(0.0), exp(0.0), ln(1.0), sin_cos(0.0)), (1.0, 1.0, 0.0, (0.0, 1.0)));
        assert_eq!((exp_f32(-1e30), exp(-1e30)), (0.0, 0.0));
        assert!(exp_f32(f32::NAN).is_nan() && exp(f64::NAN).is_nan());
        assert!((pow(500_000.0, -62.0 / 64.0) / 500_000f64.powf(-62.0 / 64.0) - 1.0).abs() < 1e-14);
    }
}
