//! The entries of factors.

use ndarray::{Array2, ArrayView2};

/// An entry of a factor: factors are stored in at most 32 bits, and sums are always in 64.
pub trait Entry: Copy + PartialEq + Sync + sealed::Sealed + 'static {
    /// The value.
    fn wide(self) -> f64;
    /// The nearest 32-bit value.
    fn narrow(self) -> f32;
    /// Whether all of these are finite.
    fn all_finite(values: &[Self]) -> bool;
    /// The matrix itself, if it holds 64 bits already.
    fn as_wide(matrix: ArrayView2<'_, Self>) -> Option<ArrayView2<'_, f64>>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

impl Entry for f64 {
    fn wide(self) -> f64 {
        self
    }

    fn narrow(self) -> f32 {
        self as f32
    }

    // A loop over all values is vectorised, while a search is not.
    fn all_finite(values: &[f64]) -> bool {
        values.iter().fold(true, |all, x| all & (x.abs() <= f64::MAX))
    }

    fn as_wide(matrix: ArrayView2<'_, f64>) -> Option<ArrayView2<'_, f64>> {
        Some(matrix)
    }
}

impl Entry for f32 {
    fn wide(self) -> f64 {
        f64::from(self)
    }

    fn narrow(self) -> f32 {
        self
    }

    fn all_finite(values: &[f32]) -> bool {
        values.iter().fold(true, |all, x| all & (x.abs() <= f32::MAX))
    }

    fn as_wide(_: ArrayView2<'_, f32>) -> Option<ArrayView2<'_, f64>> {
        None
    }
}

/// The matrix in 64 bits, in its layout.
pub(crate) fn widened<T: Entry>(matrix: ArrayView2<'_, T>) -> Array2<f64> {
    matrix.mapv(T::wide)
}
