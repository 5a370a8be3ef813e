//! What is kept from the forward to the backward pass, in f32 or in bf16.

use std::borrow::Cow;

use multiversion::multiversion;

use super::real::Real;

/// Values as they were, or rounded to bf16.
pub(super) enum Stored<R> {
    Whole(Vec<R>),
    Halves(Vec<u16>),
}

impl<R: Real> Stored<R> {
    pub(super) fn of(values: Vec<R>, halves: bool) -> Self {
        if !halves {
            return Self::Whole(values);
        }
        let mut kept = vec![0; values.len()];
        narrow(&values, &mut kept);
        Self::Halves(kept)
    }

    pub(super) fn get(&self) -> Cow<'_, [R]> {
        match self {
            Self::Whole(values) => Cow::Borrowed(values),
            Self::Halves(kept) => {
                let mut values = vec![R::ZERO; kept.len()];
                widen(kept, &mut values);
                Cow::Owned(values)
            }
        }
    }

    /// The values themselves.
    pub(super) fn taken(self) -> Vec<R> {
        match self {
            Self::Whole(values) => values,
            Self::Halves(_) => self.get().into_owned(),
        }
    }
}

/// The nearest bf16 of each value, of two equally near the even one.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn narrow<R: Real>(values: &[R], kept: &mut [u16]) {
    for (value, kept) in values.iter().zip(kept) {
        let value = value.to_f64() as f32;
        let bits = value.to_bits();
        let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        let nearest = if value.is_nan() { bits | 0x0040_0000 } else { nearest };
        *kept = (nearest >> 16) as u16;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn widen<R: Real>(kept: &[u16], values: &mut [R]) {
    for (kept, value) in kept.iter().zip(values) {
        *value = R::of(f64::from(f32::from_bits(u32::from(*kept) << 16)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_the_nearest_of_bf16() {
        let values = vec![0.1f32, -1.0, 1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8), f32::MAX];
        let found = Stored::of(values.clone(), true).get().into_owned();
        assert_eq!(found, [0.100_097_656, -1.0, 1.0, 1.015_625, f32::INFINITY]);
        assert_eq!(*Stored::of(values.clone(), false).get(), values);
        assert!(Stored::of(vec![f32::NAN], true).get()[0].is_nan());
    }
}
