//! Results from factors against those from the explicit product.

use ndarray::{Array2, array};
use proptest::prelude::*;

use super::*;
use crate::ErrorKind;
use crate::dense::svd;
use crate::testing::{assert_close, assert_orthonormal, matrix, of_rank};

#[track_caller]
fn check(b: ArrayView2<'_, f64>, a: ArrayView2<'_, f64>) {
    let explicit = b.dot(&a);
    let k = b.nrows().min(b.ncols()).min(a.ncols());
    let factored = product_svd(b, a).unwrap();
    assert_eq!((factored.u.dim(), factored.s.len(), factored.vt.dim()), ((b.nrows(), k), k, (k, a.ncols())));
    assert_orthonormal(factored.u.view());
    assert_orthonormal(factored.vt.t());
    let (left, right) = factored.factors();
    let scale = frobenius(b) * frobenius(a);
    let residual = frobenius((&left.dot(&right) - &explicit).view());
    assert!(residual <= 1e-12 * scale, "{residual} of {scale}");

    let expected = svd(explicit.view()).unwrap().s;
    let values = product_singular_values(b, a).unwrap();
    assert_eq!(values.len(), k);
    for ((x, y), z) in factored.s.iter().zip(&values).zip(&expected) {
        assert!((x - z).abs() <= 1e-12 * scale && (y - z).abs() <= 1e-12 * scale, "{x} {y} {z}");
    }
    assert!(expected[k..].iter().all(|s| *s <= 1e-12 * scale));

    let (norm, expected) = (product_norm(b, a).unwrap(), frobenius(explicit.view()));
    assert!((norm - expected).abs() <= 1e-12 * scale, "{norm} {expected}");
}

#[test]
fn products_of_every_shape_and_rank() {
    for (m, r, n) in
        [(1, 1, 1), (9, 4, 7), (4, 9, 7), (4, 9, 3), (300, 16, 200), (1, 8, 50), (50, 8, 1), (70, 64, 65)]
    {
        check(matrix(m, r, 1).view(), matrix(r, n, 2).view());
        check(of_rank(m, r, 1, 1).view(), matrix(r, n, 2).view());
        check(Array2::zeros((m, r)).view(), matrix(r, n, 2).view());
    }
}

#[test]
fn the_leading_triplets_alone_are_those_of_the_whole() {
    let (b, a) = (matrix(60, 12, 1), matrix(12, 50, 2));
    let whole = product_svd(b.view(), a.view()).unwrap();
    for rank in [0, 1, 5, 12, 13] {
        let (svd, all) = truncated_product_svd(b.view(), a.view(), |s| {
            assert_eq!(s.len(), 12);
            rank
        })
        .unwrap();
        let expected = whole.clone().truncated(rank);
        assert_eq!((&svd.s, &all), (&expected.s, &whole.s));
        assert_eq!((svd.u.dim(), svd.vt.dim()), (expected.u.dim(), expected.vt.dim()));
        for (x, y) in svd.u.iter().chain(&svd.vt).zip(expected.u.iter().chain(&expected.vt)) {
            assert!((x - y).abs() < 1e-13, "{x} {y}");
        }
    }
}

#[test]
fn a_product_of_rank_zero_has_no_triplets() {
    let (b, a) = (Array2::zeros((5, 0)), Array2::zeros((0, 4)));
    let svd = product_svd(b.view(), a.view()).unwrap();
    assert_eq!((svd.u.dim(), svd.s.len(), svd.vt.dim()), ((5, 0), 0, (0, 4)));
    assert_eq!(product_norm(b.view(), a.view()).unwrap(), 0.0);
    assert_eq!(
        residual_norm(array![[3.0], [4.0]].view(), b.slice(s![..2, ..]), a.slice(s![.., ..1])).unwrap(),
        5.0
    );
}

#[test]
fn norms_keep_their_digits_where_terms_cancel() {
    let (b, a) = (matrix(90, 8, 1), matrix(8, 70, 2));
    let same = (2.0, b.view(), a.view());
    let norm = 2.0 * product_norm(b.view(), a.view()).unwrap();
    assert!(difference_norm(same, same).unwrap() < 1e-14 * norm);
    // 2 (1 + 1e-11) B A - 2 B A: the Gram matrices alone would leave no digit.
    let near = (2.0 * (1.0 + 1e-11), b.view(), a.view());
    let difference = difference_norm(near, same).unwrap();
    assert!((difference / (1e-11 * norm) - 1.0).abs() < 1e-3, "{difference} {norm}");
}

#[test]
fn the_order_of_the_rank_and_the_split_of_the_scale_do_not_matter() {
    let (b, a) = (matrix(40, 6, 3), matrix(6, 30, 4));
    let (turned_b, turned_a) = (&b.slice(s![.., ..;-1]) * 8.0, &a.slice(s![..;-1, ..]) / 8.0);
    let difference =
        difference_norm((1.0, b.view(), a.view()), (1.0, turned_b.view(), turned_a.view())).unwrap();
    assert!(difference < 1e-13, "{difference}");
}

#[test]
fn extreme_magnitudes() {
    let (b, a) = (matrix(20, 3, 1), matrix(3, 20, 2));
    let norm = product_norm(b.view(), a.view()).unwrap();
    for scale in [1e-200, 1e-90, 1e90, 1e200] {
        let got = product_norm((&b * scale).view(), (&a / scale).view()).unwrap();
        assert!((got / norm - 1.0).abs() < 1e-12, "{got} {norm}");
    }
    let error = product_svd((&b * 1e200).view(), (&a * 1e200).view()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NonFinite);
    assert_eq!(error.to_string(), "the product of B and A is beyond the range of f64");
}

#[test]
fn terms_that_do_not_fit_are_errors() {
    let (b, a) = (matrix(5, 2, 1), matrix(2, 4, 2));
    let message = |result: Result<f64>| {
        let error = result.unwrap_err();
        (error.kind(), error.to_string())
    };
    assert_eq!(
        message(product_norm(b.view(), a.t())),
        (
            ErrorKind::Shape,
            "B of shape 5 x 2 and A of shape 4 x 2; B must have as many columns as A has rows".into()
        )
    );
    let other = matrix(3, 2, 1);
    assert_eq!(
        message(difference_norm((1.0, b.view(), a.view()), (1.0, other.view(), a.view()))),
        (ErrorKind::Shape, "a term of shape 3 x 4 beside one of 5 x 4; all must have one shape".into())
    );
    assert_eq!(
        message(inner_product((f64::NAN, b.view(), a.view()), (1.0, b.view(), a.view()))),
        (ErrorKind::NonFinite, "a scale of NaN; it must be finite".into())
    );
    assert_eq!(
        message(residual_norm(b.view(), b.view(), a.view())),
        (ErrorKind::Shape, "a 5 x 2 matrix, but factors of a 5 x 4 one".into())
    );
    assert_eq!(stack::<f64>(&[]).unwrap_err().to_string(), "no terms; a sum must have at least one");
    let mut bad = a.clone();
    bad[[1, 3]] = f64::INFINITY;
    assert_eq!(
        product_svd(b.view(), bad.view()).unwrap_err().to_string(),
        "A holds inf in row 1, column 3; values must be finite"
    );
}

#[test]
fn threads_beside_each_other_get_the_same_bits() {
    let (b, a) = (matrix(700, 24, 1), matrix(24, 500, 2));
    let expected = product_svd(b.view(), a.view()).unwrap();
    std::thread::scope(|scope| {
        let run = || product_svd(b.view(), a.view()).unwrap();
        for other in [scope.spawn(run), scope.spawn(run), scope.spawn(run)] {
            let other = other.join().unwrap();
            assert!(other.u == expected.u && other.s == expected.s && other.vt == expected.vt);
        }
    });
}

proptest! {
    #[test]
    fn factored_equals_explicit(m in 1usize..30, r in 1usize..12, n in 1usize..30, seed: u64) {
        check(matrix(m, r, seed).view(), matrix(r, n, !seed).view());
    }

    /// The error of a truncation is the tail of the spectrum, and nothing of that rank is nearer.
    #[test]
    fn eckart_and_young(m in 2usize..30, r in 1usize..10, n in 2usize..30, keep in 0usize..10, seed: u64) {
        let (b, a) = (matrix(m, r, seed), matrix(r, n, !seed));
        let full = product_svd(b.view(), a.view()).unwrap();
        let tail = full.s.iter().skip(keep).map(|s| s * s).sum::<f64>().sqrt();
        let (left, right) = full.clone().truncated(keep).factors();
        let error = difference_norm((1.0, b.view(), a.view()), (1.0, left.view(), right.view())).unwrap();
        prop_assert!((error - tail).abs() < 1e-11 * (1.0 + full.s[0]), "{error} {tail}");

        let explicit = b.dot(&a);
        let dense = residual_norm(explicit.view(), left.view(), right.view()).unwrap();
        prop_assert!((dense - tail).abs() < 1e-11 * (1.0 + full.s[0]), "{dense} {tail}");
        let nudged = &left + &(matrix(m, left.ncols(), seed ^ 7) * 1e-3);
        let other = residual_norm(explicit.view(), nudged.view(), right.view()).unwrap();
        prop_assert!(other >= tail * (1.0 - 1e-11), "{other} {tail}");
    }

    #[test]
    fn a_stack_is_the_weighted_sum(m in 1usize..12, n in 1usize..12, x in -3.0..3.0, y in -3.0..3.0, seed: u64) {
        let factors = [3, 1, 4].map(|r| (matrix(m, r, seed), matrix(r, n, seed ^ r as u64)));
        let terms: Vec<Term<'_>> =
            factors.iter().zip([x, y, 0.0]).map(|((b, a), scale)| (scale, b.view(), a.view())).collect();
        let (b, a) = stack(&terms).unwrap();
        prop_assert_eq!((b.dim(), a.dim()), ((m, 8), (8, n)));
        let sum = &factors[0].0.dot(&factors[0].1) * x + &factors[1].0.dot(&factors[1].1) * y;
        prop_assert!(frobenius((b.dot(&a) - &sum).view()) < 1e-12);

        let inner = inner_product(terms[0], terms[1]).unwrap();
        let explicit = (&factors[0].0.dot(&factors[0].1) * &factors[1].0.dot(&factors[1].1)).sum() * x * y;
        prop_assert!((inner - explicit).abs() < 1e-11, "{inner} {explicit}");
    }
}

/// 32-bit factors with more rows than are widened at a time give the same results as their 64-bit copies.
#[test]
fn narrow_factors_are_those_of_their_values() {
    let narrow = |rows, cols, seed| matrix(rows, cols, seed).mapv(|x| x as f32);
    let (b, a) = (narrow(1100, 6, 1), narrow(6, 700, 2));
    let (d, c) = (narrow(1100, 3, 3), narrow(3, 700, 4));
    let wide = [&b, &a, &d, &c].map(|z| z.mapv(f64::from));
    let (x, y) = ((2.0, b.view(), a.view()), (-0.5, d.view(), c.view()));
    let (p, q) = ((2.0, wide[0].view(), wide[1].view()), (-0.5, wide[2].view(), wide[3].view()));
    let close = |x: f64, y: f64| assert!((x - y).abs() <= 1e-12 * y.abs(), "{x} {y}");
    close(product_norm(b.view(), a.view()).unwrap(), product_norm(p.1, p.2).unwrap());
    close(inner_product(x, y).unwrap(), inner_product(p, q).unwrap());
    let weighted = Decomposed::of(b.view(), a.view()).unwrap().weighted(vec![2.0, 1.0, 0.0, -1.0, 1.0, 3.0]);
    let mut scaled = wide[0].clone();
    let weights = [2.0, 1.0, 0.0, -1.0, 1.0, 3.0];
    scaled.columns_mut().into_iter().zip(weights).for_each(|(mut column, weight)| column *= weight);
    let (svd, all) = weighted.truncated_svd(|_| 3).unwrap();
    let (expected, of_scaled) = truncated_product_svd(scaled.view(), p.2, |_| 3).unwrap();
    all.iter().zip(&of_scaled).for_each(|(x, y)| assert!((x - y).abs() <= 1e-12 * of_scaled[0], "{x} {y}"));
    assert_close(svd.u.view(), expected.u.view(), 1e-10);
    assert_close(svd.vt.view(), expected.vt.view(), 1e-10);
}

#[test]
fn the_distance_to_a_sum_is_that_to_its_stack() {
    let factors: Vec<_> = (0..3).map(|i| (matrix(40, 4, 2 * i + 1), matrix(4, 30, 2 * i + 2))).collect();
    let term = |i: usize, scale: f64| (scale, factors[i].0.view(), factors[i].1.view());
    // Far from it; and its larger term, next to which the other is negligible.
    for (x, sum) in
        [(term(2, 1.0), [term(0, 1.0), term(1, -2.0)]), (term(0, 1.0), [term(0, 1.0), term(1, 1e-9)])]
    {
        let (b, a) = stack(&sum).unwrap();
        let expected = difference_norm(x, (1.0, b.view(), a.view())).unwrap();
        let norm = product_norm(b.view(), a.view()).unwrap();
        let found = distance_to(x, &sum, norm).unwrap();
        assert!((found - expected).abs() <= 1e-9 * expected, "{found} {expected}");
    }
}
