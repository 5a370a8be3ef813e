//! What is done to produce one output tensor.

use std::fmt;
use std::sync::Arc;

use lorakit_tensor::{DType, TensorInfo};

use super::pack::{Packed, Part, little_endian};
use super::{Initial, LowRank, Multiplied};
use crate::TensorRef;

/// One tensor of the output and how its bytes come about.
#[derive(Debug, Clone)]
pub struct OutputTensor {
    /// Name, dtype and shape in the output.
    pub info: TensorInfo,
    /// How its bytes come about.
    #[doc(hidden)]
    pub recipe: Recipe,
}

/// How the bytes of an output tensor come about.
#[derive(Debug, Clone)]
pub enum Recipe {
    /// The stored bytes, unchanged.
    Copy(TensorRef),
    /// Decoded, edited, encoded.
    Compute(Box<Compute>),
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// Made while the tensor named `of`, which is packed, is computed.
    Part {
        /// The packed tensor.
        of: String,
        /// Which of its parts.
        part: Part,
    },
}

/// Decode, add deltas, encode. The tensor is seen as a row-major `(rows, cols)` matrix.
#[derive(Debug, Clone)]
pub struct Compute {
    /// The tensor that is edited.
    pub base: TensorRef,
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub cols: usize,
    /// What initialisations took out of the base before anything else.
    pub initial: Vec<Initial>,
    /// What the base is multiplied by, before anything is added.
    pub multiplied: Option<Multiplied>,
    /// DoRA, applied before the plain terms.
    pub dora: Option<Dora>,
    /// Plain terms: `W + sum of scale * B * A`.
    pub terms: Vec<LowRank>,
    /// Rows that are replaced after everything else (trainable tokens).
    pub replaced: Vec<ReplacedRows>,
    /// Factor for each value of the base, applied before everything else.
    pub times: f64,
    /// Added to each value after everything else.
    pub plus: f32,
    /// When rounding happens.
    pub rounding: Rounding,
    /// If deltas are taken away that were added before: the dtype of the values that they were added to.
    pub original: Option<DType>,
    /// The weight of errors in each column, for encoders that use it.
    pub importance: Option<Importance>,
    /// How it becomes several tensors, if it does.
    pub packing: Option<Packed>,
}

/// Importances of columns: one set for all rows, or one for each run of rows (the experts of a stack).
#[derive(Debug, Clone)]
pub struct Importance {
    /// `(sets, cols)`, row-major.
    pub values: Arc<[f32]>,
    /// Rows that share a set.
    pub rows_each: usize,
}

/// `m / |W + scale * B * A| * (W + scale * B * A)`: Liu et al. 2024, as PEFT computes it (no epsilon).
#[derive(Debug, Clone)]
pub struct Dora {
    /// The terms inside the norm.
    pub terms: Vec<LowRank>,
    /// The learned magnitudes `m`.
    pub magnitude: TensorRef,
    /// What one magnitude belongs to.
    pub axis: Axis,
}

/// The direction a norm is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// One norm for each row of the matrix.
    Row,
    /// One norm for each column: tensors stored `(in, out)`, and embeddings.
    Column,
}

/// Rows of the output taken from rows of another tensor.
#[derive(Debug, Clone)]
pub struct ReplacedRows {
    /// The tensor of replacement rows, `(n, cols)`.
    pub tensor: TensorRef,
    /// Target row for each of the `n` rows.
    pub rows: Vec<usize>,
}

/// When a sum is rounded to the output dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rounding {
    /// Once: the correctly rounded sum of the f32 weight and the f32 delta.
    #[default]
    Once,
    /// The delta is rounded to the weight's dtype first, as PEFT does with `safe_merge=True`.
    DeltaFirst,
}

impl Compute {
    /// A recipe that only decodes and encodes.
    pub fn cast(base: TensorRef) -> Self {
        let (rows, cols) = base.info().rows_cols();
        Compute {
            base,
            rows,
            cols,
            initial: Vec::new(),
            multiplied: None,
            dora: None,
            terms: Vec::new(),
            replaced: Vec::new(),
            times: 1.0,
            plus: 0.0,
            rounding: Rounding::Once,
            original: None,
            importance: None,
            packing: None,
        }
    }

    /// Whether values change at all, apart from the dtype.
    pub fn edits(&self) -> bool {
        !self.initial.is_empty()
            || self.multiplied.is_some()
            || self.dora.is_some()
            || !self.terms.is_empty()
            || !self.replaced.is_empty()
    }

    /// Rows that must be encoded together.
    pub(super) fn rows_together(&self) -> usize {
        self.packing.as_ref().map_or(1, |packed| packed.packing.rows_together(self.cols))
    }

    /// The fewest rows of a panel that is stored in one piece.
    pub(super) fn rows_of_panel(&self) -> usize {
        self.packing.as_ref().map_or(1, |packed| packed.rows_of_panel(self.cols))
    }

    /// Every term, inside and outside a norm.
    pub fn all_terms(&self) -> impl Iterator<Item = &LowRank> {
        self.dora.iter().flat_map(|d| &d.terms).chain(&self.terms)
    }

    /// Bytes of memory the loaded factors and norms take.
    pub(super) fn loaded_bytes(&self) -> u64 {
        let norms = self.dora.as_ref().map_or(0, |_| 8 * self.rows.max(self.cols) as u64);
        let multiplied = self.multiplied.as_ref().map_or(0, Multiplied::loaded_bytes);
        let replaced: u64 = self.replaced.iter().map(|r| 4 * r.tensor.info().elements()).sum();
        let scales = match &self.packing {
            Some(packed) if packed.packing.nested() => 4 * packed.packing.scales(self.rows, self.cols) as u64,
            _ => 0,
        };
        let initial: u64 = self.initial.iter().map(|initial| initial.loaded_bytes(self.cols)).sum();
        let terms: u64 = self.all_terms().map(LowRank::loaded_bytes).sum();
        initial + terms + norms + multiplied + replaced + scales
    }
}

impl OutputTensor {
    /// The type its values are stored as.
    pub fn stored_as(&self) -> &'static str {
        match &self.recipe {
            Recipe::Compute(compute) => compute.packing.as_ref().map(|packed| packed.packing.name()),
            _ => None,
        }
        .unwrap_or(self.info.dtype.name())
    }

    /// Whether it belongs to a packed weight, whose codes are another tensor.
    pub fn is_part(&self) -> bool {
        matches!(self.recipe, Recipe::Part { .. } | Recipe::Bytes(_))
    }

    /// Whether its bytes are those of a stored tensor.
    pub fn is_copied(&self) -> bool {
        matches!(self.recipe, Recipe::Copy(_))
    }

    /// Whether its values are computed.
    pub fn is_computed(&self) -> bool {
        matches!(self.recipe, Recipe::Compute(_))
    }

    /// Whether values change, apart from the dtype.
    pub fn edited(&self) -> bool {
        matches!(&self.recipe, Recipe::Compute(compute) if compute.edits())
    }

    /// A vector of these values, in F32.
    pub(crate) fn of_values(name: &str, values: &[f32]) -> Self {
        let info = TensorInfo { name: name.to_string(), dtype: DType::F32, shape: vec![values.len()] };
        OutputTensor { info, recipe: Recipe::Bytes(little_endian(values).into()) }
    }

    /// Bytes before row `row` of the matrix that `compute` makes.
    pub(super) fn bytes_before(&self, compute: &Compute, row: usize) -> u64 {
        let values = row * compute.cols;
        match &compute.packing {
            Some(packed) => packed.packing.code_bytes(values) as u64,
            None => self.info.dtype.byte_len(values as u64).unwrap_or(0),
        }
    }

    /// A tensor that is copied unchanged.
    pub fn copy(tensor: TensorRef) -> Self {
        OutputTensor { info: tensor.info().clone(), recipe: Recipe::Copy(tensor) }
    }

    /// A tensor that is stored in another dtype; a copy if the dtype is already the same.
    pub fn cast(tensor: TensorRef, dtype: DType) -> Self {
        if tensor.info().dtype == dtype {
            return Self::copy(tensor);
        }
        let info = TensorInfo { dtype, ..tensor.info().clone() };
        OutputTensor { info, recipe: Recipe::Compute(Box::new(Compute::cast(tensor))) }
    }
}

impl fmt::Display for OutputTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.info.dtype, self.info.shape)?;
        let compute = match &self.recipe {
            Recipe::Copy(_) => return f.write_str(" copy"),
            Recipe::Bytes(_) => return f.write_str(" constant"),
            Recipe::Part { of, .. } => return write!(f, " of {of}"),
            Recipe::Compute(compute) => compute,
        };
        let from = compute.base.info().dtype;
        if from != self.info.dtype || !compute.edits() {
            write!(f, " decode {from}")?;
        }
        if compute.times != 1.0 {
            write!(f, " times {:.6}", compute.times)?;
        }
        let list = |f: &mut fmt::Formatter<'_>, terms: &[LowRank]| -> fmt::Result {
            for term in terms.iter().take(3) {
                write!(f, " + {:.4}*B*A (r {})", term.scale, term.rank())?;
            }
            if terms.len() > 3 {
                write!(f, " + {} more", terms.len() - 3)?;
            }
            Ok(())
        };
        for initial in compute.initial.iter().take(3) {
            write!(f, " - {:.4}*Q*Q'*W (r {})", initial.scale, initial.rank)?;
        }
        if compute.initial.len() > 3 {
            write!(f, " - {} more", compute.initial.len() - 3)?;
        }
        if let Some(multiplied) = &compute.multiplied {
            write!(f, " times {} factors", multiplied.factors.info().elements())?;
        }
        if let Some(dora) = &compute.dora {
            list(f, &dora.terms)?;
            f.write_str(", DoRA")?;
        }
        list(f, &compute.terms)?;
        for replaced in &compute.replaced {
            write!(f, ", {} rows replaced", replaced.rows.len())?;
        }
        Ok(())
    }
}
