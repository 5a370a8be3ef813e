//! The order of the rows of q and k projections.
//!
//! Rotary embeddings turn pairs of rows of each head. Hugging Face pairs row `j` with row `j + d/2` ("rotate
//! half"); ggml pairs rows `2j` and `2j + 1`, as Meta's original code did. A converter therefore reorders whole rows,
//! never the values inside a row, and a LoRA follows with the rows of its `B`:
//! `permute(W + s·B·A) = permute(W) + s·permute(B)·A`.

use super::problem::Problem;
use crate::Result;

/// The bijection between the rows of one projection in the two orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RowPermutation {
    head_dim: usize,
}

impl RowPermutation {
    /// Makes the bijection for a projection, or its bias, of `rows` rows in `heads` heads.
    ///
    /// # Errors
    /// [`ErrorKind::File`](crate::ErrorKind::File) if the rows do not form `heads` heads of an even size.
    pub(crate) fn new(rows: usize, heads: usize) -> Result<Self> {
        let head_dim = rows.checked_div(heads).unwrap_or(0);
        if head_dim == 0 || head_dim * heads != rows || !head_dim.is_multiple_of(2) {
            return Err(Problem::Heads { rows, heads }.into());
        }
        Ok(RowPermutation { head_dim })
    }

    /// The GGUF row that holds row `hf_row` of the Hugging Face order.
    pub(crate) fn gguf_row(self, hf_row: usize) -> usize {
        let (head, row) = (hf_row / self.head_dim, hf_row % self.head_dim);
        let (half, pair) = (row / (self.head_dim / 2), row % (self.head_dim / 2));
        head * self.head_dim + 2 * pair + half
    }

    /// The Hugging Face row that holds row `gguf_row` of the GGUF order; the inverse of [`Self::gguf_row`].
    pub(crate) fn hf_row(self, gguf_row: usize) -> usize {
        let (head, row) = (gguf_row / self.head_dim, gguf_row % self.head_dim);
        let (pair, half) = (row / 2, row % 2);
        head * self.head_dim + half * (self.head_dim / 2) + pair
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `w.reshape(heads, 2, d/2).swapaxes(1, 2)`, as in converters: the GGUF order, as HF row numbers.
    fn by_reshape(heads: usize, head_dim: usize) -> Vec<usize> {
        let half = head_dim / 2;
        (0..heads)
            .flat_map(|h| (0..half).flat_map(move |j| (0..2).map(move |s| h * head_dim + s * half + j)))
            .collect()
    }

    #[test]
    fn orders_are_inverse_and_equal_the_reshape() {
        for (heads, kv_heads, head_dim) in [(4, 2, 16), (4, 2, 24), (32, 8, 128), (8, 8, 64)] {
            for n in [heads, kv_heads] {
                let permutation = RowPermutation::new(n * head_dim, n).unwrap();
                let gguf_order: Vec<_> = (0..n * head_dim).map(|row| permutation.hf_row(row)).collect();
                assert_eq!(gguf_order, by_reshape(n, head_dim));
                assert!((0..n * head_dim).all(|row| permutation.gguf_row(permutation.hf_row(row)) == row));
                assert!((0..n * head_dim).all(|row| permutation.hf_row(permutation.gguf_row(row)) == row));
            }
        }
    }

    #[test]
    fn a_lora_follows_with_the_rows_of_b() {
        const ROWS: usize = 24;
        const COLUMNS: usize = 5;
        const RANK: usize = 3;
        let noise = |n: usize| ((n * 7919 + 13) % 101) as f64 / 50.0 - 1.0;
        let matrix = |rows: usize, columns: usize, seed: usize| -> Vec<Vec<f64>> {
            (0..rows).map(|r| (0..columns).map(|c| noise(seed + r * columns + c)).collect()).collect()
        };
        let (w, b, a) = (matrix(ROWS, COLUMNS, 0), matrix(ROWS, RANK, 1000), matrix(RANK, COLUMNS, 2000));
        let merge = |w: &[Vec<f64>], b: &[Vec<f64>]| -> Vec<Vec<f64>> {
            let delta = |b: &[f64], c: usize| b.iter().zip(&a).map(|(b, a)| 0.5 * b * a[c]).sum::<f64>();
            w.iter().zip(b).map(|(w, b)| (0..COLUMNS).map(|c| w[c] + delta(b, c)).collect()).collect()
        };
        let permutation = RowPermutation::new(ROWS, 3).unwrap();
        let permute = |m: &[Vec<f64>]| -> Vec<Vec<f64>> {
            (0..m.len()).map(|row| m[permutation.hf_row(row)].clone()).collect()
        };

        let merged_first = permute(&merge(&w, &b));
        let permuted_first = merge(&permute(&w), &permute(&b));
        assert_ne!(merged_first, merge(&w, &b));
        for (x, y) in merged_first.iter().flatten().zip(permuted_first.iter().flatten()) {
            assert!((x - y).abs() < 1e-12);
        }
    }

    #[test]
    fn heads_must_divide_the_rows() {
        let corrupt = crate::ErrorKind::File(lorakit_tensor::ErrorKind::Corrupt);
        for (rows, heads) in [(10, 0), (10, 3), (6, 2), (0, 4), (2, 4)] {
            assert_eq!(RowPermutation::new(rows, heads).unwrap_err().kind(), corrupt);
        }
    }
}
