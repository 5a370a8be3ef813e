//! The parts of reports, and for programs what their fields alone do not say.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::{Runtime, TargetReport, Verdict};

/// One low-rank module.
#[derive(Debug, Clone, Serialize)]
pub struct ModuleReport {
    /// Path in the model, e.g. `model.layers.0.self_attn.q_proj`.
    #[serde(rename = "module")]
    pub path: String,
    /// The layer number in the path.
    pub layer: Option<u32>,
    /// The kind of module: the shortest ending of the path that tells it from other kinds.
    pub leaf: String,
    /// `LoRA`, `rsLoRA`, `DoRA` or `rsDoRA`.
    pub method: &'static str,
    /// The rank; of one expert for stacked experts.
    pub rank: usize,
    /// Number of experts whose factors are stacked.
    pub experts: Option<usize>,
    /// The alpha.
    pub alpha: f64,
    /// What `B * A` is multiplied by.
    pub scale: f64,
    /// Shape of `A` as stored.
    pub a: Vec<usize>,
    /// Shape of `B` as stored.
    pub b: Vec<usize>,
    /// Whether `B` has a bias.
    pub bias: bool,
    /// `||scale * B * A||`, Frobenius; of all experts together. For DoRA this is the low-rank part. `None` unless
    /// values were read, and if they are not finite.
    pub norm: Option<f64>,
    /// [`Self::norm`] divided by the norm of the base weight.
    #[serde(rename = "relative_norm")]
    pub relative: Option<f64>,
    /// Tensors of the base that it changes.
    pub targets: Vec<String>,
    /// The singular values of its delta, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spectrum: Option<Spectrum>,
}

/// A parameter saved whole.
#[derive(Debug, Clone, Serialize)]
pub struct SavedReport {
    /// Name in the model.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Trained token rows.
#[derive(Debug, Clone, Serialize)]
pub struct TokenRowsReport {
    /// Path of the embedding.
    #[serde(rename = "module")]
    pub path: String,
    /// The token numbers.
    pub rows: Vec<usize>,
}

/// How an adapter fits a base.
#[derive(Debug, Clone)]
pub struct FitReport {
    /// The base as it was given.
    pub base: PathBuf,
    /// Why it does not fit; `None` if it does.
    pub misfit: Option<String>,
    /// Tensors of the base that it changes.
    pub changed: usize,
    /// Tensors of the base.
    pub base_tensors: usize,
    /// Whether the base ties its embeddings.
    pub tied: bool,
    /// Tensors of the base whose values were checked for NaN and infinity: those that the adapter adds to.
    pub checked: usize,
    /// Tensors, of the adapter and of the base, that hold NaN or infinity: a merge refuses them.
    pub non_finite: usize,
}

/// What the singular values of `scale * B * A` show.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Spectrum {
    /// The singular values, descending.
    pub values: Vec<f64>,
    /// `exp` of the entropy of the values' shares (Roy and Vetterli, 2007): the number of directions in use.
    #[serde(rename = "effective_rank")]
    pub effective: f64,
    /// `||D||_F^2 / ||D||_2^2`.
    #[serde(rename = "stable_rank")]
    pub stable: f64,
    /// The rank that keeps 90 % of the energy, the sum of squares.
    #[serde(rename = "rank_90")]
    pub rank90: usize,
    /// The rank that keeps 99 % of the energy.
    #[serde(rename = "rank_99")]
    pub rank99: usize,
    /// Directions below a ten-thousandth of the strongest.
    pub dead: usize,
}

impl Serialize for FitReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'f> {
            base: String,
            fits: bool,
            misfit: Option<&'f str>,
            changed_tensors: usize,
            base_tensors: usize,
            tied: bool,
            non_finite_tensors: usize,
            checked_tensors: usize,
            unchecked_tensors: usize,
        }
        let fields = Fields {
            base: self.base.display().to_string(),
            fits: self.misfit.is_none(),
            misfit: self.misfit.as_deref(),
            changed_tensors: self.changed,
            base_tensors: self.base_tensors,
            tied: self.tied,
            non_finite_tensors: self.non_finite,
            checked_tensors: self.checked,
            unchecked_tensors: self.base_tensors.saturating_sub(self.checked),
        };
        fields.serialize(serializer)
    }
}

impl Serialize for TargetReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Fields<'t> {
            runtime: Runtime,
            accepted: bool,
            verdicts: &'t [Verdict],
        }
        let fields = Fields { runtime: self.runtime, accepted: self.is_accepted(), verdicts: &self.verdicts };
        fields.serialize(serializer)
    }
}

crate::report::by_name! { Runtime: title }
