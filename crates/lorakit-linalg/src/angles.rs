//! Angles between subspaces.

use ndarray::{Array2, ArrayView2, Axis, s};

use crate::backend::faer::product;
use crate::dense::{Qr, frobenius, singular_values, svd, thin_qr};
use crate::error::Result;
use crate::problem::Problem;

/// The principal angles between the column spaces of `x (m, p)` and `y (m, q)`, in radians, ascending, within
/// `0..=π/2`; as many as the smaller space has dimensions.
///
/// The cosines are the singular values of `Q_xᵀ Q_y`; angles below π/4, where the cosine is inaccurate, come from the
/// sines, the singular values of `Q_y - Q_x Q_xᵀ Q_y` (Björck and Golub, 1973). So angles are accurate to about `ε`
/// times the condition number of `x` and `y`.
///
/// The columns need not be orthonormal, nor independent: a direction whose singular value is at most `64 m ε` of the
/// largest does not count.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if `x` and `y` have different numbers of rows,
/// [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite),
/// [`ErrorKind::NoConvergence`](crate::ErrorKind::NoConvergence).
pub fn principal_angles(x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>) -> Result<Vec<f64>> {
    if x.nrows() != y.nrows() {
        return Err(Problem::Dimensions { one: x.nrows(), other: y.nrows() }.into());
    }
    angles_in(x.nrows(), x, y)
}

/// [`principal_angles`] of spaces in `m` dimensions; `x` and `y` may be their coordinates in an orthonormal basis.
pub(crate) fn angles_in(m: usize, x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>) -> Result<Vec<f64>> {
    let (mut large, mut small) = (basis(m, x)?, basis(m, y)?);
    if large.ncols() < small.ncols() {
        std::mem::swap(&mut large, &mut small);
    }
    let shared = product(large.view().reversed_axes(), small.view());
    let cosines = singular_values(shared.view())?;
    let is_small = |cosine: &f64| cosine * cosine >= 0.5;
    // The cosines descend, and so do the sines, which correspond to them in reverse order.
    let sines = if cosines.first().is_some_and(is_small) {
        singular_values((small - product(large.view(), shared.view())).view())?
    } else {
        vec![1.0; cosines.len()]
    };
    let angle = |(cosine, sine): (&f64, &f64)| {
        if is_small(cosine) { sine.min(1.0).asin() } else { cosine.min(1.0).acos() }
    };
    Ok(cosines.iter().zip(sines.iter().rev()).map(angle).collect())
}

/// An orthonormal basis of the column space. Their dependencies show in the small factor of their QR decomposition.
fn basis(m: usize, a: ArrayView2<'_, f64>) -> Result<Array2<f64>> {
    let Qr { q, r } = thin_qr(a)?;
    let n = a.ncols();
    let smallest = 64.0 * f64::EPSILON * m.max(n) as f64;
    if least_singular_value(&r) > smallest * frobenius(r.view()) {
        return Ok(q);
    }
    let svd = svd(r.view())?;
    let least = smallest * svd.s.first().copied().unwrap_or_default();
    let rank = svd.s.iter().take_while(|s| **s > least).count();
    Ok(if rank == q.ncols() { q } else { product(q.view(), svd.u.slice(s![.., ..rank])) })
}

/// A lower bound of the least singular value of the upper triangular `r`: 1 over the norm of its inverse. 0 if it is
/// not square, or has no inverse.
fn least_singular_value(r: &Array2<f64>) -> f64 {
    let n = r.nrows();
    if r.ncols() != n || r.diag().iter().any(|x| *x == 0.0) {
        return 0.0;
    }
    let mut inverse: Array2<f64> = Array2::zeros((n, n));
    for i in (0..n).rev() {
        // Row i of the inverse, from those below it.
        let (mut above, below) = inverse.view_mut().split_at(Axis(0), i + 1);
        let mut row = above.row_mut(i);
        for (x, other) in r.slice(s![i, i + 1..]).iter().zip(below.rows()) {
            row.scaled_add(-x, &other);
        }
        row[i] += 1.0;
        row /= r[[i, i]];
    }
    match frobenius(inverse.view()) {
        norm if norm.is_normal() => 1.0 / norm,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{FRAC_PI_2, FRAC_PI_4};

    use ndarray::{array, concatenate};
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;
    use crate::testing::matrix;

    #[track_caller]
    fn check(x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>, expected: &[f64]) {
        for got in [principal_angles(x, y).unwrap(), principal_angles(y, x).unwrap()] {
            assert_eq!(got.len(), expected.len(), "{got:?}");
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() <= 1e-15 + 1e-14 * expected, "{got} {expected}");
            }
        }
    }

    #[test]
    fn planes_at_known_angles() {
        let x = array![[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]];
        for (first, second) in
            [(0.0, 1.0), (1e-12, 0.3), (0.2, FRAC_PI_4), (1e-7, FRAC_PI_2), (1.5, FRAC_PI_2)]
        {
            let (first, second): (f64, f64) = (first, second);
            let y = array![[first.cos(), 0.0], [0.0, second.cos()], [first.sin(), 0.0], [0.0, second.sin()]];
            check(x.view(), y.view(), &[first, second]);
            // Another basis of the same plane, with dependent columns.
            let other = y.dot(&array![[2.0, -1.0, 3.0], [1.0, 5.0, -4.0]]);
            check(x.view(), other.view(), &[first, second]);
            check(x.view(), y.slice(s![.., 1..]), &[second]);
        }
    }

    #[test]
    fn a_space_within_another_is_at_no_angle() {
        let x = matrix(50, 7, 1);
        let within = x.dot(&matrix(7, 3, 2));
        assert!(principal_angles(x.view(), within.view()).unwrap().iter().all(|angle| *angle < 1e-14));
        let all = principal_angles(matrix(5, 9, 1).view(), matrix(5, 2, 2).view()).unwrap();
        assert!(all.len() == 2 && all.iter().all(|angle| *angle < 1e-14), "{all:?}");
    }

    #[test]
    fn the_least_singular_value_is_not_overrated() {
        for (n, seed) in [(1, 1), (5, 2), (40, 3)] {
            let r = thin_qr(matrix(2 * n, n, seed).view()).unwrap().r;
            let least = *svd(r.view()).unwrap().s.last().unwrap();
            let bound = least_singular_value(&r);
            let about = 1.0 + 1e-10;
            assert!(bound <= least * about && bound * about >= least / (n as f64), "{bound} {least}");
        }
        assert_eq!(least_singular_value(&array![[1.0, 2.0], [0.0, 0.0]]), 0.0);
        assert_eq!(least_singular_value(&array![[1.0, 2.0, 3.0], [0.0, 1.0, 1.0]]), 0.0);
    }

    #[test]
    fn spaces_without_dimensions_have_no_angles() {
        let (x, zero) = (matrix(5, 2, 1), Array2::zeros((5, 3)));
        assert!(principal_angles(x.view(), zero.view()).unwrap().is_empty());
        assert!(principal_angles(zero.slice(s![.., ..0]), x.view()).unwrap().is_empty());
        let error = principal_angles(x.view(), matrix(4, 2, 1).view()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert_eq!(error.to_string(), "column spaces in 5 and in 4 dimensions; both must have as many");
    }

    proptest! {
        /// Neither the basis of a space nor a common rotation matters, and shared directions are found.
        #[test]
        fn invariance(m in 8usize..30, p in 1usize..4, q in 1usize..4, seed: u64) {
            let (x, y) = (matrix(m, p, seed), matrix(m, q, !seed));
            let angles = principal_angles(x.view(), y.view()).unwrap();
            let turn = crate::thin_qr(matrix(m, m, seed ^ 5).view()).unwrap().q;
            let turned = principal_angles(turn.dot(&x).view(), (turn.dot(&y) * -3.0).view()).unwrap();
            for (x, y) in angles.iter().zip(&turned) {
                prop_assert!((x - y).abs() < 1e-9, "{x} {y}");
            }
            let both = concatenate(Axis(1), &[x.view(), y.view()]).unwrap();
            let angles = principal_angles(both.view(), y.view()).unwrap();
            prop_assert!(angles.len() == q && angles.iter().all(|angle| *angle < 1e-9), "{angles:?}");
        }
    }
}
