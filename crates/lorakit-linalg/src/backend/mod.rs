//! The libraries behind this crate. No type of theirs leaves these modules.

pub(crate) mod faer;
#[cfg(feature = "lapack")]
pub(crate) mod lapack;

use ndarray::{Array2, ArrayView2, ShapeBuilder};

/// Thin factors as a backend leaves them: `u (m, k)`, `s (k)`, `v (n, k)`, signs arbitrary.
pub(crate) struct RawSvd {
    pub(crate) u: Array2<f64>,
    pub(crate) s: Vec<f64>,
    pub(crate) v: Array2<f64>,
}

/// Thin factors as a backend leaves them: `q (m, k)`, `r (k, n)` row-major, signs arbitrary.
pub(crate) struct RawQr {
    pub(crate) q: Array2<f64>,
    pub(crate) r: Array2<f64>,
}

/// Rows that are transposed together: as many values as two cache lines hold.
const TILE: usize = 16;

/// A column-major copy.
pub(crate) fn column_major(a: ArrayView2<'_, f64>) -> Array2<f64> {
    let (m, n) = a.dim();
    let mut out = Array2::zeros((m, n).f());
    match (a.to_slice(), out.as_slice_memory_order_mut()) {
        (Some(from), Some(to)) if n > 1 && m > 1 => transpose(from, to, m, n),
        _ => out.assign(&a),
    }
    out
}

/// The same matrix, row-major.
pub(crate) fn row_major(a: Array2<f64>) -> Array2<f64> {
    if a.is_standard_layout() {
        return a;
    }
    let (m, n) = a.dim();
    let mut out = Array2::zeros((m, n));
    match (a.t().to_slice(), out.as_slice_mut()) {
        (Some(from), Some(to)) => transpose(from, to, n, m),
        _ => out.assign(&a),
    }
    out
}

/// `from` is row-major `(m, n)`, `to` row-major `(n, m)`.
fn transpose(from: &[f64], to: &mut [f64], m: usize, n: usize) {
    for (t, tile) in from.chunks(TILE * n).enumerate() {
        let height = tile.len() / n;
        for j in 0..n {
            let column = &mut to[j * m + t * TILE..][..height];
            column.iter_mut().enumerate().for_each(|(i, value)| *value = tile[i * n + j]);
        }
    }
}
