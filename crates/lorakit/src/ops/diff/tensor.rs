//! One tensor of A against its counterpart of B.

use lorakit_tensor::DType;

use super::measure::measure;
use super::{State, Sums};
use crate::plan::Progress;
use crate::{ErrorKind, Result, TensorRef};

/// A tensor that A, B or both have.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TensorDiff {
    /// Its name, in A if A has it.
    pub name: String,
    /// What became of it.
    pub state: State,
    /// How A stores it.
    pub a: Option<Stored>,
    /// How B stores it.
    pub b: Option<Stored>,
    /// What its values show; `None` if there is nothing to compare.
    #[serde(flatten)]
    pub change: Option<Change>,
}

/// How a tensor is stored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Stored {
    /// Its dtype; for packed weights that are decoded, that of the values.
    pub dtype: DType,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// What the values of two tensors show.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Number of values.
    pub values: u64,
    /// Those that differ.
    pub differing: u64,
    /// The largest `|B - A|`.
    pub largest: f64,
    /// Values of A and of B that are NaN or infinite; they count as differing if they differ, and nowhere else.
    pub non_finite: (u64, u64),
    /// Of the values of A and B.
    pub whole: Sums,
    /// Of `A - W` and `B - W`, with `W` the base's tensor; `None` if it has none of the same shape.
    pub deltas: Option<Sums>,
}

impl Change {
    /// Share of the values that differ, 0 to 1.
    pub fn share(&self) -> f64 {
        self.differing as f64 / self.values.max(1) as f64
    }
}

/// Whether `x - w` is a difference: both are numeric and of one shape.
pub(super) fn is_base_of(w: &TensorRef, x: &TensorRef) -> bool {
    w.info().shape == x.info().shape && lorakit_quant::codec(w.info().dtype).is_some()
}

impl TensorDiff {
    /// Compares them.
    ///
    /// # Errors
    /// [`ErrorKind::Interrupted`]; if a file cannot be read.
    pub(super) fn of(
        name: &str,
        a: Option<&TensorRef>,
        b: Option<&TensorRef>,
        base: Option<&TensorRef>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let stored = |t: &TensorRef| Stored { dtype: t.info().dtype, shape: t.info().shape.clone() };
        let found = |state, change| TensorDiff {
            name: name.to_string(),
            state,
            a: a.map(stored),
            b: b.map(stored),
            change,
        };
        let (x, y) = match (a, b) {
            (Some(x), Some(y)) => (x, y),
            (Some(x), None) => {
                progress.advance(x.info().byte_len());
                return Ok(found(State::OnlyA, None));
            }
            (None, _) => return Ok(found(State::OnlyB, None)),
        };
        if x.info().shape != y.info().shape {
            progress.advance(x.info().byte_len());
            return Ok(found(State::Reshaped, None));
        }
        let base = base.filter(|w| is_base_of(w, x));
        let measured = match measure(x, y, base, progress) {
            Ok(measured) => measured,
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                let same = x.same_values(y)?;
                progress.advance(x.info().byte_len());
                return Ok(found(if same { State::Same } else { State::Undecodable }, None));
            }
            Err(e) => return Err(e),
        };
        let state = match measured.differing {
            _ if measured.same => State::Same,
            0 => State::Equal,
            _ if measured.recast => State::Recast,
            _ => State::Different,
        };
        let change = Change {
            values: measured.values,
            differing: measured.differing,
            largest: measured.largest,
            non_finite: (measured.non_finite[0], measured.non_finite[1]),
            whole: measured.whole,
            deltas: base.map(|_| measured.deltas),
        };
        Ok(found(state, Some(change)))
    }
}
