//! The largest and the smallest values of a block, as a sequential loop finds them, but many values at a time.
//!
//! Which of several floats is largest depends on the order of comparisons if there are NaNs or zeros of both signs, so
//! the compiler may not vectorise the loop. With integers it may: values are compared by their places on the circle of
//! all floats, cut open where NaNs do not interfere.
//!
//! ```text
//! place   0         2²³                            2³²
//!         │ -NaN … │ -∞ … -0.0 │ +0.0 … +∞ │ +NaN … │
//! ```

/// Where a value is on the circle.
#[inline(always)]
const fn place(value: f32) -> u32 {
    let bits = value.to_bits();
    bits ^ ((bits as i32 >> 31) as u32 | 1 << 31)
}

/// The value at a place.
#[inline(always)]
const fn at(place: u32) -> f32 {
    f32::from_bits(place ^ (!(place as i32 >> 31) as u32 | 1 << 31))
}

/// The largest magnitude; 0 if all are NaN.
#[inline(always)]
pub(super) fn largest<const N: usize>(values: &[f32; N]) -> f32 {
    /// NaNs begin here, and become the smallest.
    const CUT: u32 = f32::INFINITY.to_bits() + 1;
    let mut most = 0u32.wrapping_sub(CUT);
    for value in values {
        most = most.max(value.abs().to_bits().wrapping_sub(CUT));
    }
    f32::from_bits(most.wrapping_add(CUT))
}

/// The value of largest magnitude, the first of several; 0 if all are NaN.
#[inline(always)]
pub(super) fn signed_largest<const N: usize>(values: &[f32; N]) -> f32 {
    let (low, high) = some_bounds(values);
    let larger = if high > -low { high } else { low };
    if high == -low {
        values.iter().copied().find(|value| value.abs() == high && high > 0.0).unwrap_or(0.0)
    } else {
        larger
    }
}

/// The smallest value, the first of several, as zeros have two signs; and the largest, where zero may have either.
#[inline(always)]
pub(super) fn bounds<const N: usize>(values: &[f32; N]) -> (f32, f32) {
    let (low, high) = some_bounds(values);
    let low = match low {
        0.0 => values.iter().copied().find(|&value| value == 0.0).unwrap_or(low),
        _ => low,
    };
    (low, high)
}

/// The smallest and the largest value; zeros may have either sign. The largest finite and its negative if all are NaN.
#[inline(always)]
fn some_bounds<const N: usize>(values: &[f32; N]) -> (f32, f32) {
    /// Above all numbers when the circle is cut below -∞.
    const LOW_CUT: u32 = place(f32::NEG_INFINITY);
    /// Below all numbers when the circle is cut above +∞.
    const HIGH_CUT: u32 = place(f32::INFINITY) + 1;
    let mut low = place(f32::MAX).wrapping_sub(LOW_CUT);
    let mut high = place(f32::MIN).wrapping_sub(HIGH_CUT);
    for value in values {
        let place = place(*value);
        low = low.min(place.wrapping_sub(LOW_CUT));
        high = high.max(place.wrapping_sub(HIGH_CUT));
    }
    (at(low.wrapping_add(LOW_CUT)), at(high.wrapping_add(HIGH_CUT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_magnitudes_gives_the_sign() {
        let mut values = [0.5; 32];
        assert_eq!(signed_largest(&values), 0.5);
        values[20] = 2.0;
        values[9] = -2.0;
        assert_eq!(signed_largest(&values), -2.0);
        values[3] = 2.0;
        values[0] = f32::NAN;
        assert_eq!(signed_largest(&values), 2.0);
        assert_eq!(signed_largest(&[-0.0; 32]).to_bits(), 0);
        assert_eq!(signed_largest(&[f32::NAN; 32]), 0.0);
    }

    #[test]
    fn the_first_zero_gives_the_sign_of_a_bound() {
        let mut values = [1.0; 32];
        values[30] = 0.0;
        values[12] = -0.0;
        let (low, high) = bounds(&values);
        assert_eq!((low.to_bits(), high), (0x8000_0000, 1.0));
        values[2] = 0.0;
        assert_eq!(bounds(&values).0.to_bits(), 0);
        assert_eq!(bounds(&[-3.0; 32]), (-3.0, -3.0));
    }

    /// As the reference finds them: smallest, largest, first of largest magnitude.
    fn one_by_one(values: &[f32]) -> (f32, f32, f32) {
        values.iter().fold((f32::MAX, f32::MIN, 0.0f32), |(low, high, most), &value| {
            (
                if value < low { value } else { low },
                if value > high { value } else { high },
                if most.abs() < value.abs() { value } else { most },
            )
        })
    }

    #[test]
    fn any_values_are_compared_as_one_by_one() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let few = [0.0, -0.0, 1.0, -1.0, f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-42, -3e38];
        for _ in 0..20_000 {
            let count = 1 + random() as usize % few.len();
            let values: [f32; 32] = std::array::from_fn(|_| few[random() as usize % count]);
            let (low, high, most) = one_by_one(&values);
            let found = bounds(&values);
            assert_eq!((found.0.to_bits(), found.1), (low.to_bits(), high), "{values:?}");
            assert_eq!(signed_largest(&values).to_bits(), most.to_bits(), "{values:?}");
            assert_eq!(largest(&values), most.abs(), "{values:?}");
        }
    }
}
