//! Norms of products that are never formed.

/// `||B A||_F^2` from the rows of `A (r, in)` and the columns of `B (out, r)`: the sum over `i, j` of
/// `<a_i, a_j> <b_i, b_j>`, which is the trace of `(B^T B)(A A^T)`. All sums are f64.
pub(super) fn product_norm_sq(a_rows: &[&[f32]], b_columns: &[&[f32]]) -> f64 {
    let rank = a_rows.len().min(b_columns.len());
    let mut sum = 0.0;
    for i in 0..rank {
        for j in i..rank {
            let term = dot(a_rows[i], a_rows[j]) * dot(b_columns[i], b_columns[j]);
            sum += if i == j { term } else { 2.0 * term };
        }
    }
    // Cancellation can leave slightly less than zero.
    sum.max(0.0)
}

/// The sum of squares.
pub(super) fn norm_sq(values: &[f32]) -> f64 {
    dot(values, values)
}

/// Independent sums, so that the compiler can use vector registers.
fn dot(x: &[f32], y: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0f64; LANES];
    let (x_chunks, y_chunks) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest = x_chunks.remainder().iter().zip(y_chunks.remainder());
    let tail: f64 = rest.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    for (a, b) in x_chunks.zip(y_chunks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(*a) * f64::from(*b);
        }
    }
    sums.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matrix(rows: usize, cols: usize) -> impl Strategy<Value = Vec<Vec<f32>>> {
        prop::collection::vec(prop::collection::vec(-2.0f32..2.0, cols), rows)
    }

    fn slices(rows: &[Vec<f32>]) -> Vec<&[f32]> {
        rows.iter().map(Vec::as_slice).collect()
    }

    proptest! {
        #[test]
        fn equals_the_norm_of_the_explicit_product(a in matrix(3, 21), b in matrix(3, 17)) {
            let mut expected = 0.0;
            for (row, col) in (0..17).flat_map(|row| (0..21).map(move |col| (row, col))) {
                let value: f64 = b.iter().zip(&a).map(|(b, a)| f64::from(b[row]) * f64::from(a[col])).sum();
                expected += value * value;
            }
            let got = product_norm_sq(&slices(&a), &slices(&b));
            prop_assert!((got - expected).abs() <= 1e-10 * (1.0 + expected), "{got} {expected}");
        }
    }

    #[test]
    fn a_delta_that_cancels_is_zero() {
        let (a, b) = ([1.0f32, 2.0], [0.5f32, 1.0, 1.5]);
        let minus: Vec<f32> = b.iter().map(|x| -x).collect();
        assert_eq!(product_norm_sq(&[&a, &a], &[&b, &minus]), 0.0);
    }
}
