//! Weights in memory: read and written by the `safetensors` crate, computed with in f64.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::{entries, read_json};

/// One stored tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// F32, F16 or BF16, for values.
    pub dtype: Dtype,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Row by row, little-endian.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// Encodes values; rounding is the dtype's own.
    ///
    /// # Panics
    /// If there are not as many as the shape has, or the dtype is not a float of 16 or 32 bits.
    pub fn new(dtype: Dtype, shape: &[usize], values: &[f64]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        let bytes = match dtype {
            Dtype::F32 => values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect(),
            Dtype::BF16 => values.iter().flat_map(|v| nearest::<bf16>(*v).to_le_bytes()).collect(),
            Dtype::F16 => values.iter().flat_map(|v| nearest::<f16>(*v).to_le_bytes()).collect(),
            other => panic!("{other:?}"),
        };
        Tensor { dtype, shape: shape.to_vec(), bytes }
    }

    /// The values, exactly.
    pub fn values(&self) -> Vec<f64> {
        let words = self.bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
        match self.dtype {
            Dtype::F32 => {
                self.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect()
            }
            Dtype::BF16 => words.map(|b| bf16::from_le_bytes(b).to_f64()).collect(),
            Dtype::F16 => words.map(|b| f16::from_le_bytes(b).to_f64()).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// The first dimension and the product of the others.
    pub fn matrix(&self) -> Matrix {
        let rows = self.shape[0];
        Matrix { rows, cols: self.shape[1..].iter().product(), values: self.values() }
    }

    /// The distance between neighbouring numbers of this dtype at `value`.
    pub fn ulp(&self, value: f64) -> f64 {
        let (bits, least) = match self.dtype {
            Dtype::BF16 => (7, -133),
            Dtype::F16 => (10, -24),
            other => panic!("{other:?}"),
        };
        let exponent = if value == 0.0 { i32::MIN } else { value.abs().log2().floor() as i32 };
        2f64.powi(exponent.saturating_sub(bits).max(least))
    }
}

/// A 16-bit float, for [`nearest`].
trait Half: Copy {
    fn from_f32(value: f32) -> Self;
    fn from_bits(bits: u16) -> Self;
    fn bits(self) -> u16;
    fn value(self) -> f64;
}

macro_rules! half {
    ($t:ty) => {
        impl Half for $t {
            fn from_f32(value: f32) -> Self {
                <$t>::from_f32(value)
            }
            fn from_bits(bits: u16) -> Self {
                <$t>::from_bits(bits)
            }
            fn bits(self) -> u16 {
                self.to_bits()
            }
            fn value(self) -> f64 {
                self.to_f64()
            }
        }
    };
}
half!(bf16);
half!(f16);

/// `value` rounded once, ties to even. (`half` rounds an f64 after dropping its lower half.)
fn nearest<H: Half>(value: f64) -> H {
    let guess = H::from_f32(value as f32).bits();
    let candidates = [guess.wrapping_sub(1), guess, guess.wrapping_add(1)].map(H::from_bits);
    let near = candidates.into_iter().filter(|c| c.value().is_finite());
    let distance = |c: &H| (c.value() - value).abs();
    let best =
        near.min_by(|a, b| distance(a).total_cmp(&distance(b)).then((a.bits() & 1).cmp(&(b.bits() & 1))));
    best.unwrap_or(H::from_bits(guess))
}

/// A dense matrix in f64.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Row by row.
    pub values: Vec<f64>,
}

impl Matrix {
    /// The matrix of `f(row, column)`.
    pub fn from_fn(rows: usize, cols: usize, f: impl Fn(usize, usize) -> f64) -> Self {
        let values = (0..rows * cols).map(|i| f(i / cols, i % cols)).collect();
        Matrix { rows, cols, values }
    }

    /// Row `index`.
    pub fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.cols..(index + 1) * self.cols]
    }

    /// The value at `row` and `col`.
    pub fn at(&self, row: usize, col: usize) -> f64 {
        self.values[row * self.cols + col]
    }

    /// `self * other`.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn times(&self, other: &Matrix) -> Matrix {
        assert_eq!(self.cols, other.rows);
        Matrix::from_fn(self.rows, other.cols, |i, j| {
            self.row(i).iter().enumerate().map(|(k, v)| v * other.at(k, j)).sum()
        })
    }

    /// Rows as columns.
    pub fn transposed(&self) -> Matrix {
        Matrix::from_fn(self.cols, self.rows, |i, j| self.at(j, i))
    }

    /// `self + scale * other`.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn plus(&self, scale: f64, other: &Matrix) -> Matrix {
        assert_eq!((self.rows, self.cols), (other.rows, other.cols));
        let values = self.values.iter().zip(&other.values).map(|(a, b)| a + scale * b).collect();
        Matrix { values, ..*self }
    }

    /// The magnitudes of the entries.
    pub fn abs(&self) -> Matrix {
        Matrix { values: self.values.iter().map(|v| v.abs()).collect(), ..*self }
    }

    /// `self * x`.
    pub fn apply(&self, x: &[f64]) -> Vec<f64> {
        (0..self.rows).map(|i| dot(self.row(i), x)).collect()
    }
}

/// The sum of the products of entries.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Tensors by name.
pub type Weights = BTreeMap<String, Tensor>;

/// Reads a safetensors file.
pub fn read_file(path: &Path) -> Weights {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let own = |view: TensorView<'_>| Tensor {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    file.tensors().into_iter().map(|(name, view)| (name, own(view))).collect()
}

/// Reads every shard of a model or adapter folder; an index must list exactly the tensors of the shards.
pub fn read_folder(folder: &Path) -> Weights {
    let mut weights = Weights::new();
    let index = folder.join("model.safetensors.index.json");
    let index = index.exists().then(|| read_json(&index));
    for name in entries(folder).iter().filter(|n| n.ends_with(".safetensors")) {
        for (tensor, value) in read_file(&folder.join(name)) {
            if let Some(index) = &index {
                assert_eq!(index["weight_map"][&tensor], name.as_str());
            }
            assert!(weights.insert(tensor.clone(), value).is_none(), "`{tensor}` is in two shards");
        }
    }
    if let Some(index) = index {
        assert_eq!(index["weight_map"].as_object().unwrap().len(), weights.len());
        let total: usize = weights.values().map(|t| t.bytes.len()).sum();
        assert_eq!(index["metadata"]["total_size"], total);
    }
    weights
}

/// Writes a safetensors file as PyTorch programs do.
pub fn write_file(path: &Path, weights: &Weights) {
    let views =
        weights.iter().map(|(name, t)| (name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    let metadata = [("format".to_string(), "pt".to_string())].into();
    safetensors::serialize_to_file(views, Some(metadata), path).unwrap();
}

/// Changes a safetensors file.
pub fn edit_file(path: &Path, edit: impl FnOnce(&mut Weights)) {
    let mut weights = read_file(path);
    edit(&mut weights);
    write_file(path, &weights);
}

/// Writes weights in two shards with an index.
pub fn write_sharded(folder: &Path, weights: &Weights) {
    let mut shards = [Weights::new(), Weights::new()];
    let mut map = serde_json::Map::new();
    let name = |i: usize| format!("model-{:05}-of-00002.safetensors", i + 1);
    for (i, (tensor, value)) in weights.iter().enumerate() {
        shards[i % 2].insert(tensor.clone(), value.clone());
        map.insert(tensor.clone(), name(i % 2).into());
    }
    for (i, shard) in shards.iter().enumerate() {
        write_file(&folder.join(name(i)), shard);
    }
    let total: usize = weights.values().map(|t| t.bytes.len()).sum();
    let index = serde_json::json!({ "metadata": { "total_size": total }, "weight_map": map });
    fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

/// Numbers around zero that look random and are the same everywhere.
pub fn noise(seed: u64, count: usize, scale: f64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    };
    (0..count).map(|_| next() * scale).collect()
}
