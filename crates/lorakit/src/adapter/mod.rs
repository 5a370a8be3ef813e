//! Adapters: what was trained, in one shape whatever the file looked like.
//!
//! A low-rank module is always `W + scale * B * A` with `A (r, in)` and `B (out, r)`; the scale is computed once,
//! in f64, when the adapter is read.

pub mod format;

mod config;
mod finding;
mod key;
mod pattern;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lorakit_tensor::{Checkpoint, TensorInfo, TensorSource};

pub use config::{AdapterConfig, is_local_path};
pub use finding::{Finding, Severity};
pub use pattern::Patterns;

use crate::{Error, ErrorKind, Result, TensorRef};

/// An opened adapter: headers and configuration, no values.
#[derive(Debug)]
pub struct Adapter {
    /// The folder or file as it was given.
    pub path: PathBuf,
    /// What the configuration says.
    pub config: AdapterConfig,
    /// Low-rank modules, by path.
    pub modules: Vec<Module>,
    /// Parameters that replace the base's, by name.
    pub saved: Vec<Saved>,
    /// Token rows that replace rows of an embedding.
    pub token_rows: Vec<TokenRows>,
    /// What reading it turned up; [`Severity::Error`] entries forbid a merge.
    pub findings: Vec<Finding>,
    source: Arc<Checkpoint>,
}

/// One low-rank module.
#[derive(Debug, Clone)]
pub struct Module {
    /// Path in the model, e.g. `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// Linear-like or embedding.
    pub kind: ModuleKind,
    /// The factor `A`: `(r, in)`, `(r, in, *kernel)`, or `(r, vocab)` of an embedding.
    pub a: TensorRef,
    /// The factor `B`: `(out, r)`, or `(dim, r)` of an embedding.
    pub b: TensorRef,
    /// Rows of `A`. For stacked experts this is the number of experts times the rank.
    pub a_rows: usize,
    /// The rank the configuration gives this module.
    pub config_rank: Option<f64>,
    /// The alpha the configuration gives this module.
    pub alpha: f64,
    /// The DoRA magnitudes.
    pub magnitude: Option<TensorRef>,
    /// The bias of `B`.
    pub bias: Option<TensorRef>,
    /// A weight that stands in for the base's.
    pub base_weight: Option<TensorRef>,
    /// Whether alpha is divided by the square root of the rank.
    pub rslora: bool,
}

/// What kind of layer a module adapts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleKind {
    /// Linear and convolution layers, and stacked experts.
    Linear,
    /// An embedding: the delta is `scale * (B * A)` transposed.
    Embedding,
}

/// A parameter saved whole.
#[derive(Debug, Clone)]
pub struct Saved {
    /// Name in the model, e.g. `lm_head.weight`.
    pub name: String,
    /// Its values.
    pub tensor: TensorRef,
}

/// Trained token rows.
#[derive(Debug, Clone)]
pub struct TokenRows {
    /// Path of the embedding.
    pub path: String,
    /// The replacement rows, `(n, dim)`.
    pub tensor: TensorRef,
    /// Which rows they replace.
    pub rows: Vec<usize>,
}

impl Module {
    /// `alpha / rank`, or `alpha / sqrt(rank)` for rsLoRA, for a module of that rank.
    pub fn scale(&self, rank: usize) -> f64 {
        let rank = rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// What the method is called.
    pub fn method(&self) -> &'static str {
        if self.magnitude.is_some() { "DoRA" } else { "LoRA" }
    }
}

impl Adapter {
    /// Opens a PEFT adapter: a folder, or its tensor file with `adapter_config.json` beside it.
    ///
    /// # Errors
    /// [`ErrorKind::NoAdapter`] without a configuration, [`ErrorKind::WrongRole`] for a full model, and whatever
    /// reading the files turns up.
    pub fn open(path: &Path, mode: lorakit_tensor::ReadMode) -> Result<Self> {
        format::peft::open(path, mode)
    }

    /// Every tensor of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        self.source.tensors()
    }

    /// Tensor `index` of the file.
    pub fn tensor(&self, index: usize) -> TensorRef {
        TensorRef::new(self.source.clone(), index)
    }

    /// The file the tensors are in.
    pub fn source(&self) -> &Arc<Checkpoint> {
        &self.source
    }

    /// The folder of the configuration.
    pub fn folder(&self) -> &Path {
        if self.path.is_dir() { &self.path } else { self.path.parent().unwrap_or(Path::new("")) }
    }

    /// Number of values.
    pub fn parameters(&self) -> u64 {
        self.tensors().iter().map(TensorInfo::elements).sum()
    }

    /// Refuses an adapter with a fault that forbids using it.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] with one line for each fault.
    pub fn check(&self) -> Result<()> {
        let faults: Vec<&Finding> = self.findings.iter().filter(|f| f.severity == Severity::Error).collect();
        let Some(first) = faults.first() else { return Ok(()) };
        let kind = match first.code {
            "foreign-method" => ErrorKind::Unmergeable,
            _ => ErrorKind::Damaged,
        };
        if let [only] = faults.as_slice() {
            return Err(Error::new(kind, only.message.clone()).tensor(&only.subject).at(self.source.path()));
        }
        let message = format!("{} of its {} tensors are faulty", faults.len(), self.tensors().len());
        let lines = faults.iter().map(ToString::to_string).collect();
        Err(Error::new(kind, message).at(self.source.path()).details(lines))
    }
}
