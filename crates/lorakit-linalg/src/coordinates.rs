//! Several products of one shape, seen in bases that they share.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, s};

use crate::angles::angles_in;
use crate::backend::faer::product;
use crate::dense::frobenius;
use crate::entry::Entry;
use crate::error::Result;
use crate::problem::Problem;
use crate::product::{Term, check_terms, product_norm};
use crate::triangle::Triangle;

/// The factors of some products `b_i a_i`, in coordinates: an orthonormal basis of the space of all columns of
/// `b = [b_1 b_2 ...]`, and one of the space of all rows of `a = [a_1; a_2; ...]`.
///
/// Norms, inner products and angles of the products are those of the coordinates, at the cost of small matrices.
/// The coordinates are the triangular factors of `b` and `aᵀ`.
#[derive(Debug, Clone)]
pub struct Coordinates {
    /// `(k, Σ r)`.
    b: Array2<f64>,
    /// `(Σ r, k)`.
    a: Array2<f64>,
    /// The columns of `b` and rows of `a` that belong to each product.
    parts: Vec<Range<usize>>,
    /// The dimensions `(m, n)` of the products.
    dim: (usize, usize),
}

/// A product of mixed factors: see [`Coordinates::mixed`].
#[derive(Debug, Clone)]
pub struct Mixed {
    /// Frobenius norm of the difference from the sum of the products.
    pub distance: f64,
    /// The norm of each column of `Σ u_i b_i`.
    pub columns: Vec<f64>,
    /// The norm of each row of `Σ v_i a_i`.
    pub rows: Vec<f64>,
}

impl Coordinates {
    /// The coordinates of products with these ranks, whose factors are side by side in `b (m, Σ r)` and `a (Σ r, n)`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) if the factors do not fit,
    /// [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite).
    pub fn of<T: Entry>(b: ArrayView2<'_, T>, a: ArrayView2<'_, T>, ranks: &[usize]) -> Result<Self> {
        let dim = check_terms(&[(1.0, b, a)])?;
        Ok(Self::new(Triangle::of(b).r(), Triangle::of(a.reversed_axes()).r(), dim, ranks))
    }

    /// The coordinates, from the triangular factors of `b` and of `aᵀ`.
    pub(crate) fn new(left: Array2<f64>, right: Array2<f64>, dim: (usize, usize), ranks: &[usize]) -> Self {
        let mut end = 0;
        let parts = ranks.iter().map(|rank| {
            end += rank;
            end - rank..end
        });
        let parts: Vec<Range<usize>> = parts.collect();
        Coordinates { b: left, a: right.reversed_axes().as_standard_layout().into_owned(), parts, dim }
    }

    /// Product `i`, times `scale`, as a term whose norm and inner products are those of the product.
    ///
    /// # Panics
    /// If there is no product `i`.
    pub fn term(&self, i: usize, scale: f64) -> Term<'_> {
        let part = self.parts[i].clone();
        (scale, self.b.slice(s![.., part.clone()]), self.a.slice(s![part, ..]))
    }

    /// The norm of the sum of all products, each multiplied by its scale.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite) for a scale that is not finite.
    pub fn norm_of_sum(&self, scales: &[f64]) -> Result<f64> {
        let mut a = self.a.clone();
        for (part, scale) in self.parts.iter().zip(scales) {
            a.slice_mut(s![part.clone(), ..]).mapv_inplace(|x| scale * x);
        }
        product_norm(self.b.view(), a.view())
    }

    /// The product of mixed factors, `(Σ u_i b_i)(Σ v_i a_i)`, with the weights `left`, `u`, and `right`, `v`; and its
    /// distance to the sum of all products, each multiplied by its scale. All must have one rank.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite) if it is beyond the range of f64.
    ///
    /// # Panics
    /// If the ranks differ.
    pub fn mixed(&self, left: &[f64], right: &[f64], scales: &[f64]) -> Result<Mixed> {
        let rank = self.parts.first().map_or(0, Range::len);
        let mut b = Array2::zeros((self.b.nrows(), rank));
        let mut a = Array2::zeros((rank, self.a.ncols()));
        let mut scaled = self.a.clone();
        for (i, part) in self.parts.iter().enumerate() {
            b.scaled_add(left[i], &self.b.slice(s![.., part.clone()]));
            a.scaled_add(right[i], &self.a.slice(s![part.clone(), ..]));
            scaled.slice_mut(s![part.clone(), ..]).mapv_inplace(|x| scales[i] * x);
        }
        let off = product(b.view(), a.view()) - product(self.b.view(), scaled.view());
        let distance = frobenius(off.view());
        if !distance.is_finite() {
            return Err(Problem::Range.into());
        }
        let norm = |line: ArrayView1<'_, f64>| line.dot(&line).sqrt();
        Ok(Mixed {
            distance,
            columns: b.columns().into_iter().map(norm).collect(),
            rows: a.rows().into_iter().map(norm).collect(),
        })
    }

    /// The principal angles between the column spaces of `b_i` and `b_j`, and those between the row spaces of `a_i` and
    /// `a_j`: see [`principal_angles`](crate::principal_angles).
    ///
    /// # Errors
    /// [`ErrorKind::NoConvergence`](crate::ErrorKind::NoConvergence).
    ///
    /// # Panics
    /// If there are no such products.
    pub fn angles(&self, i: usize, j: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        let ((_, b, a), (_, d, c)) = (self.term(i, 1.0), self.term(j, 1.0));
        Ok((angles_in(self.dim.0, b, d)?, angles_in(self.dim.1, a.reversed_axes(), c.reversed_axes())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::matrix;
    use crate::{inner_product, principal_angles, stack};

    #[test]
    fn mixed_factors_are_those_of_the_products() {
        let [b, d] = [1, 2].map(|seed| matrix(60, 3, seed));
        let [a, c] = [3, 4].map(|seed| matrix(3, 50, seed));
        let (wide, tall) = stack(&[(1.0, b.view(), a.view()), (1.0, d.view(), c.view())]).unwrap();
        let coordinates = Coordinates::of(wide.view(), tall.view(), &[3, 3]).unwrap();
        let mixed = coordinates.mixed(&[0.5, 2.0], &[0.7, -1.0], &[0.3, 0.9]).unwrap();
        let (left, right) = (0.5 * &b + 2.0 * &d, 0.7 * &a - &c);
        let off = left.dot(&right) - 0.3 * b.dot(&a) - 0.9 * d.dot(&c);
        assert!((mixed.distance / frobenius(off.view()) - 1.0).abs() < 1e-12);
        for i in 0..3 {
            let (column, row) = (left.column(i), right.row(i));
            assert!((mixed.columns[i] - column.dot(&column).sqrt()).abs() < 1e-12);
            assert!((mixed.rows[i] - row.dot(&row).sqrt()).abs() < 1e-12);
        }
        // One product, mixed with nothing, is the sum.
        let alone = coordinates.mixed(&[1.0, 0.0], &[2.0, 0.0], &[2.0, 0.0]).unwrap();
        assert!(alone.distance < 1e-12);
        assert!(coordinates.mixed(&[1e200, 0.0], &[1e200, 0.0], &[1.0, 0.0]).is_err());
    }

    /// Two products, with some of the second's columns near those of the first.
    fn products(near: f64) -> (Array2<f64>, Array2<f64>) {
        let (b, d) = (matrix(60, 3, 1), matrix(60, 4, 2));
        let (a, c) = (matrix(3, 50, 3), matrix(4, 50, 4));
        let mut close = &d * near;
        close.slice_mut(s![.., ..3]).scaled_add(1.0, &b);
        let terms = [(1.0, b.view(), a.view()), (1.0, close.view(), c.view())];
        stack(&terms).unwrap()
    }

    #[test]
    fn numbers_are_those_of_the_products() {
        // The last two need reflections.
        for near in [1.0, 0.1, 1e-5, 1e-12] {
            let (b, a) = products(near);
            let coordinates = Coordinates::of(b.view(), a.view(), &[3, 4]).unwrap();
            let x = (2.0, b.slice(s![.., ..3]), a.slice(s![..3, ..]));
            let y = (-1.0, b.slice(s![.., 3..]), a.slice(s![3.., ..]));
            let (p, q) = (coordinates.term(0, 2.0), coordinates.term(1, -1.0));
            let close = |got: f64, expected: f64| {
                assert!((got - expected).abs() <= 1e-11 * expected.abs(), "{near}: {got} {expected}");
            };
            for (got, expected) in [(p, x), (q, y)] {
                close(product_norm(got.1, got.2).unwrap(), product_norm(expected.1, expected.2).unwrap());
            }
            close(inner_product(p, q).unwrap(), inner_product(x, y).unwrap());
            let (sum_b, sum_a) = stack(&[x, y]).unwrap();
            let expected = product_norm(sum_b.view(), sum_a.view()).unwrap();
            close(coordinates.norm_of_sum(&[2.0, -1.0]).unwrap(), expected);
            let (outputs, inputs) = coordinates.angles(0, 1).unwrap();
            let expected = principal_angles(x.1, y.1).unwrap();
            assert_eq!(outputs.len(), expected.len());
            for (got, expected) in outputs.iter().zip(&expected) {
                assert!((got - expected).abs() <= 1e-9 * expected + 1e-14, "{near}: {got} {expected}");
            }
            let expected = principal_angles(x.2.reversed_axes(), y.2.reversed_axes()).unwrap();
            inputs.iter().zip(&expected).for_each(|(got, expected)| assert!((got - expected).abs() < 1e-12));
        }
    }
}
