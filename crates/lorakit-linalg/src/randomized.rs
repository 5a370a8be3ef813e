//! The leading triplets of a large matrix from a few products with it.

use ndarray::{Array2, ArrayView2};

use crate::backend::faer::product;
use crate::dense::{Svd, svd, thin_qr};
use crate::error::{Error, Result};
use crate::problem::Problem;
use crate::random::gaussian;

/// A matrix that is known by its products, such as one read from a file a panel of rows at a time.
pub trait LinearOperator {
    /// The error of a product.
    type Error: From<Error>;

    /// Number of rows, `m`.
    fn rows(&self) -> usize;

    /// Number of columns, `n`.
    fn cols(&self) -> usize;

    /// The matrix times `x (n, l)`: `(m, l)`.
    ///
    /// # Errors
    /// Any error of reading the matrix.
    fn apply(&self, x: ArrayView2<'_, f64>) -> std::result::Result<Array2<f64>, Self::Error>;

    /// The transposed matrix times `y (m, l)`: `(n, l)`.
    ///
    /// # Errors
    /// Any error of reading the matrix.
    fn apply_transposed(&self, y: ArrayView2<'_, f64>) -> std::result::Result<Array2<f64>, Self::Error>;
}

impl LinearOperator for ArrayView2<'_, f64> {
    type Error = Error;

    fn rows(&self) -> usize {
        self.nrows()
    }

    fn cols(&self) -> usize {
        self.ncols()
    }

    fn apply(&self, x: ArrayView2<'_, f64>) -> Result<Array2<f64>> {
        Ok(product(*self, x))
    }

    fn apply_transposed(&self, y: ArrayView2<'_, f64>) -> Result<Array2<f64>> {
        Ok(product(self.reversed_axes(), y))
    }
}

/// The leading `min(rank, m, n)` triplets of `op`, approximately (Halko, Martinsson and Tropp, 2011, algorithms 4.4
/// and 5.1).
///
/// The range is sampled with `l = rank + oversampling` Gaussian vectors, sharpened by `power_iterations` and
/// orthonormalised between all products. `op` is passed over `2 + 2 · power_iterations` times, with `l` vectors each.
/// Without power iterations the expected Frobenius error before truncation is at most
/// `√(1 + rank / (oversampling - 1))` times the best one of that rank (their theorem 10.5), which suits a spectrum
/// that falls quickly; 10 and 2 suit the slow ones of fine-tuning deltas. A matrix of rank `l` or less is recovered
/// to rounding.
///
/// The Gaussian vectors are [`gaussian`]`(n, l, seed)`, the same on every machine; the sums after them have a fixed
/// order for each kind of processor, so two kinds may differ by rounding.
///
/// # Errors
/// Those of `op`; [`ErrorKind::Shape`](crate::ErrorKind::Shape) if a product does not have the shape it should,
/// [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite),
/// [`ErrorKind::NoConvergence`](crate::ErrorKind::NoConvergence).
pub fn randomized_svd<O: LinearOperator>(
    op: &O,
    rank: usize,
    oversampling: usize,
    power_iterations: usize,
    seed: u64,
) -> std::result::Result<Svd, O::Error> {
    let samples = rank.saturating_add(oversampling).min(op.rows()).min(op.cols());
    let mut range = orthonormal(forward(op, gaussian(op.cols(), samples, seed).view())?.view())?;
    for _ in 0..power_iterations {
        let corange = orthonormal(backward(op, range.view())?.view())?;
        range = orthonormal(forward(op, corange.view())?.view())?;
    }
    // Aᵀ Q = V S Wᵀ, so that Q Qᵀ A = (Q W) S Vᵀ.
    let Svd { u: v, s, vt: wt } = svd(backward(op, range.view())?.view())?;
    let u = product(range.view(), wt.reversed_axes().view());
    Ok(Svd::from_raw(crate::backend::RawSvd { u, s, v }).truncated(rank))
}

/// Frobenius norm of the remainder of an orthogonal projection, `‖A - Q Qᵀ A‖ = √(‖A‖² - Σ s²)`, from the norm of `A`
/// and the singular values that were kept.
///
/// For a [`randomized_svd`] this is the norm of `A - u diag(s) vt`, at the cost of one more number while `A` streams
/// by. It is exact except for cancellation: results below `1e-8 ‖A‖` are noise. [`residual_norm`](crate::residual_norm)
/// has no such floor.
pub fn projection_residual(norm: f64, s: &[f64]) -> f64 {
    (norm * norm - s.iter().map(|s| s * s).sum::<f64>()).max(0.0).sqrt()
}

fn orthonormal(a: ArrayView2<'_, f64>) -> Result<Array2<f64>> {
    thin_qr(a).map(|qr| qr.q)
}

pub(crate) fn forward<O: LinearOperator>(
    op: &O,
    x: ArrayView2<'_, f64>,
) -> std::result::Result<Array2<f64>, O::Error> {
    let y = op.apply(x)?;
    check(&y, op.rows(), x.ncols())?;
    Ok(y)
}

pub(crate) fn backward<O: LinearOperator>(
    op: &O,
    y: ArrayView2<'_, f64>,
) -> std::result::Result<Array2<f64>, O::Error> {
    let x = op.apply_transposed(y)?;
    check(&x, op.cols(), y.ncols())?;
    Ok(x)
}

fn check(got: &Array2<f64>, rows: usize, columns: usize) -> Result<()> {
    if got.dim() == (rows, columns) {
        return Ok(());
    }
    let (needed_rows, needed_columns) = (rows, columns);
    Err(Problem::Operator { rows: got.nrows(), columns: got.ncols(), needed_rows, needed_columns }.into())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;
    use crate::dense::frobenius;
    use crate::product::residual_norm;
    use crate::testing::{assert_close, assert_orthonormal, matrix, of_rank};

    /// A matrix `(m, n)` with the given singular values.
    fn with_spectrum(m: usize, n: usize, s: &[f64], seed: u64) -> Array2<f64> {
        let u = thin_qr(matrix(m, s.len(), seed).view()).unwrap().q;
        let v = thin_qr(matrix(n, s.len(), seed + 1).view()).unwrap().q;
        u.dot(&Array2::from_diag(&ndarray::arr1(s))).dot(&v.t())
    }

    #[test]
    fn a_falling_spectrum_is_found() {
        let s: Vec<f64> = (0..60).map(|i| 0.8_f64.powi(i)).collect();
        let a = with_spectrum(120, 90, &s, 1);
        let got = randomized_svd(&a.view(), 10, 10, 2, 42).unwrap();
        assert_eq!((got.u.dim(), got.s.len(), got.vt.dim()), ((120, 10), 10, (10, 90)));
        assert_orthonormal(got.u.view());
        assert_orthonormal(got.vt.t());
        for (x, y) in got.s.iter().zip(&s) {
            assert!((x / y - 1.0).abs() < 1e-6, "{x} {y}");
        }
        let (b, right) = got.factors();
        let residual = residual_norm(a.view(), b.view(), right.view()).unwrap();
        let best = s[10..].iter().map(|s| s * s).sum::<f64>().sqrt();
        assert!(residual >= best * (1.0 - 1e-12) && residual < 1.0001 * best, "{residual} {best}");
        let cheap = projection_residual(frobenius(a.view()), &got.s);
        assert!((cheap / residual - 1.0).abs() < 1e-9, "{cheap} {residual}");
    }

    #[test]
    fn power_iterations_sharpen_a_flat_spectrum() {
        let s: Vec<f64> = (0..80).map(|i| 1.0 / f64::from(i + 1).sqrt()).collect();
        let a = with_spectrum(100, 100, &s, 1);
        let residual = |iterations| {
            let (b, right) = randomized_svd(&a.view(), 8, 8, iterations, 42).unwrap().factors();
            residual_norm(a.view(), b.view(), right.view()).unwrap()
        };
        let best = s[8..].iter().map(|s| s * s).sum::<f64>().sqrt();
        // Theorem 10.5, with room for chance, without iterations.
        assert!(residual(0) < 1.3 * best && residual(2) < residual(0) && residual(4) < 1.005 * best);
    }

    #[test]
    fn the_seed_decides() {
        let a = matrix(40, 30, 1);
        let run = |seed| randomized_svd(&a.view(), 5, 3, 1, seed).unwrap();
        assert_eq!((run(1).u, run(1).s), (run(1).u, run(1).s));
        assert_ne!(run(1).s, run(2).s);
    }

    #[test]
    fn zeros_and_small_matrices() {
        let zero = Array2::zeros((20, 9));
        let got = randomized_svd(&zero.view(), 4, 3, 1, 0).unwrap();
        assert_eq!(got.s, [0.0; 4]);
        assert_orthonormal(got.u.view());
        for (m, n) in [(1, 1), (1, 6), (6, 1), (5, 3), (0, 4)] {
            let a = matrix(m, n, 2);
            let got = randomized_svd(&a.view(), 50, usize::MAX, 1, 0).unwrap();
            let (b, right) = got.factors();
            assert_close(b.dot(&right).view(), a.view(), 1e-12);
        }
        assert!(randomized_svd(&zero.view(), 0, 0, 1, 0).unwrap().s.is_empty());
    }

    #[test]
    fn a_stream_is_passed_over_as_often_as_promised_and_its_errors_come_back() {
        struct Stream {
            a: Array2<f64>,
            passes: Cell<usize>,
            fails_at: usize,
            extra: usize,
        }
        #[derive(Debug, PartialEq)]
        enum Failure {
            Read,
            Algebra(ErrorKind),
        }
        impl From<Error> for Failure {
            fn from(error: Error) -> Self {
                Failure::Algebra(error.kind())
            }
        }
        impl LinearOperator for Stream {
            type Error = Failure;
            fn rows(&self) -> usize {
                self.a.nrows() + self.extra
            }
            fn cols(&self) -> usize {
                self.a.ncols()
            }
            fn apply(&self, x: ArrayView2<'_, f64>) -> std::result::Result<Array2<f64>, Failure> {
                self.passes.set(self.passes.get() + 1);
                if self.passes.get() == self.fails_at { Err(Failure::Read) } else { Ok(self.a.dot(&x)) }
            }
            fn apply_transposed(&self, y: ArrayView2<'_, f64>) -> std::result::Result<Array2<f64>, Failure> {
                self.passes.set(self.passes.get() + 1);
                Ok(self.a.t().dot(&y))
            }
        }
        let stream = |fails_at, extra| Stream { a: matrix(30, 20, 1), passes: Cell::new(0), fails_at, extra };
        let fine = stream(0, 0);
        let got = randomized_svd(&fine, 4, 4, 3, 1).unwrap();
        assert_eq!(fine.passes.get(), 8);
        assert_close(got.vt.view(), randomized_svd(&fine.a.view(), 4, 4, 3, 1).unwrap().vt.view(), 1e-9);
        assert_eq!(randomized_svd(&stream(3, 0), 4, 4, 3, 1).unwrap_err(), Failure::Read);
        assert_eq!(
            randomized_svd(&stream(0, 1), 4, 4, 3, 1).unwrap_err(),
            Failure::Algebra(ErrorKind::Shape)
        );
        let mut bad = stream(0, 0);
        bad.a[[3, 3]] = f64::NAN;
        assert_eq!(randomized_svd(&bad, 4, 4, 3, 1).unwrap_err(), Failure::Algebra(ErrorKind::NonFinite));
    }

    proptest! {
        #[test]
        fn a_matrix_of_low_rank_is_recovered(m in 1usize..40, n in 1usize..40, rank in 1usize..6, seed: u64) {
            let a = of_rank(m, n, rank, 7);
            let got = randomized_svd(&a.view(), rank, 2, 1, seed).unwrap();
            let (b, right) = got.factors();
            prop_assert!(residual_norm(a.view(), b.view(), right.view()).unwrap() < 1e-9 * (1.0 + frobenius(a.view())));
        }
    }
}
