//! QR and SVD of every kind of matrix an adapter may hold.

use ndarray::{Array2, ShapeBuilder, array, s};
use proptest::prelude::*;

use super::*;
use crate::ErrorKind;
use crate::testing::{assert_close, assert_orthonormal, matrix, of_rank};

#[track_caller]
fn check_qr(a: ArrayView2<'_, f64>) {
    let (m, n) = a.dim();
    let Qr { q, r } = thin_qr(a).unwrap();
    assert_eq!((q.dim(), r.dim()), ((m, m.min(n)), (m.min(n), n)));
    assert!(q.is_standard_layout() && r.is_standard_layout());
    assert_orthonormal(q.view());
    assert_close(q.dot(&r).view(), a, 1e-11);
    for ((i, j), x) in r.indexed_iter() {
        assert!(i < j || (i == j && *x >= 0.0) || *x == 0.0, "{x} at {i} {j}");
    }
}

#[track_caller]
fn check_svd(a: ArrayView2<'_, f64>) {
    let (m, n) = a.dim();
    let k = m.min(n);
    let svd = svd(a).unwrap();
    assert_eq!((svd.u.dim(), svd.s.len(), svd.vt.dim()), ((m, k), k, (k, n)));
    assert!(svd.u.is_standard_layout() && svd.vt.is_standard_layout());
    assert_orthonormal(svd.u.view());
    assert_orthonormal(svd.vt.t());
    assert!(svd.s.is_sorted_by(|x, y| x >= y) && svd.s.iter().all(|s| *s >= 0.0), "{:?}", svd.s);
    let (left, right) = svd.factors();
    assert_close(left.dot(&right).view(), a, 1e-11);
    let (left, right) = svd.balanced_factors();
    assert_close(left.dot(&right).view(), a, 1e-11);
    let largest = svd.s.first().copied().unwrap_or_default();
    for (x, y) in svd.s.iter().zip(singular_values(a).unwrap()) {
        assert!((x - y).abs() <= 1e-11 * largest, "{x} {y}");
    }
}

#[test]
fn factors_of_every_shape_and_rank() {
    let shapes =
        [(1, 1), (1, 9), (9, 1), (7, 7), (40, 7), (7, 40), (300, 20), (64, 64), (129, 130), (1500, 33)];
    for (m, n) in shapes {
        for rank in [0, 1, 2, 5, 31, 64].into_iter().filter(|rank| *rank <= m.min(n)) {
            let a = of_rank(m, n, rank, 3);
            check_qr(a.view());
            check_svd(a.view());
        }
        check_qr(matrix(m, n, 1).view());
        check_svd(matrix(m, n, 1).view());
    }
}

#[test]
fn dependent_columns_anywhere_leave_the_factors_right() {
    for n in [3, 8, 20, 33, 70] {
        for m in [n - 1, n, n + 1, 4 * n, 700] {
            for (i, j) in [(0, 1), (0, n - 1), (n / 2, n / 2 + 1), (n - 2, n - 1)] {
                let mut a = matrix(m, n, 9);
                let copy = &a.column(i) * 3.0;
                a.column_mut(j).assign(&copy);
                a.column_mut(i / 2).fill(0.0);
                check_qr(a.view());
                check_svd(a.view());
                check_svd(a.t());
            }
        }
    }
}

#[test]
fn empty_matrices_have_empty_factors() {
    for (m, n) in [(0, 0), (0, 5), (5, 0)] {
        check_qr(Array2::zeros((m, n)).view());
        check_svd(Array2::zeros((m, n)).view());
    }
}

#[test]
fn any_layout_gives_the_same() {
    let a = matrix(50, 12, 4);
    let expected = svd(a.view()).unwrap();
    let mut columns = Array2::zeros((50, 12).f());
    columns.assign(&a);
    let mut wide = Array2::zeros((100, 24));
    wide.slice_mut(s![..;2, ..;2]).assign(&a);
    for view in [columns.view(), wide.slice(s![..;2, ..;2])] {
        assert_close(svd(view).unwrap().u.view(), expected.u.view(), 1e-10);
        assert_eq!(thin_qr(view).unwrap().q, thin_qr(a.view()).unwrap().q);
    }
}

#[test]
fn known_values() {
    // Golub and Van Loan, Matrix Computations, 4th ed., example 2.4.1: A = U diag(3, 1) Vᵀ.
    let a = array![[0.96, 1.72], [2.28, 0.96]];
    let svd = svd(a.view()).unwrap();
    assert_close(array![[svd.s[0], svd.s[1]]].view(), array![[3.0, 1.0]].view(), 1e-14);
    assert_close(svd.u.view(), array![[0.6, 0.8], [0.8, -0.6]].view(), 1e-14);
    assert_close(svd.vt.view(), array![[0.8, 0.6], [-0.6, 0.8]].view(), 1e-14);

    let qr = thin_qr(array![[3.0, 5.0], [-4.0, 0.0]].view()).unwrap();
    assert_close(qr.r.view(), array![[5.0, 3.0], [0.0, 4.0]].view(), 1e-14);
    assert_close(qr.q.view(), array![[0.6, 0.8], [-0.8, 0.6]].view(), 1e-14);

    // The Hilbert matrix of order 8; its condition number is 1.5257575538060041e10.
    let hilbert = Array2::from_shape_fn((8, 8), |(i, j)| 1.0 / (i + j + 1) as f64);
    let s = singular_values(hilbert.view()).unwrap();
    assert!((s[0] - 1.695_938_996_921_949).abs() < 1e-14, "{}", s[0]);
    assert!((s[0] / s[7] / 1.525_757_553_806e10 - 1.0).abs() < 1e-5, "{}", s[0] / s[7]);
}

#[test]
fn the_leading_entry_of_each_left_vector_is_positive() {
    // Two entries of equal magnitude: the first decides, whatever rounding does to them.
    let a = array![[-2.0, 0.0], [2.0, 0.0], [0.0, -1.0]];
    let svd = svd(a.view()).unwrap();
    assert!(svd.u[[0, 0]] > 0.0 && svd.u[[2, 1]] > 0.0, "{}", svd.u);
    assert!(svd.vt[[0, 0]] < 0.0 && svd.vt[[1, 1]] < 0.0, "{}", svd.vt);
}

#[test]
fn extreme_magnitudes_are_scaled_away() {
    for scale in [1e-300, 1e-170, 1e170, 1e300] {
        let a = of_rank(30, 6, 4, 8) * scale;
        check_svd(a.view());
        check_svd(a.t());
    }
}

#[test]
fn values_that_are_not_finite_are_errors() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut a = matrix(70, 90, 1);
        a[[69, 3]] = bad;
        for view in [a.view(), a.t()] {
            for error in
                [thin_qr(view).unwrap_err(), svd(view).unwrap_err(), singular_values(view).unwrap_err()]
            {
                assert_eq!(error.kind(), ErrorKind::NonFinite);
            }
        }
        let message = format!("the matrix holds {bad} in row 69, column 3; values must be finite");
        assert_eq!(svd(a.view()).unwrap_err().to_string(), message);
    }
}

#[test]
fn f32_values_need_a_shape_that_fits() {
    assert_eq!(from_f32(2, 2, &[1.0, 2.0, 3.0, 0.5]).unwrap(), array![[1.0, 2.0], [3.0, 0.5]]);
    let error = from_f32(2, 2, &[1.0; 3]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
    assert_eq!(error.to_string(), "3 values, which do not fill a 2 x 2 matrix");
}

proptest! {
    #[test]
    fn reconstruction_and_orthogonality(m in 1usize..40, n in 1usize..40, rank in 0usize..12, seed: u64) {
        let a = of_rank(m, n, rank, seed);
        check_qr(a.view());
        check_svd(a.view());
    }

    /// Turning and transposing leave the spectrum as it is.
    #[test]
    fn invariance_of_singular_values(m in 1usize..30, n in 1usize..30, seed: u64) {
        let a = matrix(m, n, seed);
        let turn = thin_qr(matrix(m, m, seed ^ 1).view()).unwrap().q;
        let s = singular_values(a.view()).unwrap();
        for other in [a.t(), turn.dot(&a).view()] {
            for (x, y) in s.iter().zip(singular_values(other).unwrap()) {
                prop_assert!((x - y).abs() < 1e-12 * s[0].max(1.0), "{x} {y}");
            }
        }
    }
}
