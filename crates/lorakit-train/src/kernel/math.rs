//! Elementary functions and sums whose bits are the same on every machine.
//!
//! Only IEEE operations are used: `+ - * /`, square roots and fused multiply-adds, in one order. (So `1 / x.sqrt()` needs
//! no function here.) The functions of the standard library differ between systems.

use std::f64::consts::{FRAC_2_PI, LN_2, LOG2_E};

/// Partial sums of a [`sum_of`]: value `i` goes to number `i` modulo this.
const LANES: usize = 16;

/// Compiles a function for wide vectors with fused multiply-adds too, and picks the widest that the processor has.
macro_rules! wide {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? $body:block) => {
        #[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+fma", "x86_64+avx2+fma"))]
        $(#[$meta])*
        $vis fn $name($($arg: $type),*) $(-> $out)? $body
    };
}

wide! {
    /// The sum of all values: `LANES` chains, whose ends are added in pairs of halves.
    pub fn sum(values: &[f32]) -> f32 {
        sum_of(values, values, |sum, a, _| sum + a)
    }
}

wide! {
    /// The sum of all products. Both slices have the same length.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        sum_of(a, b, |sum, a, b| a.mul_add(b, sum))
    }
}

wide! {
    /// The largest value, and minus infinity of none. NaN is passed over.
    pub fn max(values: &[f32]) -> f32 {
        let mut largest = [f32::NEG_INFINITY; LANES];
        let (whole, rest) = values.as_chunks::<LANES>();
        for values in whole {
            for (largest, value) in largest.iter_mut().zip(values) {
                *largest = if *value > *largest { *value } else { *largest };
            }
        }
        largest.iter().chain(rest).fold(f32::NEG_INFINITY, |largest, value| if *value > largest { *value } else { largest })
    }
}

wide! {
    /// Replaces each value by [`exp`] of its difference to `offset`, and returns their sum.
    pub fn exp_of_differences(values: &mut [f32], offset: f32) -> f32 {
        values.iter_mut().for_each(|value| *value = exp(*value - offset));
        sum_of(values, values, |sum, a, _| sum + a)
    }
}

wide! {
    /// The logistic function `1 / (1 + exp(-x))` of each value.
    pub fn sigmoid(values: &[f32], out: &mut [f32]) {
        assert_eq!(values.len(), out.len());
        out.iter_mut().zip(values).for_each(|(out, value)| *out = 1.0 / (1.0 + exp(-value)));
    }
}

#[inline(always)]
fn sum_of(a: &[f32], b: &[f32], add: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (whole_a, rest_a) = a.as_chunks::<LANES>();
    let (whole_b, rest_b) = b.as_chunks::<LANES>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for lane in 0..LANES {
            sums[lane] = add(sums[lane], a[lane], b[lane]);
        }
    }
    for (lane, (a, b)) in rest_a.iter().zip(rest_b).enumerate() {
        sums[lane] = add(sums[lane], *a, *b);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// `e` to the power of `x`, less than one unit in the last place off; results below the smallest normal number are zero.
///
/// `x = n ln 2 + r`, where `n` is an integer and `r` at most `ln 2 / 2`, whose power is a Taylor polynomial.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Adding it leaves the nearest integer in the lowest bits.
    const ROUNDING: f32 = 12_582_912.0;
    /// `ln 2` in two parts: the first has few digits, so that its products with `n` are exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = (LN_2 - LN_2_HIGH as f64) as f32;
    const LARGEST: f32 = 88.722_84;
    const SMALLEST: f32 = -87.336_54;
    let shifted = x.mul_add(LOG2_E as f32, ROUNDING);
    let n = shifted - ROUNDING;
    let r = n.mul_add(-LN_2_HIGH, x);
    let r = n.mul_add(-LN_2_LOW, r);
    let mut power = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0] {
        power = r.mul_add(power, coefficient);
    }
    let power = r.mul_add(power, 1.0);
    // 2ⁿ in two factors, because 2¹²⁸ is none.
    let n = shifted.to_bits().wrapping_sub(ROUNDING.to_bits()) as i32;
    let half = n >> 1;
    let two_to = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    let result = power * two_to(half) * two_to(n.wrapping_sub(half));
    let result = if x > LARGEST { f32::INFINITY } else { result };
    let result = if x < SMALLEST { 0.0 } else { result };
    if x.is_nan() { x } else { result }
}

/// The natural logarithm, about two units in the last place off; NaN of negative numbers.
///
/// `x = 2ⁿ m`, where `m` is between `√½` and `√2`; `ln m = 2 artanh((m - 1) / (m + 1))`, a series in odd powers of less
/// than 0.172.
pub fn ln(x: f64) -> f64 {
    const FRACTION: u64 = (1 << 52) - 1;
    const SQRT_HALF: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits() & FRACTION;
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x <= 0.0 {
        return if x == 0.0 { f64::NEG_INFINITY } else { f64::NAN };
    }
    let (x, scale) = if x < f64::MIN_POSITIVE { (x * 2f64.powi(54), -54) } else { (x, 0) };
    let bits = x.to_bits();
    let up = i64::from(bits & FRACTION > SQRT_HALF);
    let n = (bits >> 52) as i64 - 1023 + scale + up;
    let m = f64::from_bits(bits & FRACTION | ((1023 - up) as u64) << 52);
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let series = (1..12).rev().fold(0.0f64, |sum, k| square.mul_add(sum, 1.0 / f64::from(2 * k + 1)));
    let ln_m = 2.0 * s * square.mul_add(series, 1.0);
    (n as f64).mul_add(LN_2, ln_m)
}

/// Sine and cosine of an angle in radians, within 10⁻¹⁵ for angles up to 10⁷; NaN of what is not finite.
///
/// The angle is reduced to an eighth of a turn about a multiple of a quarter, and both are Taylor polynomials there.
pub fn sin_cos(angle: f64) -> (f64, f64) {
    /// A quarter of a turn in three parts: the first two have 33 digits, so that products with `n` are exact.
    const QUARTER: [f64; 3] = [
        f64::from_bits(0x3ff9_21fb_5440_0000),
        f64::from_bits(0x3dd0_b461_1a60_0000),
        f64::from_bits(0x3ba3_198a_2e03_7073),
    ];
    if !angle.is_finite() {
        return (f64::NAN, f64::NAN);
    }
    let n = (angle * FRAC_2_PI).round();
    let r = QUARTER.iter().fold(angle, |r, part| (-n).mul_add(*part, r));
    let square = r * r;
    let term = |sum: f64, k: i32| 1.0 - square * sum / f64::from(k * (k + 1));
    let sin = r * (1..10).rev().fold(1.0, |sum, k| term(sum, 2 * k));
    let cos = (1..10).rev().fold(1.0, |sum, k| term(sum, 2 * k - 1));
    match (n as i64).rem_euclid(4) {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many units in the last place of an f32 lie between.
    fn units(found: f32, exact: f64) -> f64 {
        let exact_f32 = exact as f32;
        let unit = f64::from(f32::from_bits(exact_f32.to_bits() + 1)) - f64::from(exact_f32);
        (f64::from(found) - exact).abs() / unit
    }

    #[test]
    fn powers_are_less_than_one_unit_off() {
        let worst =
            (-873_000..887_000).map(|i| i as f32 / 10_000.0).map(|x| units(exp(x), f64::from(x).exp()));
        let worst = worst.fold(0.0, f64::max);
        assert!(worst < 1.0, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!((exp(88.73), exp(f32::INFINITY)), (f32::INFINITY, f32::INFINITY));
        assert_eq!((exp(-87.4), exp(f32::NEG_INFINITY), exp(-1e30)), (0.0, 0.0, 0.0));
        assert!(exp(88.722) < f32::MAX && exp(-87.33) >= f32::MIN_POSITIVE && exp(f32::NAN).is_nan());
    }

    #[test]
    fn logarithms_sines_and_cosines_are_those_of_the_standard_library() {
        for i in 1..200_000 {
            let x = f64::from(i) * 1.7e-3;
            let (found, exact) = (ln(x), x.ln());
            assert!((found - exact).abs() <= 4e-16 * exact.abs().max(1.0), "ln {x}: {found} {exact}");
            let angle = (x - 100.0) * 321.0;
            let (sin, cos) = sin_cos(angle);
            let (exact_sin, exact_cos) = angle.sin_cos();
            assert!((sin - exact_sin).abs() < 1e-15 && (cos - exact_cos).abs() < 1e-15, "{angle}");
        }
        assert_eq!((ln(1.0), ln(0.0), ln(f64::INFINITY)), (0.0, f64::NEG_INFINITY, f64::INFINITY));
        assert!(ln(-1.0).is_nan() && (ln(5e-324) - 5e-324f64.ln()).abs() < 1e-12);
        assert_eq!(sin_cos(0.0), (0.0, 1.0));
        assert!(sin_cos(f64::INFINITY).0.is_nan());
    }

    /// A digest of many results, which every machine must find.
    #[test]
    fn bits_are_the_same_on_every_machine() {
        let mut powers: Vec<f32> = (-8_700..8_700).map(|i| i as f32 / 99.0).collect();
        let sum = exp_of_differences(&mut powers, 0.5);
        let doubles =
            (1..5000).map(|i| f64::from(i) * 0.37).flat_map(|x| [ln(x), sin_cos(x).0, sin_cos(x).1]);
        let bits = powers.iter().chain([&sum]).map(|power| u64::from(power.to_bits()));
        let digest = bits
            .chain(doubles.map(f64::to_bits))
            .fold(0xcbf2_9ce4_8422_2325u64, |digest, bits| (digest ^ bits).wrapping_mul(0x0100_0000_01b3));
        assert_eq!(digest, 0xa553_9d0b_8570_3f71);
    }

    /// The order of a sum is what the documentation says, whatever the vectors.
    #[test]
    fn sums_have_one_order() {
        for len in [0, 1, 15, 16, 17, 100, 1000] {
            let values: Vec<f32> = (0..len).map(|i| ((i * 7919 % 1013) as f32 - 500.0) * 1.7e-3).collect();
            let mut lanes = [0.0f32; 16];
            let mut products = [0.0f32; 16];
            for (i, value) in values.iter().enumerate() {
                lanes[i % 16] += value;
                products[i % 16] = value.mul_add(*value, products[i % 16]);
            }
            let tree = |s: [f32; 16]| {
                let s: [f32; 8] = std::array::from_fn(|i| s[i] + s[i + 8]);
                let s: [f32; 4] = std::array::from_fn(|i| s[i] + s[i + 4]);
                (s[0] + s[2]) + (s[1] + s[3])
            };
            assert_eq!(sum(&values).to_bits(), tree(lanes).to_bits());
            assert_eq!(dot(&values, &values).to_bits(), tree(products).to_bits());
            let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&values), largest);
            let mut powers = values.clone();
            let total = exp_of_differences(&mut powers, 0.25);
            assert!(
                powers
                    .iter()
                    .zip(&values)
                    .all(|(power, value)| power.to_bits() == exp(value - 0.25).to_bits())
            );
            assert_eq!(total, sum(&powers));
            let mut logistic = vec![0.0; len];
            sigmoid(&values, &mut logistic);
            assert!(logistic.iter().zip(&values).all(|(l, v)| (l - 1.0 / (1.0 + (-v).exp())).abs() < 1e-6));
        }
    }
}
