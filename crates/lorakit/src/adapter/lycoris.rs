//! LoHa, LoKr and Tucker factors as the factors of a plain LoRA, exactly.
//!
//! The Hadamard product of `B1 A1` and `B2 A2` is a LoRA whose rank is the product of both ranks: row `o` of its `B`
//! holds the products of all pairs of values from rows `o` of `B1` and `B2`, and column `x` of its `A` those from
//! columns `x` of `A1` and `A2` (Hyeon-Woo et al. 2021, by the Khatri-Rao identity). The Kronecker product of the two
//! is the LoRA of the Kronecker products of their factors. Definitions follow `forward` in `lycoris/functional`.

use super::Problem;
use crate::tensor::Inputs;
use crate::{Result, TensorRef};

/// The highest rank of a product that is read, as high as that of a LoRA may be. A small file could ask for any.
const HIGHEST: usize = 65536;

/// A matrix that is one of the inputs, or is computed from them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Matrix {
    /// The identity of this size.
    Identity(usize),
    /// Input `input`, row-major `(rows, cols)`.
    Plain {
        /// Which input.
        input: usize,
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
    },
    /// The transpose of input `input`, which is row-major `(cols, rows)`.
    Transposed {
        /// Which input.
        input: usize,
        /// Rows of the transpose.
        rows: usize,
        /// Columns of the transpose.
        cols: usize,
    },
    /// `sum over j of core[i, j, k] * down[j, c]` in row `i` and column `c * kernel + k`: the core of a Tucker
    /// decomposition `(rows, rank, kernel)` times its factor `(rank, inputs)`.
    Mixed {
        /// The input that is the core.
        core: usize,
        /// The input that is the factor.
        down: usize,
        /// Rows.
        rows: usize,
        /// Columns of the factor.
        inputs: usize,
        /// Values of one kernel.
        kernel: usize,
    },
}

/// A low-rank matrix `left * right`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    /// `(rows, rank)`.
    pub(crate) left: Matrix,
    /// `(rank, columns)`.
    pub(crate) right: Matrix,
}

/// How two matrices are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Product {
    /// Value by value.
    Hadamard,
    /// Each value of the first times the whole second.
    Kronecker,
}

impl Matrix {
    fn rows(self) -> usize {
        match self {
            Matrix::Identity(n) => n,
            Matrix::Plain { rows, .. } | Matrix::Transposed { rows, .. } | Matrix::Mixed { rows, .. } => rows,
        }
    }

    fn cols(self) -> usize {
        match self {
            Matrix::Identity(n) => n,
            Matrix::Plain { cols, .. } | Matrix::Transposed { cols, .. } => cols,
            Matrix::Mixed { inputs, kernel, .. } => inputs * kernel,
        }
    }

    /// Row `i`.
    fn row(self, given: &Inputs, i: usize) -> Vec<f64> {
        match self {
            Matrix::Identity(n) => (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect(),
            Matrix::Plain { input, cols, .. } => {
                given[input][i * cols..(i + 1) * cols].iter().map(|&v| v.into()).collect()
            }
            Matrix::Transposed { input, rows, cols } => {
                (0..cols).map(|j| given[input][j * rows + i].into()).collect()
            }
            Matrix::Mixed { core, down, inputs, kernel, .. } => {
                let rank = given[down].len() / inputs.max(1);
                let mut row = vec![0.0; inputs * kernel];
                for j in 0..rank {
                    let core = &given[core][(i * rank + j) * kernel..][..kernel];
                    for (out, &down) in row.chunks_exact_mut(kernel).zip(&given[down][j * inputs..]) {
                        out.iter_mut().zip(core).for_each(|(out, &t)| *out += f64::from(t) * f64::from(down));
                    }
                }
                row
            }
        }
    }

    /// The matrix as a tensor of shape `shape`.
    pub(crate) fn tensor(self, inputs: Vec<TensorRef>, shape: Vec<usize>) -> Result<TensorRef> {
        TensorRef::computed(inputs, shape, move |given, i, out| {
            out.iter_mut().zip(self.row(given, i)).for_each(|(out, value)| *out = value as f32);
        })
    }
}

impl Pair {
    /// A full matrix as its product with an identity, on the side that gives the lower rank.
    pub(crate) fn full(input: usize, rows: usize, cols: usize) -> Self {
        let whole = Matrix::Plain { input, rows, cols };
        if rows <= cols {
            Pair { left: Matrix::Identity(rows), right: whole }
        } else {
            Pair { left: whole, right: Matrix::Identity(cols) }
        }
    }

    /// Columns of `left`.
    fn rank(self) -> usize {
        self.left.cols()
    }
}

impl Product {
    /// The shape of the product of both matrices.
    pub(crate) fn rows_cols(self, first: Pair, second: Pair) -> (usize, usize) {
        let (rows, cols) = (second.left.rows(), second.right.cols());
        match self {
            Product::Hadamard => (rows, cols),
            Product::Kronecker => (first.left.rows() * rows, first.right.cols() * cols),
        }
    }

    /// The factors `A (r, in)` and `B (out, r)` of the product, whose rank is the product of both ranks. The last
    /// dimensions of `A` are `kernel`, if there is one.
    ///
    /// # Errors
    /// `ErrorKind::Shape` for sizes that overflow; as [`TensorRef::computed`].
    pub(crate) fn factors(
        self,
        first: Pair,
        second: Pair,
        inputs: &[TensorRef],
        kernel: &[usize],
    ) -> Result<(TensorRef, TensorRef)> {
        let checked = |x: Pair, y: Pair| {
            let rank = x.rank().checked_mul(y.rank())?;
            let sides = [x.left.rows(), x.right.cols(), y.left.rows(), y.right.cols()];
            sides.iter().try_fold(rank, |product, side| product.checked_mul(*side))
        };
        if checked(first, second).is_none() {
            return Err(Problem::Uncountable.into());
        }
        let (rows, cols) = self.rows_cols(first, second);
        let inner = second.rank();
        let rank = first.rank() * second.rank();
        if rank > HIGHEST {
            return Err(Problem::TooHigh { rank, most: HIGHEST }.into());
        }
        let mut a_shape = vec![rank, cols / kernel.iter().product::<usize>().max(1)];
        a_shape.extend(kernel);
        let mut b_shape = vec![rows, rank];
        b_shape.extend(kernel.iter().map(|_| 1));
        let outer = |x: &[f64], y: &[f64], out: &mut [f32]| {
            for (x, out) in x.iter().zip(out.chunks_exact_mut(y.len().max(1))) {
                out.iter_mut().zip(y).for_each(|(out, y)| *out = (x * y) as f32);
            }
        };
        let below = second.left.rows().max(1);
        let b = TensorRef::computed(inputs.to_vec(), b_shape, move |given, o, out| {
            let (first_row, second_row) = match self {
                Product::Hadamard => (o, o),
                Product::Kronecker => (o / below, o % below),
            };
            outer(&first.left.row(given, first_row), &second.left.row(given, second_row), out);
        })?;
        let a = TensorRef::computed(inputs.to_vec(), a_shape, move |given, i, out| {
            let (x, y) = (first.right.row(given, i / inner), second.right.row(given, i % inner));
            match self {
                Product::Hadamard => {
                    out.iter_mut().zip(x.iter().zip(&y)).for_each(|(out, (x, y))| *out = (x * y) as f32);
                }
                Product::Kronecker => outer(&x, &y, out),
            }
        })?;
        Ok((a, b))
    }
}
