//! QR and SVD of one matrix.

use ndarray::{Array2, ArrayView2, Axis, s};

#[cfg(doc)]
use crate::ErrorKind;
use crate::backend::{self, RawQr, RawSvd, row_major};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::problem::Problem;

#[cfg(not(feature = "lapack"))]
use backend::faer as chosen;
#[cfg(feature = "lapack")]
use backend::lapack as chosen;

/// The thin QR factors `a = q r`.
#[derive(Debug, Clone)]
pub struct Qr {
    /// `(m, k)` with orthonormal columns, row-major; `k = min(m, n)`.
    pub q: Array2<f64>,
    /// `(k, n)`, upper trapezoidal with a non-negative diagonal, row-major.
    pub r: Array2<f64>,
}

impl Qr {
    /// Converts a backend's factors: row-major, with the signs that [`Qr`] promises.
    pub(crate) fn from_raw(raw: RawQr) -> Self {
        let RawQr { mut q, mut r } = raw;
        for (i, (mut row, mut column)) in r.rows_mut().into_iter().zip(q.columns_mut()).enumerate() {
            if row.get(i).is_some_and(|diagonal| *diagonal < 0.0) {
                row.mapv_inplace(|x| -x);
                column.mapv_inplace(|x| -x);
            }
        }
        Qr { q: row_major(q), r }
    }
}

/// The thin singular value decomposition `a = u diag(s) vt`.
///
/// The signs are fixed, since any pair `(u_i, v_i)` may be negated together: the first entry of each column of `u`
/// whose magnitude is within one part in a million of the column's largest is positive. (The margin keeps rounding
/// from deciding between entries of equal magnitude.) Where singular values coincide, the vectors themselves are
/// an arbitrary basis of their common space.
#[derive(Debug, Clone)]
pub struct Svd {
    /// `(m, k)` with orthonormal columns, row-major.
    pub u: Array2<f64>,
    /// `(k)`, descending and non-negative.
    pub s: Vec<f64>,
    /// `(k, n)` with orthonormal rows, row-major.
    pub vt: Array2<f64>,
}

impl Svd {
    /// The best approximation of rank `rank` in the Frobenius and the spectral norm (Eckart and Young, 1936):
    /// the leading triplets; all of them if there are no more.
    #[must_use]
    pub fn truncated(mut self, rank: usize) -> Self {
        if rank < self.s.len() {
            self.u = self.u.slice(s![.., ..rank]).as_standard_layout().into_owned();
            self.vt = self.vt.slice(s![..rank, ..]).to_owned();
            self.s.truncate(rank);
        }
        self
    }

    /// Factors `b = u diag(s)`, `(m, k)`, and `a = vt`, `(k, n)`: what PEFT and kohya's scripts write.
    pub fn factors(&self) -> (Array2<f64>, Array2<f64>) {
        let mut b = self.u.clone();
        scale_columns(&mut b, self.s.iter().copied());
        (b, self.vt.clone())
    }

    /// Factors of equal norm, `b = u diag(√s)`, `(m, k)`, and `a = diag(√s) vt`, `(k, n)`.
    pub fn balanced_factors(&self) -> (Array2<f64>, Array2<f64>) {
        let (mut b, mut a) = (self.u.clone(), self.vt.clone());
        scale_columns(&mut b, self.s.iter().map(|s| s.sqrt()));
        for (mut row, s) in a.rows_mut().into_iter().zip(&self.s) {
            row *= s.sqrt();
        }
        (b, a)
    }

    /// Converts a backend's factors: row-major, with the signs that [`Svd`] promises.
    pub(crate) fn from_raw(raw: RawSvd) -> Self {
        let RawSvd { mut u, s, mut v } = raw;
        for (mut u, mut v) in u.columns_mut().into_iter().zip(v.columns_mut()) {
            let largest = u.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
            let leading = u.iter().find(|x| x.abs() >= largest * (1.0 - 1e-6));
            if leading.is_some_and(|x| *x < 0.0) {
                u.mapv_inplace(|x| -x);
                v.mapv_inplace(|x| -x);
            }
        }
        Svd { u: row_major(u), s, vt: row_major(v.reversed_axes()) }
    }
}

fn scale_columns(a: &mut Array2<f64>, factors: impl Iterator<Item = f64>) {
    for (mut column, factor) in a.columns_mut().into_iter().zip(factors) {
        column *= factor;
    }
}

/// Thin QR factors of `a (m, n)` by Householder reflections, for any shape and rank.
///
/// A column that depends on those before it to within `16 m ε` of its norm counts as dependent; `q` has orthonormal
/// columns nonetheless.
///
/// # Errors
/// [`ErrorKind::NonFinite`].
pub fn thin_qr(a: ArrayView2<'_, f64>) -> Result<Qr> {
    check_finite("the matrix", a)?;
    let (m, n) = a.dim();
    chosen::qr(a).map(Qr::from_raw).ok_or_else(|| Problem::QrFactors { rows: m, columns: n }.into())
}

/// Thin singular value decomposition of `a (m, n)`, for any shape and rank; `k = min(m, n)`.
///
/// Singular values are accurate to a small multiple of `max(m, n) ε` times the largest.
///
/// # Errors
/// [`ErrorKind::NonFinite`], [`ErrorKind::NoConvergence`].
pub fn svd(a: ArrayView2<'_, f64>) -> Result<Svd> {
    check_finite("the matrix", a)?;
    svd_of_finite(a)
}

/// The singular values of `a (m, n)`, descending, `min(m, n)` of them.
///
/// # Errors
/// [`ErrorKind::NonFinite`], [`ErrorKind::NoConvergence`].
pub fn singular_values(a: ArrayView2<'_, f64>) -> Result<Vec<f64>> {
    check_finite("the matrix", a)?;
    let (scaled, unit) = in_range(a);
    let values = backend::faer::singular_values(scaled.as_ref().map_or(a, |scaled| scaled.view()));
    let values = values.ok_or_else(|| no_convergence(a))?;
    Ok(values.into_iter().map(|s| s * unit).collect())
}

pub(crate) fn svd_of_finite(a: ArrayView2<'_, f64>) -> Result<Svd> {
    let (scaled, unit) = in_range(a);
    let mut raw =
        chosen::svd(scaled.as_ref().map_or(a, |scaled| scaled.view())).ok_or_else(|| no_convergence(a))?;
    raw.s.iter_mut().for_each(|s| *s *= unit);
    Ok(Svd::from_raw(raw))
}

/// A copy of `a` divided by a power of two, and that power, if its squares would leave the range of f64.
fn in_range(a: ArrayView2<'_, f64>) -> (Option<Array2<f64>>, f64) {
    let largest = a.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    if largest == 0.0 || (1e-120..1e120).contains(&largest) {
        return (None, 1.0);
    }
    let unit = largest.log2().floor().clamp(-1000.0, 1000.0).exp2();
    (Some(a.mapv(|x| x / unit)), unit)
}

fn no_convergence(a: ArrayView2<'_, f64>) -> Error {
    let (rows, columns) = a.dim();
    Problem::SingularValues { rows, columns }.into()
}

/// `Err` at the first value that is NaN or infinite; `what` is "the matrix", "B" and so on.
pub(crate) fn check_finite<T: Entry>(what: &'static str, a: ArrayView2<'_, T>) -> Result<()> {
    let rows =
        |a: ArrayView2<'_, T>| a.rows().into_iter().all(|row| row.to_slice().is_some_and(T::all_finite));
    let clean = rows(a) || rows(a.reversed_axes());
    if clean {
        return Ok(());
    }
    match a.indexed_iter().map(|(at, x)| (at, x.wide())).find(|(_, x)| !x.is_finite()) {
        None => Ok(()),
        Some(((row, column), x)) => Err(Problem::Value { what, value: x, row, column }.into()),
    }
}

/// The f64 matrix `(rows, columns)` of row-major f32 values.
///
/// # Errors
/// [`ErrorKind::Shape`] if there are not that many values.
pub fn from_f32(rows: usize, columns: usize, values: &[f32]) -> Result<Array2<f64>> {
    let wide = values.iter().copied().map(f64::from).collect();
    Array2::from_shape_vec((rows, columns), wide)
        .map_err(|_| Problem::Count { values: values.len(), rows, columns }.into())
}

/// Frobenius norm of `a`, summed by rows.
pub(crate) fn frobenius(a: ArrayView2<'_, f64>) -> f64 {
    let largest = a.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    if largest == 0.0 || !largest.is_finite() {
        return largest;
    }
    let squares = |row: ndarray::ArrayView1<'_, f64>| row.iter().map(|x| (x / largest).powi(2)).sum::<f64>();
    largest * a.axis_iter(Axis(0)).map(squares).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests;
