//! How two adapters, or two models, differ, and by how much.
//!
//! Adapters are compared by their deltas, from the factors: two files that change a model in the same way are equal,
//! whatever their format, scale or rank. Models are compared value by value, in pieces, so that memory does not grow
//! with them.
//!
//! ```
//! use lorakit::ops::diff::{Diff, DiffOptions, diff};
//! use lorakit::plan::Silent;
//!
//! let options = DiffOptions::new("../../fixtures/golden/peft/adapters/plain", "../../fixtures/golden/peft/adapters/attn-r4");
//! let Diff::Adapters(found) = diff(&options, &Silent)? else {
//!     panic!("they are models");
//! };
//! assert!(!found.modules.is_empty());
//! # Ok::<(), lorakit::Error>(())
//! ```

mod adapters;
mod changed;
mod config;
mod delta;
mod kinds;
mod measure;
mod models;
mod module;
mod report;
mod spelling;
mod sums;
mod tensor;

use std::path::PathBuf;

use lorakit_tensor::{ReadMode, Reader};

pub use adapters::{AdapterDiff, AdapterSide};
pub use changed::ChangedTensors;
pub use config::FieldDiff;
pub use kinds::KindDiff;
pub use models::{ModelDiff, ModelSide};
pub use module::{ModuleDiff, ModuleSide};
pub use report::{Compared, DiffReport};
pub use sums::Sums;
pub use tensor::{Change, Stored, TensorDiff};

use super::inspect::is_adapter;
use crate::ops::Problem;
use crate::plan::{Progress, pool};
use crate::{Error, Result};

/// What to compare.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DiffOptions {
    /// An adapter or a model.
    pub a: PathBuf,
    /// The other one.
    pub b: PathBuf,
    /// The base model of both. Formats of adapters may need it; for models, what they add to it is compared too.
    pub base: Option<PathBuf>,
    /// Threads; 0 is one for each core.
    pub threads: usize,
    /// How inputs are read.
    pub mode: ReadMode,
}

impl DiffOptions {
    /// Default options for two adapters or two models.
    pub fn new(a: impl Into<PathBuf>, b: impl Into<PathBuf>) -> Self {
        DiffOptions { a: a.into(), b: b.into(), base: None, threads: 0, mode: ReadMode::default() }
    }
}

crate::ops::setters! { DiffOptions {
    with_base: base: Option<PathBuf>,
    with_threads: threads: usize,
    with_mode: mode: ReadMode,
} }

/// What was found.
#[derive(Debug, Clone)]
pub enum Diff {
    /// Of two adapters.
    Adapters(Box<AdapterDiff>),
    /// Of two models.
    Models(Box<ModelDiff>),
}

/// What became of a tensor, or of the delta of a module, between A and B.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum State {
    /// The same stored bytes.
    Same,
    /// The same values, stored differently; deltas within 1e-6 of their norm, or zero and not there.
    Equal,
    /// The same values except for rounding to the coarser of the two dtypes.
    Recast,
    /// B is A times this number.
    Rescaled(f64),
    /// Other values.
    Different,
    /// Of another shape.
    Reshaped,
    /// Only A has it.
    OnlyA,
    /// Only B has it.
    OnlyB,
    /// Other bytes, of a dtype that cannot be decoded.
    Undecodable,
    /// A delta that cannot be computed: factors hold NaN or infinity.
    NonFinite,
}

impl State {
    /// Whether there is a difference in value.
    pub fn differs(self) -> bool {
        !matches!(self, State::Same | State::Equal)
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            State::Same => "same",
            State::Equal => "equal",
            State::Recast => "recast",
            State::Rescaled(_) => "rescaled",
            State::Different => "different",
            State::Reshaped => "reshaped",
            State::OnlyA => "only_a",
            State::OnlyB => "only_b",
            State::Undecodable => "undecodable",
            State::NonFinite => "non_finite",
        }
    }
}

/// Compares two adapters or two models.
///
/// # Errors
/// [`ErrorKind::WrongRole`](crate::ErrorKind::WrongRole) for an adapter and a model;
/// [`ErrorKind::Unmatched`](crate::ErrorKind::Unmatched) if no tensor that both models have is in the base, by name and
/// shape; whatever opening them turns up: see [`Adapter::open`](crate::adapter::Adapter::open) and
/// [`Model::open_as_hf`](crate::Model::open_as_hf); [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
pub fn diff(options: &DiffOptions, progress: &dyn Progress) -> Result<Diff> {
    let reader = &Reader::new(options.mode);
    let adapters = [is_adapter(&options.a, reader)?, is_adapter(&options.b, reader)?];
    let (adapter, model) = match adapters {
        [true, true] => {
            let found = pool(options.threads)?.install(|| adapters::diff(options, reader, progress))?;
            reader.check_unchanged()?;
            return Ok(Diff::Adapters(Box::new(found)));
        }
        [false, false] => {
            let found = pool(options.threads)?.install(|| models::diff(options, reader, progress))?;
            reader.check_unchanged()?;
            return Ok(Diff::Models(Box::new(found)));
        }
        [true, false] => (&options.a, &options.b),
        [false, true] => (&options.b, &options.a),
    };
    Err(Error::from(Problem::TwoKinds { model: model.clone() }).at(adapter))
}

/// Stops if the caller wants to.
fn go_on(progress: &dyn Progress) -> Result<()> {
    crate::plan::go_on(progress, "everything was compared")
}
