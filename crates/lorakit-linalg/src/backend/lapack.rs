//! LAPACK through `ndarray-linalg`: dgeqrf, dorgqr and dgesdd.

use ndarray::{Array2, ArrayView2, s};
use ndarray_linalg::{JobSvd, QR, SVDDC};

use super::{RawQr, RawSvd};

pub(crate) fn qr(a: ArrayView2<'_, f64>) -> Option<RawQr> {
    let (m, n) = a.dim();
    let k = m.min(n);
    if k == 0 {
        return Some(RawQr { q: Array2::zeros((m, 0)), r: Array2::zeros((0, n)) });
    }
    let (q, r) = a.as_standard_layout().qr().ok()?;
    Some(RawQr {
        q: q.slice(s![.., ..k]).to_owned(),
        r: r.slice(s![..k, ..]).as_standard_layout().into_owned(),
    })
}

pub(crate) fn svd(a: ArrayView2<'_, f64>) -> Option<RawSvd> {
    let (m, n) = a.dim();
    if m.min(n) == 0 {
        return Some(RawSvd { u: Array2::zeros((m, 0)), s: Vec::new(), v: Array2::zeros((n, 0)) });
    }
    let (u, s, vt) = a.as_standard_layout().svddc(JobSvd::Some).ok()?;
    Some(RawSvd { u: u?, s: s.to_vec(), v: vt?.reversed_axes() })
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayView2;

    use crate::backend::{RawQr, RawSvd, faer, lapack};
    use crate::dense::{Qr, Svd};
    use crate::testing::{assert_close, matrix};

    fn both<T>(
        a: ArrayView2<'_, f64>,
        f: fn(ArrayView2<'_, f64>) -> Option<T>,
        g: fn(ArrayView2<'_, f64>) -> Option<T>,
    ) -> [T; 2] {
        [f(a).unwrap(), g(a).unwrap()]
    }

    #[test]
    fn faer_and_lapack_agree() {
        for (m, n) in [(1, 1), (1, 9), (9, 1), (40, 7), (7, 40), (130, 128)] {
            let a = matrix(m, n, 5);
            let [x, y]: [Svd; 2] = both::<RawSvd>(a.view(), faer::svd, lapack::svd).map(Svd::from_raw);
            assert_close(x.u.view(), y.u.view(), 1e-10);
            assert_close(x.vt.view(), y.vt.view(), 1e-10);
            x.s.iter().zip(&y.s).for_each(|(x, y)| assert!((x - y).abs() < 1e-12 * x.max(1.0), "{x} {y}"));

            let [x, y]: [Qr; 2] = both::<RawQr>(a.view(), faer::qr, lapack::qr).map(Qr::from_raw);
            assert_close(x.q.view(), y.q.view(), 1e-11);
            assert_close(x.r.view(), y.r.view(), 1e-11);
        }
    }
}
