//! Arithmetic in bf16 as `vdpbf16ps` does it, for processors without it.
//!
//! A *pair* is a 32-bit lane: the operand at an even place in its lower half, the next one in its upper half.

/// The smallest normal number.
pub(super) const SMALLEST: f32 = f32::MIN_POSITIVE;

/// The bits of the nearest bf16, of two equally near the even one; denormals become zeros (`vcvtneps2bf16`).
#[inline(always)]
pub(super) fn round(value: f32) -> u32 {
    let bits = value.to_bits();
    let exponent = bits & 0x7f80_0000;
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let kept = if exponent == 0 { bits & 0x8000_0000 } else { nearest };
    let kept = if value.is_nan() { bits | 0x0040_0000 } else { kept };
    kept >> 16
}

/// A pair of operands.
#[inline(always)]
pub(super) fn pair(even: f32, odd: f32) -> f32 {
    f32::from_bits(round(even) | round(odd) << 16)
}

/// The operand at the even place.
#[inline(always)]
pub(super) fn even(pair: f32) -> f32 {
    f32::from_bits(pair.to_bits() << 16)
}

/// The operand at the odd place.
#[inline(always)]
pub(super) fn odd(pair: f32) -> f32 {
    f32::from_bits(pair.to_bits() & 0xffff_0000)
}

/// Zero, with its sign, for a denormal.
#[inline(always)]
pub(super) fn flush(value: f32) -> f32 {
    if value.abs() < SMALLEST { 0.0f32.copysign(value) } else { value }
}

/// `a b + sum`, rounded once; a result that is tiny once it is rounded becomes zero. Operands are not denormal.
#[inline(always)]
pub(super) fn multiply_add(a: f32, b: f32, sum: f32) -> f32 {
    let result = a.mul_add(b, sum);
    if result.abs() == SMALLEST { round_up_to_smallest(a, b, sum, result) } else { flush(result) }
}

/// `result` is the smallest normal number, and zero is returned where `vdpbf16ps` flushes it. It may be so only because the steps below it are those of denormals: the
/// number with as many digits that is nearest to the exact sum may be smaller.
///
/// The sum in f64 is exact wherever that matters: a product of 16 digits of at least 2⁻¹⁵¹ is a multiple of 2⁻¹⁶⁶, and a
/// smaller one changes nothing.
#[cold]
pub(super) fn round_up_to_smallest(a: f32, b: f32, sum: f32, result: f32) -> f32 {
    /// 2⁻¹²⁶ - 2⁻¹⁵¹: halfway to the number below.
    const HALFWAY: f64 = f64::from_bits((1023 - 126) << 52) - f64::from_bits((1023 - 151) << 52);
    let exact = f64::from(a) * f64::from(b) + f64::from(sum);
    if exact.abs() < HALFWAY { 0.0f32.copysign(result) } else { result }
}

/// Adds the products of a pair to `sum`: the odd one first.
#[inline(always)]
pub(super) fn add_pair(a: f32, b: f32, sum: f32) -> f32 {
    let sum = multiply_add(odd(a), odd(b), sum);
    multiply_add(even(a), even(b), sum)
}

/// Pairs of neighbours in `values`; the last one is paired with zero.
#[inline(always)]
pub(super) fn pair_neighbours(values: &[f32], pairs: &mut [f32]) {
    let (whole, rest) = values.as_chunks::<2>();
    for (pair_of, [even, odd]) in pairs.iter_mut().zip(whole) {
        *pair_of = pair(*even, *odd);
    }
    if let [even] = rest {
        pairs[whole.len()] = pair(*even, 0.0);
    }
}

/// Pairs of the values of two rows.
#[inline(always)]
pub(super) fn pair_rows(even: &[f32], odd: &[f32], pairs: &mut [f32]) {
    for ((pair_of, even), odd) in pairs.iter_mut().zip(even).zip(odd) {
        *pair_of = pair(*even, *odd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a Sapphire Rapids core gives. Between the smallest normal number and the number of 24 digits below it, it
    /// rounds first and flushes then.
    #[test]
    fn tiny_sums_are_those_of_the_instruction() {
        let power = |n: i32| 2f32.powi(n);
        for (a, expected) in [
            (power(-75), 0.0),
            (1.5 * power(-76), 0.0),
            (1.007_812_5 * power(-76), 0.0),
            (power(-76), SMALLEST),
            (power(-77), SMALLEST),
        ] {
            for sign in [1.0, -1.0] {
                let (a, b) = (round(a), round(-sign * power(-75)));
                let even = add_pair(f32::from_bits(a), f32::from_bits(b), sign * SMALLEST);
                assert_eq!(even.to_bits(), (sign * expected).to_bits());
                let odd = add_pair(f32::from_bits(a << 16), f32::from_bits(b << 16), sign * SMALLEST);
                assert_eq!(odd, sign * expected);
            }
        }
        let zero = pair(0.0, 0.0);
        assert_eq!(add_pair(zero, zero, flush(power(-130))).to_bits(), 0);
        assert_eq!(add_pair(zero, zero, -0.0).to_bits(), 0);
    }

    #[test]
    fn operands_are_rounded_to_even_and_denormals_are_zeros() {
        let bits = [1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8), f32::MAX, 1e-39, -1e-39].map(round);
        assert_eq!(bits, [0x3f80, 0x3f82, 0x7f80, 0, 0x8000]);
        assert_eq!(round(f32::from_bits(0x7f80_0001)), 0x7fc0);
        assert_eq!((even(pair(1.0, 2.0)), odd(pair(1.0, 2.0))), (1.0, 2.0));
        let mut pairs = [0.0; 2];
        pair_neighbours(&[1.0, 2.0, 3.0], &mut pairs);
        assert_eq!(pairs.map(f32::to_bits), [0x4000_3f80, 0x0000_4040]);
    }
}
