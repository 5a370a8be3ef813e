//! Spectra and norms of low-rank products `B A` from their factors: `O((m + n) r²)`, never an `m x n` matrix.
//!
//! With `B = Q_b R_b` and `Aᵀ = Q_a R_a`, the product is `Q_b (R_b R_aᵀ) Q_aᵀ`: its singular values are those of the
//! core `R_b R_aᵀ`, which is `r x r`, and its singular vectors are the core's, turned by `Q_b` and `Q_a`.

use ndarray::{Array2, ArrayView2, s};

#[cfg(doc)]
use crate::ErrorKind;
use crate::backend::RawSvd;
use crate::backend::faer::{gram, inner_products, product};
use crate::coordinates::Coordinates;
use crate::dense::{Svd, check_finite, frobenius, singular_values, svd_of_finite};
use crate::entry::{Entry, widened};
use crate::error::Result;
use crate::problem::Problem;
use crate::triangle::Triangle;

/// One term `scale * b * a` of a weighted sum: `(scale, b (m, r), a (r, n))`.
pub type Term<'a, T = f64> = (f64, ArrayView2<'a, T>, ArrayView2<'a, T>);

/// The thin singular value decomposition of `b a`, from `b (m, r)` and `a (r, n)`; `k = min(m, r, n)`.
///
/// # Errors
/// [`ErrorKind::Shape`] if the inner dimensions differ, [`ErrorKind::NonFinite`], [`ErrorKind::NoConvergence`].
pub fn product_svd(b: ArrayView2<'_, f64>, a: ArrayView2<'_, f64>) -> Result<Svd> {
    truncated_product_svd(b, a, |s| s.len()).map(|(svd, _)| svd)
}

/// The leading triplets of `b a`, as many as `rank` returns for all singular values, and all singular values.
///
/// The vectors of the triplets that are left out are never computed, so this takes about half the time of
/// [`product_svd`] if few are kept.
///
/// # Errors
/// Those of [`product_svd`].
pub fn truncated_product_svd(
    b: ArrayView2<'_, f64>,
    a: ArrayView2<'_, f64>,
    rank: impl FnOnce(&[f64]) -> usize,
) -> Result<(Svd, Vec<f64>)> {
    Decomposed::of(b, a)?.truncated_svd(rank)
}

/// A product `b a` whose factors are decomposed, `b = Q_b R_b` and `aᵀ = Q_a R_a`.
pub struct Decomposed<'a, T = f64> {
    left: Triangle<'a, T>,
    right: Triangle<'a, T>,
    /// Factors between `R_b` and `R_aᵀ`, one for each column; all 1 if empty.
    weights: Vec<f64>,
    dim: (usize, usize),
}

impl<'a, T: Entry> Decomposed<'a, T> {
    /// Decomposes `b (m, r)` and `a (r, n)`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if the inner dimensions differ, [`ErrorKind::NonFinite`].
    pub fn of(b: ArrayView2<'a, T>, a: ArrayView2<'a, T>) -> Result<Self> {
        let dim = check_terms(&[(1.0, b, a)])?;
        let (left, right) = (Triangle::of(b), Triangle::of(a.reversed_axes()));
        Ok(Decomposed { left, right, weights: Vec::new(), dim })
    }

    /// The product `b diag(weights) a` instead.
    pub fn weighted(self, weights: Vec<f64>) -> Self {
        Decomposed { weights, ..self }
    }

    /// The leading triplets: see [`truncated_product_svd`].
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`] if the product is beyond the range of f64, [`ErrorKind::NoConvergence`].
    pub fn truncated_svd(&self, rank: impl FnOnce(&[f64]) -> usize) -> Result<(Svd, Vec<f64>)> {
        let core = svd_of_finite(core_of(&self.left, &self.weights, &self.right)?.view())?;
        let all = core.s.clone();
        let core = core.truncated(rank(&all));
        let svd = Svd::from_raw(RawSvd {
            u: self.left.q_times(core.u.view()),
            s: core.s,
            v: self.right.q_times(core.vt.reversed_axes().view()),
        });
        Ok((svd, all))
    }

    /// The coordinates of the products with these ranks, whose factors are side by side in `b` and `a`, without
    /// weights.
    pub fn coordinates(&self, ranks: &[usize]) -> Coordinates {
        Coordinates::new(self.left.r(), self.right.r(), self.dim, ranks)
    }
}

/// The singular values of `b a`, descending, `min(m, r, n)` of them, from `b (m, r)` and `a (r, n)`.
///
/// # Errors
/// Those of [`product_svd`].
pub fn product_singular_values(b: ArrayView2<'_, f64>, a: ArrayView2<'_, f64>) -> Result<Vec<f64>> {
    check_factors(b, a)?;
    singular_values(core_of(&Triangle::of(b), &[], &Triangle::of(a.reversed_axes()))?.view())
}

/// Frobenius norm of `b a`, from the Gram matrices: `‖b a‖² = Σᵢⱼ (bᵀb)ᵢⱼ (a aᵀ)ᵢⱼ`.
///
/// If those terms cancel and the root would keep few digits, it is the norm of the core `R_b R_aᵀ` instead.
///
/// # Errors
/// [`ErrorKind::Shape`] if the inner dimensions differ, [`ErrorKind::NonFinite`].
pub fn product_norm<T: Entry>(b: ArrayView2<'_, T>, a: ArrayView2<'_, T>) -> Result<f64> {
    check_factors(b, a)?;
    norm_of(b, a)
}

/// [`product_norm`] of checked factors.
fn norm_of<T: Entry>(b: ArrayView2<'_, T>, a: ArrayView2<'_, T>) -> Result<f64> {
    let (left, right) = (gram(b), gram(a.reversed_axes()));
    let terms = || left.iter().zip(&right).map(|(x, y)| x * y);
    let (sum, magnitude): (f64, f64) = (terms().sum(), terms().map(f64::abs).sum());
    if magnitude == 0.0 && left.iter().all(|x| *x == 0.0) | right.iter().all(|x| *x == 0.0) {
        return Ok(0.0);
    }
    if magnitude.is_normal() && sum > 1e-4 * magnitude {
        return Ok(sum.sqrt());
    }
    Ok(frobenius(core_of(&Triangle::of(b), &[], &Triangle::of(a.reversed_axes()))?.view()))
}

/// Frobenius norm of `x - y`, each a term of shape `(m, n)` and of any rank.
///
/// Accurate to a few `ε` of the terms' norms, even if they nearly agree.
///
/// # Errors
/// [`ErrorKind::Shape`] if the terms or their factors do not fit, [`ErrorKind::NonFinite`].
pub fn difference_norm(x: Term<'_>, y: Term<'_>) -> Result<f64> {
    check_terms(&[x, y])?;
    let ((s, b, a), (t, d, c)) = (x, y);
    if b.ncols() == d.ncols() {
        // (s b - t d) a + t d (a - c): if the factors differ by rounding only, nothing is left to cancel.
        let (off_b, off_a) = (b.mapv(|x| s * x) - d.mapv(|x| t * x), &a - &c);
        let near = |off: &Array2<f64>, of: ArrayView2<'_, f64>, scale: f64| {
            largest(off.view()) <= NEAR * scale.abs() * largest(of)
        };
        if near(&off_b, d, t) && near(&off_a, c, 1.0) {
            let (b, a) = stacked(&[(1.0, off_b.view(), a), (t, d, off_a.view())]);
            return norm_of(b.view(), a.view());
        }
    }
    let (b, a) = stacked(&[x, (-t, d, c)]);
    norm_of(b.view(), a.view())
}

/// Factors that differ by less, relative to their largest entries, are taken for those of one product, rounded.
const NEAR: f64 = 1.0 / 64.0;

fn largest(matrix: ArrayView2<'_, f64>) -> f64 {
    matrix.iter().fold(0.0, |largest, x| x.abs().max(largest))
}

/// [`difference_norm`] of `x` and the sum of `terms`, whose norm is `norm`: at a lower cost if they are not near each
/// other.
///
/// # Errors
/// As [`difference_norm`].
pub fn distance_to<T: Entry>(x: Term<'_, T>, terms: &[Term<'_, T>], norm: f64) -> Result<f64> {
    check_terms(&[&[x], terms].concat())?;
    let norm_x = x.0.abs() * norm_of(x.1, x.2)?;
    let squares = norm_x * norm_x + norm * norm;
    let mut rest = squares;
    for term in terms {
        rest -= 2.0 * inner_product_of(x, *term);
    }
    if squares.is_normal() && rest > 1e-4 * squares {
        return Ok(rest.sqrt());
    }
    let (b, a) = (widened(x.1), widened(x.2));
    let (d, c) = stacked(terms);
    difference_norm((x.0, b.view(), a.view()), (1.0, d.view(), c.view()))
}

/// Frobenius inner product `⟨x, y⟩` of two terms of shape `(m, n)`: `s_x s_y Σᵢⱼ (b_xᵀ b_y)ᵢⱼ (a_x a_yᵀ)ᵢⱼ`.
///
/// Divided by both norms it is the cosine between two adapters' deltas.
///
/// # Errors
/// [`ErrorKind::Shape`] if the terms or their factors do not fit, [`ErrorKind::NonFinite`].
pub fn inner_product<T: Entry>(x: Term<'_, T>, y: Term<'_, T>) -> Result<f64> {
    check_terms(&[x, y])?;
    Ok(inner_product_of(x, y))
}

/// [`inner_product`] of checked terms.
fn inner_product_of<T: Entry>(x: Term<'_, T>, y: Term<'_, T>) -> f64 {
    let (left, right) = (inner_products(x.1, y.1), inner_products(x.2.reversed_axes(), y.2.reversed_axes()));
    x.0 * y.0 * left.iter().zip(&right).map(|(x, y)| x * y).sum::<f64>()
}

/// Factors of a weighted sum: `b (m, Σ r)` and `a (Σ r, n)` with `b a = Σ scale * b_i a_i`, exactly.
///
/// The scales go into `a`, as in PEFT's `cat`.
///
/// # Errors
/// [`ErrorKind::Shape`] if there is no term, or terms or factors do not fit; [`ErrorKind::NonFinite`].
pub fn stack<T: Entry>(terms: &[Term<'_, T>]) -> Result<(Array2<f64>, Array2<f64>)> {
    check_terms(terms)?;
    Ok(stacked(terms))
}

/// [`stack`] of checked terms.
fn stacked<T: Entry>(terms: &[Term<'_, T>]) -> (Array2<f64>, Array2<f64>) {
    let (m, n) = terms.first().map_or((0, 0), |(_, b, a)| (b.nrows(), a.ncols()));
    let rank = terms.iter().map(|(_, b, _)| b.ncols()).sum();
    let (mut b, mut a) = (Array2::zeros((m, rank)), Array2::zeros((rank, n)));
    let mut at = 0;
    for (scale, left, right) in terms {
        let end = at + left.ncols();
        b.slice_mut(s![.., at..end]).zip_mut_with(left, |place, x| *place = x.wide());
        a.slice_mut(s![at..end, ..]).zip_mut_with(right, |place, x| *place = scale * x.wide());
        at = end;
    }
    (b, a)
}

/// Frobenius norm of `w - b a` for `w (m, n)`, `b (m, r)` and `a (r, n)`, a panel of rows at a time.
///
/// A caller that streams `w` passes its panels with the same rows of `b`, and takes the root of the sum of squares.
///
/// # Errors
/// [`ErrorKind::Shape`], [`ErrorKind::NonFinite`] (of the factors only).
pub fn residual_norm(w: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>, a: ArrayView2<'_, f64>) -> Result<f64> {
    check_factors(b, a)?;
    if w.dim() != (b.nrows(), a.ncols()) {
        let of_factors = (b.nrows(), a.ncols());
        return Err(Problem::Residual { rows: w.nrows(), columns: w.ncols(), of_factors }.into());
    }
    let mut norm = 0.0_f64;
    for from in (0..w.nrows()).step_by(PANEL) {
        let rows = s![from..(from + PANEL).min(w.nrows()), ..];
        let residual = &w.slice(rows) - &product(b.slice(rows), a);
        norm = norm.hypot(frobenius(residual.view()));
    }
    Ok(norm)
}

const PANEL: usize = 128;

/// `R_b diag(weights) R_aᵀ`, whose singular values are those of the product.
fn core_of<T: Entry>(
    left: &Triangle<'_, T>,
    weights: &[f64],
    right: &Triangle<'_, T>,
) -> Result<Array2<f64>> {
    let mut weighted = left.r();
    weighted.columns_mut().into_iter().zip(weights).for_each(|(mut column, weight)| column *= *weight);
    let core = product(weighted.view(), right.r().view().reversed_axes());
    if core.iter().all(|x| x.is_finite()) { Ok(core) } else { Err(Problem::Range.into()) }
}

fn check_factors<T: Entry>(b: ArrayView2<'_, T>, a: ArrayView2<'_, T>) -> Result<()> {
    check_terms(&[(1.0, b, a)]).map(|_| ())
}

/// The shape `(m, n)` that all terms have.
pub(crate) fn check_terms<T: Entry>(terms: &[Term<'_, T>]) -> Result<(usize, usize)> {
    let Some((_, b, a)) = terms.first() else {
        return Err(Problem::NoTerms.into());
    };
    let (m, n) = (b.nrows(), a.ncols());
    for (scale, b, a) in terms {
        if b.ncols() != a.nrows() {
            return Err(Problem::Inner { b: b.dim(), a: a.dim() }.into());
        }
        if (b.nrows(), a.ncols()) != (m, n) {
            let (rows, columns) = (b.nrows(), a.ncols());
            return Err(Problem::Terms { rows, columns, needed_rows: m, needed_columns: n }.into());
        }
        if !scale.is_finite() {
            return Err(Problem::Scale { scale: *scale }.into());
        }
        check_finite("B", *b)?;
        check_finite("A", *a)?;
    }
    Ok((m, n))
}

#[cfg(test)]
mod tests;
