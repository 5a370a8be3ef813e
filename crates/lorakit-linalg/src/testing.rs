//! Helpers that the tests of this crate share.

use ndarray::{Array2, ArrayView2};

/// A matrix of values in -1..1 that depend only on `seed` and position.
pub(crate) fn matrix(m: usize, n: usize, seed: u64) -> Array2<f64> {
    Array2::from_shape_fn((m, n), |(i, j)| {
        let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((i as u64) << 32 | j as u64);
        for _ in 0..3 {
            x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        }
        (x >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    })
}

/// A matrix of the given rank.
pub(crate) fn of_rank(m: usize, n: usize, rank: usize, seed: u64) -> Array2<f64> {
    matrix(m, rank, seed).dot(&matrix(rank, n, seed + 1))
}

#[track_caller]
pub(crate) fn assert_close(x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>, tolerance: f64) {
    assert_eq!(x.dim(), y.dim());
    let scale = y.iter().fold(1e-300, |max: f64, y| max.max(y.abs()));
    for ((at, x), y) in x.indexed_iter().zip(y) {
        assert!((x - y).abs() <= tolerance * scale, "{x} instead of {y} at {at:?}, of {scale}");
    }
}

/// Asserts that the columns of `q` are orthonormal.
#[track_caller]
pub(crate) fn assert_orthonormal(q: ArrayView2<'_, f64>) {
    assert_close(q.t().dot(&q).view(), Array2::eye(q.ncols()).view(), 1e-12);
}
