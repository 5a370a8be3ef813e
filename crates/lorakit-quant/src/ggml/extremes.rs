//! The largest and the smallest values of a block, as sequential loops find them, found many at once.

/// The largest magnitude; 0 if all are NaN.
#[inline(always)]
pub(super) fn largest<const N: usize>(values: &[f32; N]) -> f32 {
    let mut lanes = [0f32; 16];
    for group in values.as_chunks::<16>().0 {
        for (lane, value) in lanes.iter_mut().zip(group) {
            let magnitude = value.abs();
            *lane = if magnitude > *lane { magnitude } else { *lane };
        }
    }
    lanes.iter().fold(0.0, |most, &lane| if lane > most { lane } else { most })
}

/// The value of largest magnitude, the first of several; 0 if all are NaN.
#[inline(always)]
pub(super) fn signed_largest<const N: usize>(values: &[f32; N]) -> f32 {
    let most = largest(values);
    let (mut positive, mut negative) = (0u32, 0u32);
    for &value in values {
        positive |= u32::from(value == most);
        negative |= u32::from(value == -most);
    }
    match (positive, negative) {
        (1, 0) => most,
        (0, 1) => -most,
        _ => values.iter().copied().find(|value| value.abs() == most && most > 0.0).unwrap_or(0.0),
    }
}

/// The smallest and the largest value; the first of several, as zeros have two signs.
#[inline(always)]
pub(super) fn bounds<const N: usize>(values: &[f32; N]) -> (f32, f32) {
    let (mut low, mut high) = ([f32::MAX; 16], [f32::MIN; 16]);
    for group in values.as_chunks::<16>().0 {
        for l in 0..16 {
            low[l] = if group[l] < low[l] { group[l] } else { low[l] };
            high[l] = if group[l] > high[l] { group[l] } else { high[l] };
        }
    }
    let low = low.iter().fold(f32::MAX, |least, &lane| if lane < least { lane } else { least });
    let high = high.iter().fold(f32::MIN, |most, &lane| if lane > most { lane } else { most });
    let first = |bound: f32| match bound {
        0.0 => values.iter().copied().find(|&value| value == 0.0).unwrap_or(bound),
        _ => bound,
    };
    (first(low), first(high))
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
}
