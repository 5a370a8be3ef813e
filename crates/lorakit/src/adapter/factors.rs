//! The factors of a module as matrices.

use lorakit_tensor::DType;
use ndarray::{Array2, ArrayView2};

use super::{Module, Problem, Scaling};
use crate::tensor::Shelf;
use crate::{Error, Result, TensorRef};

/// The factors of `scale * b * a`, loaded.
#[derive(Debug, Clone)]
pub(crate) struct Factors {
    /// The factor by which the product is multiplied.
    pub(crate) scale: f64,
    /// `(out, r)`.
    pub(crate) b: Array2<f64>,
    /// `(r, in)`; kernels of convolutions become columns.
    pub(crate) a: Array2<f64>,
}

impl Factors {
    /// Loads the factors of `module`.
    ///
    /// # Errors
    /// `ErrorKind::NonFinite` for NaN and infinity; if they cannot be read.
    pub(crate) fn load(module: &Module) -> Result<Self> {
        let scale = module.scale(module.rank());
        Ok(Factors { scale, b: matrix(&module.b)?, a: matrix(&module.a)? })
    }

    /// The product in the form that `lorakit-linalg` takes.
    pub(crate) fn term(&self) -> (f64, ArrayView2<'_, f64>, ArrayView2<'_, f64>) {
        (self.scale, self.b.view(), self.a.view())
    }
}

/// A tensor as a matrix of f64.
///
/// # Errors
/// As [`Factors::load`].
pub(crate) fn matrix(tensor: &TensorRef) -> Result<Array2<f64>> {
    let (rows, cols) = tensor.info().rows_cols();
    let values = tensor.finite_values()?;
    let values: Vec<f64> = values.into_iter().map(f64::from).collect();
    Array2::from_shape_vec((rows, cols), values)
        .map_err(|_| Error::from(Problem::NotAMatrix).tensor(&tensor.info().name).at(tensor.path()))
}

/// The error of a computation with factors, with the name of their module.
pub(crate) fn of_linalg(error: &lorakit_linalg::Error, path: &str) -> Error {
    let message = error.to_string();
    let problem = match error.kind() {
        lorakit_linalg::ErrorKind::Shape => Problem::FactorShapes { message },
        lorakit_linalg::ErrorKind::NoConvergence => Problem::NoConvergence { message },
        _ => Problem::FactorValues { message },
    };
    Error::from(problem).tensor(path)
}

impl Module {
    /// The module with other factors, `b (out, k)` and `a (k, in)`, stored as `dtype` and kept on `shelf`; all else
    /// stays the same.
    ///
    /// # Errors
    /// `ErrorKind::Unsupported` for a dtype to which their rows cannot be encoded.
    pub(crate) fn with_factors(
        &self,
        scale: f64,
        b: &Array2<f64>,
        a: &Array2<f64>,
        dtype: DType,
        shelf: &Shelf,
    ) -> Result<Module> {
        self.with_factors_as(scale, b, a, [dtype; 2], shelf)
    }

    /// As [`Self::with_factors`], with the dtypes of `a` and `b`.
    ///
    /// # Errors
    /// As [`Self::with_factors`].
    pub(crate) fn with_factors_as(
        &self,
        scale: f64,
        b: &Array2<f64>,
        a: &Array2<f64>,
        [dtype_a, dtype_b]: [DType; 2],
        shelf: &Shelf,
    ) -> Result<Module> {
        let tensor = |like: &TensorRef, matrix: &Array2<f64>, dtype, shape: Vec<usize>| {
            let values: Vec<f32> = matrix.iter().map(|&v| v as f32).collect();
            shelf.tensor(&like.info().name, like.path(), dtype, shape, &values)
        };
        let (shape_b, shape_a) = self.shapes_at(a.nrows());
        let (b, a) = (tensor(&self.b, b, dtype_b, shape_b)?, tensor(&self.a, a, dtype_a, shape_a)?);
        Ok(self.with_tensors(scale, b, a))
    }

    /// The module with other factors, `b (out, k)` and `a (k, in)`; all else stays the same.
    pub(crate) fn with_tensors(&self, scale: f64, b: TensorRef, a: TensorRef) -> Module {
        let scaling = Scaling::Fixed(scale);
        Module { a, b, scaling, config_rank: None, blocks: [None; 2], ..self.clone() }
    }

    /// The shapes of `b` and `a` for another rank.
    pub(crate) fn shapes_at(&self, rank: usize) -> (Vec<usize>, Vec<usize>) {
        let (mut b, mut a) = (self.b.info().shape.clone(), self.a.info().shape.clone());
        b.get_mut(1).into_iter().chain(a.first_mut()).for_each(|place| *place = rank);
        (b, a)
    }

    /// Number of bytes of its factors.
    pub(crate) fn factor_bytes(&self) -> u64 {
        self.a.info().byte_len() + self.b.info().byte_len()
    }

    /// The dtype of computed factors: that of `B` if it can hold single values, else F32.
    pub(crate) fn dtype(&self) -> DType {
        let own = self.b.info().dtype;
        if matches!(own, DType::F32 | DType::F16 | DType::BF16) { own } else { DType::F32 }
    }
}
