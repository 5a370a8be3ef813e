//! Factors whose quantisation loses least.

use ndarray::Array2;

use crate::Svd;

impl Svd {
    /// Factors `b = u diag(√s) r`, `(m, k)`, and `a = rᵀ diag(√s) vt`, `(k, n)`, with the rotation `r` that gives all
    /// columns of `b` one norm, and all rows of `a` the same: `√(Σ s / k)`.
    ///
    /// A quantiser leaves a share `ε` of the norm of every row of `a` as error, and column `i` of `b` multiplies the
    /// error of row `i`. So the squared error of the product is `ε² Σ ‖b_i‖² ‖a_i‖²`, in which the product of the norms
    /// is at least the nuclear norm, `Σ s`, whatever the factors: no factors lose less than `ε² (Σ s)² / k`, which
    /// these do. Those of [`Self::balanced_factors`] lose `ε² Σ s²`. Values that are quantised along the rank are as
    /// large in each column, so no column takes the steps from the others.
    pub fn even_factors(&self) -> (Array2<f64>, Array2<f64>) {
        let (b, a) = self.balanced_factors();
        let r = equalising(&self.s);
        (b.dot(&r), r.t().dot(&a))
    }
}

/// A rotation `r` for which all entries on the diagonal of `rᵀ diag(s) r` are the mean of `s`: each plane rotation makes
/// one of them the mean (Bendel and Mickey, 1978).
fn equalising(s: &[f64]) -> Array2<f64> {
    let k = s.len();
    let mut r = Array2::eye(k);
    let mut m = Array2::from_diag(&ndarray::aview1(s));
    let mean = s.iter().sum::<f64>() / k.max(1) as f64;
    for _ in 1..k {
        let diagonal = m.diag();
        let at = |found: Option<(usize, &f64)>| found.map_or(0, |(i, _)| i);
        let i = at(diagonal.iter().enumerate().min_by(|(_, x), (_, y)| x.total_cmp(y)));
        let j = at(diagonal.iter().enumerate().max_by(|(_, x), (_, y)| x.total_cmp(y)));
        let (low, high, cross) = (m[[i, i]] - mean, m[[j, j]] - mean, m[[i, j]]);
        if i == j || high <= 1e-12 * mean || low >= 0.0 {
            break;
        }
        // low + 2 cross t + high t² = 0, whose roots are real, since low < 0 < high; the one nearer to 0.
        let root = (cross * cross - low * high).sqrt();
        let t = if cross > 0.0 { -low / (cross + root) } else { low / (root - cross) };
        let c = 1.0 / (1.0 + t * t).sqrt();
        turn(&mut r, (i, j), (c, c * t));
        turn(&mut m, (i, j), (c, c * t));
        m.swap_axes(0, 1);
        turn(&mut m, (i, j), (c, c * t));
    }
    r
}

/// Turns the columns `i` and `j` of `matrix` in their plane.
fn turn(matrix: &mut Array2<f64>, (i, j): (usize, usize), (c, s): (f64, f64)) {
    for mut row in matrix.rows_mut() {
        let (x, y) = (row[i], row[j]);
        (row[i], row[j]) = (c * x + s * y, c * y - s * x);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::gaussian;
    use crate::svd;

    proptest! {
        #[test]
        fn norms_are_even_and_the_product_stays(seed: u64, k in 1usize..12, fall in 0.2f64..1.0) {
            let mut svd = svd(gaussian(20, 16, seed).view()).unwrap().truncated(k);
            svd.s.iter_mut().enumerate().for_each(|(i, s)| *s = fall.powi(i as i32));
            let ((b, a), (u, v)) = (svd.even_factors(), svd.factors());
            prop_assert!((b.dot(&a) - u.dot(&v)).iter().all(|off| off.abs() < 1e-9));
            let mean = svd.s.iter().sum::<f64>() / k as f64;
            for (column, row) in b.columns().into_iter().zip(a.rows()) {
                prop_assert!((column.dot(&column) / mean - 1.0).abs() < 1e-9);
                prop_assert!((row.dot(&row) / mean - 1.0).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn zeros_stay() {
        let svd = Svd { u: Array2::eye(2), s: vec![0.0, 0.0], vt: Array2::eye(2) };
        let (b, a) = svd.even_factors();
        assert!(b.iter().chain(&a).all(|x| *x == 0.0));
    }
}
