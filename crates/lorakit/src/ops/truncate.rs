//! The best module of a lower rank, and its error.

use lorakit_linalg::{Decomposed, Entry, difference_norm};
use lorakit_tensor::DType;

use crate::Result;
use crate::adapter::factors::{Factors, of_linalg};
use crate::adapter::{Module, Scaling};
use crate::tensor::Shelf;

/// A module of lower rank.
#[derive(Debug)]
pub(crate) struct Truncated {
    /// The module.
    pub(crate) module: Module,
    /// Share of the energy, the squared norm of the delta, that the rank keeps, 0 to 1.
    pub(crate) energy: f64,
    /// `||D' - D|| / ||D||`, Frobenius, the rounding of the factors to their dtype included.
    pub(crate) error: f64,
    /// `||D||`.
    pub(crate) norm: f64,
}

/// The error of modules together, relative to the norm of all their deltas, from the error and the norm of each.
pub(crate) fn overall_error(modules: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (lost, whole) = modules.fold((0.0, 0.0), |(lost, whole), (error, norm)| {
        (lost + (error * norm).powi(2), whole + norm * norm)
    });
    if whole == 0.0 { 0.0 } else { (lost / whole).sqrt() }
}

/// The module nearest to `factors` (Eckart and Young, 1936), in `dtype` and on the shelf. Its rank, at least 1, is what
/// `rank` returns for the singular values of `b * a`; everything but its factors is as in `like`. The factors are of
/// equal norm, since that loses least to rounding.
///
/// # Errors
/// If the decomposition fails, or `dtype` holds no single values.
pub(crate) fn truncate(
    like: &Module,
    factors: &Factors,
    (dtype, shelf): (DType, &Shelf),
    rank: impl FnOnce(&[f64]) -> usize,
) -> Result<Truncated> {
    let place = |e: lorakit_linalg::Error| of_linalg(&e, &like.path);
    let decomposed = Decomposed::of(factors.b.view(), factors.a.view()).map_err(place)?;
    truncate_decomposed(like, factors.scale, decomposed, (dtype, shelf), rank)
}

/// The scale of a module of `rank` in a file with one `alpha`.
pub(crate) fn scale_of(alpha: f64, rank: usize) -> f64 {
    Scaling::Alpha(alpha).scale(rank)
}

/// As [`truncate`], for `scale` times the product that is decomposed.
///
/// # Errors
/// As [`truncate`].
pub(crate) fn truncate_decomposed<T: Entry>(
    like: &Module,
    scale: f64,
    product: Decomposed<'_, T>,
    (dtype, shelf): (DType, &Shelf),
    rank: impl FnOnce(&[f64]) -> usize,
) -> Result<Truncated> {
    truncate_as(like, scale, product, (|_| [dtype; 2], shelf), None, rank)
}

/// As [`truncate_decomposed`], with the dtypes of `A` and `B` for the rank that was chosen. Where one of them is
/// quantised, the factors are those that lose least to that. With an `alpha`, the scale is that divided by the rank, and
/// the factors hold the rest.
///
/// # Errors
/// As [`truncate`].
pub(crate) fn truncate_as<T: Entry>(
    like: &Module,
    scale: f64,
    product: Decomposed<'_, T>,
    (dtypes, shelf): (impl Fn(usize) -> [DType; 2], &Shelf),
    alpha: Option<f64>,
    rank: impl FnOnce(&[f64]) -> usize,
) -> Result<Truncated> {
    let place = |e: lorakit_linalg::Error| of_linalg(&e, &like.path);
    let (svd, all) = product.truncated_svd(|s| rank(s).max(1)).map_err(place)?;
    drop(product);
    let square = |s: &[f64]| s.iter().map(|s| s * s).sum::<f64>();
    let (kept, tail) = all.split_at(svd.s.len().min(all.len()));
    let (whole, tail) = (square(kept) + square(tail), square(tail));
    let norm = scale.abs() * whole.sqrt();
    let (whole, tail) = (scale * scale * whole, scale * scale * tail);
    let dtypes = dtypes(svd.s.len());
    let quantised = dtypes.iter().any(|dtype| dtype.block().elements > 1);
    let (mut b, mut a) = if quantised { svd.even_factors() } else { svd.balanced_factors() };
    drop(svd);
    let stored_scale = alpha.map_or(scale, |alpha| scale_of(alpha, a.nrows()));
    if stored_scale != scale {
        let rest = scale / stored_scale;
        b *= rest.abs().sqrt().copysign(rest);
        a *= rest.abs().sqrt();
    }
    let scale = stored_scale;
    let module = like.with_factors_as(scale, &b, &a, dtypes, shelf)?;
    let stored = Factors::load(&module)?;
    let meant = (scale, b.view(), a.view());
    // The tail is orthogonal to what is kept, and to what rounding changes in it, except for products of two roundings.
    let rounding = difference_norm(meant, (scale, stored.b.view(), stored.a.view())).map_err(place)?;
    let (energy, error) = if whole == 0.0 {
        (1.0, 0.0)
    } else {
        (1.0 - tail / whole, ((tail + rounding * rounding) / whole).sqrt())
    };
    Ok(Truncated { module, energy, error, norm })
}
