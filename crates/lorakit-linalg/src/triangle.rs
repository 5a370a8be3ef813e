//! Tall matrices as `z = Q R`.

use ndarray::{Array2, ArrayView2, Axis, s};

use crate::backend::faer::{Reflections, gram, tall_product};
use crate::entry::{Entry, widened};

/// The inner products are accurate enough for a column if at least this share of its square is left once the columns
/// before it are projected out: a share that small is known to some ten digits.
const TOLD: f64 = 1e-6;

/// `z = Q R`: `R` from the inner products of the columns (Cholesky) if columns are independent enough for that, else
/// from reflections. `Q` is only ever multiplied by something, so it is `z R⁻¹` in the first case.
///
/// Inner products take a third of the time of reflections, which take theirs twice: for `R` and for `Q`.
pub(crate) enum Triangle<'a, T> {
    Told { z: ArrayView2<'a, T>, r: Array2<f64> },
    Reflected(Reflections),
}

impl<'a, T: Entry> Triangle<'a, T> {
    pub(crate) fn of(z: ArrayView2<'a, T>) -> Self {
        let (rows, columns) = z.dim();
        // For matrices that are hardly taller than wide, reflections cost no more.
        let told = if rows > 2 * columns { cholesky(&gram(z)) } else { None };
        match told {
            Some(r) => Triangle::Told { z, r },
            None => Triangle::Reflected(match T::as_wide(z) {
                Some(z) => Reflections::of(z),
                None => Reflections::of(widened(z).view()),
            }),
        }
    }

    /// `R (min(m, n), n)`, upper trapezoidal, up to the signs of its rows.
    pub(crate) fn r(&self) -> Array2<f64> {
        match self {
            Triangle::Told { r, .. } => r.clone(),
            Triangle::Reflected(reflections) => reflections.r(),
        }
    }

    /// The first `min(m, n)` columns of `Q` times `core (min(m, n), c)`: `(m, c)`.
    pub(crate) fn q_times(&self, core: ArrayView2<'_, f64>) -> Array2<f64> {
        match self {
            Triangle::Told { z, r } => tall_product(*z, solved(r, core).view()),
            Triangle::Reflected(reflections) => reflections.q_times(core),
        }
    }
}

/// `R`, upper triangular, with `Rᵀ R = gram`; `None` if it would hold few correct digits.
fn cholesky(gram: &Array2<f64>) -> Option<Array2<f64>> {
    let n = gram.nrows();
    // Lower triangular, so that sums run along rows.
    let mut lower: Array2<f64> = Array2::zeros((n, n));
    for i in 0..n {
        let whole = gram[[i, i]];
        let (before, mut rest) = lower.view_mut().split_at(Axis(0), i);
        let mut row = rest.row_mut(0);
        for j in 0..i {
            let sum = row.slice(s![..j]).dot(&before.slice(s![j, ..j]));
            row[j] = (gram[[i, j]] - sum) / before[[j, j]];
        }
        let left = whole - row.slice(s![..i]).dot(&row.slice(s![..i]));
        if !(whole.is_normal() && left > TOLD * whole) {
            return None;
        }
        row[i] = left.sqrt();
    }
    Some(lower.reversed_axes().as_standard_layout().into_owned())
}

/// `R⁻¹ core`, for the `R` that [`cholesky`] found.
fn solved(r: &Array2<f64>, core: ArrayView2<'_, f64>) -> Array2<f64> {
    let mut solved = core.as_standard_layout().into_owned();
    for i in (0..r.nrows()).rev() {
        let (mut above, below) = solved.view_mut().split_at(Axis(0), i + 1);
        let mut row = above.row_mut(i);
        for (j, other) in below.rows().into_iter().enumerate() {
            row.scaled_add(-r[[i, i + 1 + j]], &other);
        }
        row.mapv_inplace(|x| x / r[[i, i]]);
    }
    solved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, matrix};

    #[test]
    fn inner_products_tell_what_reflections_do() {
        let z = matrix(100, 6, 5);
        let (told, reflected) = (cholesky(&gram(z.view())).unwrap(), Reflections::of(z.view()).r());
        let positive = |r: &Array2<f64>| {
            let mut r = r.clone();
            for (i, mut row) in r.rows_mut().into_iter().enumerate() {
                if row[i] < 0.0 {
                    row.mapv_inplace(|x| -x);
                }
            }
            r
        };
        assert_close(told.view(), positive(&reflected).view(), 1e-13);
        let mut dependent = z.clone();
        let first = z.column(0).to_owned();
        dependent.column_mut(4).assign(&first);
        assert!(cholesky(&gram(dependent.view())).is_none());
        dependent.column_mut(4).fill(0.0);
        assert!(cholesky(&gram(dependent.view())).is_none());
    }

    /// Both ways, both layouts and both widths, over more rows than are converted at a time.
    #[test]
    fn a_basis_times_the_triangle_is_the_matrix() {
        let narrow = matrix(1100, 5, 6).mapv(|x| x as f32);
        let mut zero = narrow.clone();
        zero.column_mut(2).fill(0.0);
        let mut dependent = narrow.clone();
        let first = narrow.column(0).to_owned();
        dependent.column_mut(4).assign(&first);
        for z in [narrow, zero, dependent] {
            let wide = widened(z.view());
            let turned = z.t().as_standard_layout().into_owned();
            let again = |triangle: &dyn Fn(ArrayView2<'_, f64>) -> Array2<f64>, r: Array2<f64>| {
                assert_close(triangle(r.view()).view(), wide.view(), 1e-12);
            };
            let of_rows = Triangle::of(z.view());
            again(&|core| of_rows.q_times(core), of_rows.r());
            let of_columns = Triangle::of(turned.view().reversed_axes());
            again(&|core| of_columns.q_times(core), of_columns.r());
            let of_wide = Triangle::of(wide.view());
            again(&|core| of_wide.q_times(core), of_wide.r());
        }
    }
}
