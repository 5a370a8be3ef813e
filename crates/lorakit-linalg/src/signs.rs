//! Where two products have different signs.

use ndarray::{ArrayView1, ArrayView2, Axis, s};

use crate::backend::faer::product_of_rows;
use crate::entry::Entry;
use crate::error::Result;
use crate::product::{Term, check_terms};

/// Columns whose entries are computed at a time: they stay in the cache.
const PANEL: usize = 512;

/// Counts of the entries that are nonzero in both of two products.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signs {
    /// All such entries.
    pub both: u64,
    /// The ones in which the products have different signs.
    pub against: u64,
}

/// Compares the signs of two products of one shape, entry by entry.
///
/// Entries are computed in f32, which decides nearly all signs. Those that rounding could have flipped are computed
/// again in f64.
///
/// # Errors
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if the terms or their factors do not fit,
/// [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite).
pub fn compare_signs<T: Entry>(x: Term<'_, T>, y: Term<'_, T>) -> Result<Signs> {
    let (_, columns) = check_terms(&[x, y])?;
    let (x, y) = (Side::new(x), Side::new(y));
    let mut signs = Signs::default();
    for from in (0..columns).step_by(PANEL) {
        let columns = from..(from + PANEL).min(columns);
        let (left, right) = (x.panel(columns.clone()), y.panel(columns.clone()));
        let width = columns.len();
        for (row, (xs, ys)) in
            left.values.chunks_exact(width).zip(right.values.chunks_exact(width)).enumerate()
        {
            let (least_x, least_y) = (x.rows[row], y.rows[row]);
            let (mut both, mut against) = (0u32, 0u32);
            for (((&x, &y), &of_x), &of_y) in xs.iter().zip(ys).zip(&left.columns).zip(&right.columns) {
                let certain = (x.abs() > least_x * of_x) & (y.abs() > least_y * of_y);
                both += u32::from(certain);
                against += u32::from(certain & ((x > 0.0) != (y > 0.0)));
            }
            signs.both += u64::from(both);
            signs.against += u64::from(against);
            if both as usize == width {
                continue;
            }
            for i in 0..width {
                let (of_x, of_y) = (least_x * left.columns[i], least_y * right.columns[i]);
                let certain = xs[i].abs() > of_x && ys[i].abs() > of_y;
                if certain || of_x == 0.0 || of_y == 0.0 {
                    continue;
                }
                let (x, y) = (x.entry(row, from + i), y.entry(row, from + i));
                if x != 0.0 && y != 0.0 {
                    signs.both += 1;
                    signs.against += u64::from((x > 0.0) != (y > 0.0));
                }
            }
        }
    }
    Ok(signs)
}

/// One of the products.
struct Side<'a, T> {
    term: Term<'a, T>,
    /// `scale * b`, row-major.
    b: Vec<f32>,
    /// For each row of `b`, a bound on the rounding error of an entry, relative to the norm of a column of `a`; 0 only
    /// for rows of zeros.
    rows: Vec<f32>,
}

/// Entries of some columns, row-major.
struct Panel {
    values: Vec<f32>,
    /// The norm of each column of `a`.
    columns: Vec<f32>,
}

impl<'a, T: Entry> Side<'a, T> {
    fn new(term: Term<'a, T>) -> Self {
        let (scale, b, _) = term;
        // Only the sign of the scale counts.
        let sign = if scale == 0.0 { 0.0 } else { scale.signum() as f32 };
        let narrow = b.iter().map(|value| sign * value.narrow()).collect();
        // Inputs, products and sums are each rounded once (Higham, 2002, section 3.1), and so is this bound itself.
        let roundings = (b.ncols() + 8) as f64 * f64::from(f32::EPSILON);
        let bound = |row: ArrayView1<'_, T>| {
            let square = row.iter().map(|value| value.wide().powi(2)).sum();
            roundings as f32 * told(square)
        };
        Side { term, b: narrow, rows: b.axis_iter(Axis(0)).map(bound).collect() }
    }

    fn panel(&self, columns: std::ops::Range<usize>) -> Panel {
        let (_, b, a) = self.term;
        let part: ArrayView2<'_, T> = a.slice(s![.., columns.clone()]);
        let narrow: Vec<f32> = part.iter().map(|value| value.narrow()).collect();
        let mut squares = vec![0f64; columns.len()];
        for row in part.rows() {
            squares.iter_mut().zip(row).for_each(|(sum, value)| *sum += value.wide().powi(2));
        }
        Panel {
            values: product_of_rows(&self.b, &narrow, (b.nrows(), b.ncols(), columns.len())),
            columns: squares.into_iter().map(told).collect(),
        }
    }

    fn entry(&self, row: usize, column: usize) -> f64 {
        let (scale, b, a) = self.term;
        let products = b.row(row).into_iter().zip(a.column(column)).map(|(x, y)| x.wide() * y.wide());
        scale * products.sum::<f64>()
    }
}

/// A norm from its square; infinite, so that no entry is certain, where products with another norm would leave the
/// range of normal f32 numbers.
fn told(square: f64) -> f32 {
    match square {
        0.0 => 0.0,
        square if (1e-30..1e30).contains(&square) => square.sqrt() as f32,
        _ => f32::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::testing::matrix;

    /// Counts by the definition.
    fn expected(x: Term<'_>, y: Term<'_>) -> Signs {
        let dense = |(scale, b, a): Term<'_>| -> Array2<f64> { scale * b.dot(&a) };
        let mut signs = Signs::default();
        for (x, y) in dense(x).iter().zip(&dense(y)) {
            if *x != 0.0 && *y != 0.0 {
                signs.both += 1;
                signs.against += u64::from((*x > 0.0) != (*y > 0.0));
            }
        }
        signs
    }

    #[test]
    fn signs_are_those_of_the_products() {
        let (b, a) = (matrix(9, 4, 1), matrix(4, 1100, 2));
        let (d, c) = (matrix(9, 3, 3), matrix(3, 1100, 4));
        for (s, t) in [(1.0, 1.0), (-0.5, 2.0), (0.0, 1.0), (1e-30, -1e30)] {
            let (x, y) = ((s, b.view(), a.view()), (t, d.view(), c.view()));
            assert_eq!(compare_signs(x, y).unwrap(), expected(x, y), "{s} {t}");
        }
    }

    #[test]
    fn what_f32_cannot_tell_is_told_all_the_same() {
        // Entries of 1e-9 that are the difference of numbers near 1; zero rows and columns.
        let mut b = matrix(6, 2, 5);
        let mut a = matrix(2, 700, 6);
        for (i, mut row) in b.rows_mut().into_iter().enumerate() {
            row[1] = -row[0] * (1.0 + if i % 2 == 0 { 1e-9 } else { -1e-9 });
        }
        let first = a.row(0).to_owned();
        a.row_mut(1).assign(&first);
        b.row_mut(3).fill(0.0);
        a.column_mut(11).fill(0.0);
        let (d, c) = (matrix(6, 2, 7), matrix(2, 700, 8));
        let (x, y) = ((1.0, b.view(), a.view()), (1.0, d.view(), c.view()));
        let found = compare_signs(x, y).unwrap();
        assert_eq!(found, expected(x, y));
        assert_eq!(found.both, 5 * 699);
        let tiny = &b * 1e-50;
        let x = (1.0, tiny.view(), a.view());
        assert_eq!(compare_signs(x, y).unwrap(), expected(x, y));
    }
}
