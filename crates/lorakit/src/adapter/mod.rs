//! Adapters: trained changes to a model, in one form for every file format.
//!
//! A low-rank module is always `W + scale * B * A` with `A (r, in)` and `B (out, r)`; the scale is computed once,
//! in f64, when the adapter is read.

mod beside;
pub(crate) mod carried;
mod config;
mod experts;
pub(crate) mod factors;
mod files;
pub(crate) mod format;
pub(crate) mod fuse;
pub(crate) mod key;
mod lycoris;
mod memory;
mod module;
mod open;
pub(crate) mod parameters;
mod pattern;
mod problem;
mod strength;
pub(crate) mod targets;
mod twins;
mod uniform;

use std::collections::{BTreeMap, HashSet};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lorakit_tensor::{Checkpoint, Storage, TensorInfo, TensorSource};

pub(crate) use beside::{CODE, OTHER_ADAPTERS, PICKLES};
pub use config::{AdapterConfig, is_local_path};
pub(crate) use files::Files;
pub use format::Mapped;
pub use module::{Delta, Experts, Module, ModuleKind, Multiplied, Multiplier, Saved, Scaling, TokenRows};
pub use pattern::Patterns;
pub(crate) use problem::Problem;
pub(crate) use strength::module_of_parameter;
pub use strength::{BlockWeight, Strength, Strengths};
pub(crate) use twins::repeated;

pub use crate::arch::names::NamePattern;
use crate::{Error, Finding, Result, Severity, TensorRef};

/// The code of the finding that rows are in an order that only the base can undo.
pub(crate) const ROW_ORDER: &str = "row-order";

/// The code of the finding that nothing says the alphas, which are the ranks then.
pub(crate) const ALPHA_IS_RANK: &str = "alpha-is-rank";

/// An adapter: its configuration, and tensors that are read when they are needed. It is [opened](Adapter::open), or
/// [built](Adapter::in_memory) from freshly trained tensors.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// The folder or file as it was given; for an adapter in memory, its name in messages.
    pub path: PathBuf,
    /// The format of its files, e.g. `peft`; [`IN_MEMORY`](Adapter::IN_MEMORY) for one that was not opened.
    pub format: &'static str,
    /// The configuration; for formats without one, the same settings from the header.
    pub config: AdapterConfig,
    /// Strings of the file's header, unchanged.
    pub metadata: BTreeMap<String, String>,
    /// Low-rank modules, by path.
    pub modules: Vec<Module>,
    /// Parameters that replace the base's, by name.
    pub saved: Vec<Saved>,
    /// Full deltas of parameters.
    pub deltas: Vec<Delta>,
    /// The image model by whose list of layers the file was read.
    pub(crate) image_model: Option<&'static str>,
    /// Token rows that replace rows of an embedding.
    pub token_rows: Vec<TokenRows>,
    /// Weights that are multiplied (IA3, OFT).
    pub multiplied: Vec<Multiplied>,
    /// Findings from reading it; [`Severity::Error`] entries forbid a merge.
    pub findings: Vec<Finding>,
    source: Option<Arc<Checkpoint>>,
}

impl Adapter {
    /// An empty adapter, from these files.
    pub(crate) fn empty(format: &'static str, files: &Files) -> Self {
        let source = Some(Arc::clone(&files.source));
        Adapter { metadata: files.metadata().clone(), source, ..Self::of(format, &files.path) }
    }

    /// An empty adapter that does not come from a file.
    pub(crate) fn of(format: &'static str, path: &Path) -> Self {
        Adapter {
            path: path.to_path_buf(),
            format,
            config: AdapterConfig { peft_type: "LORA".into(), ..AdapterConfig::default() },
            metadata: BTreeMap::new(),
            modules: Vec::new(),
            saved: Vec::new(),
            deltas: Vec::new(),
            image_model: None,
            token_rows: Vec::new(),
            multiplied: Vec::new(),
            findings: Vec::new(),
            source: None,
        }
    }

    /// An adapter of these modules with this one's configuration, header and findings, without its other parts.
    pub(crate) fn with_modules(&self, modules: Vec<Module>) -> Self {
        let (config, metadata) = (self.config.clone(), self.metadata.clone());
        let (findings, source) = (self.findings.clone(), self.source.clone());
        let image_model = self.image_model;
        Adapter {
            config,
            metadata,
            modules,
            findings,
            source,
            image_model,
            ..Self::of(self.format, &self.path)
        }
    }

    /// Puts the modules in the order of the model: layer 2 before layer 10.
    pub(crate) fn sort(&mut self) {
        self.modules.sort_by(|a, b| natural(&a.path).cmp(&natural(&b.path)));
        self.deltas.sort_by(|a, b| (natural(&a.path), a.of_bias).cmp(&(natural(&b.path), b.of_bias)));
    }

    /// Every tensor: all tensors of the file, understood or not; for an adapter in memory, those of its parts.
    pub fn tensors(&self) -> Vec<TensorRef> {
        let Some(source) = &self.source else { return self.parts() };
        let shared: Arc<dyn TensorSource> = source.clone();
        (0..source.tensors().len()).map(|index| TensorRef::new(Arc::clone(&shared), index)).collect()
    }

    /// The tensors whose values are calculated with: all but integers that are saved whole, such as the counter of a
    /// normalisation, `num_batches_tracked`.
    pub(crate) fn numbers(&self) -> Vec<TensorRef> {
        let of_module =
            |m: &Module| [Some(m.a.clone()), Some(m.b.clone()), m.magnitude.clone(), m.bias.clone()];
        let parts: Vec<TensorRef> = self.modules.iter().flat_map(of_module).flatten().collect();
        let parts: HashSet<&str> = parts.iter().map(|tensor| tensor.info().name.as_str()).collect();
        let counts = |info: &TensorInfo| !info.dtype.is_integer() || parts.contains(info.name.as_str());
        self.tensors().into_iter().filter(|tensor| counts(tensor.info())).collect()
    }

    /// The file or files from which it was opened.
    pub(crate) fn checkpoint(&self) -> Option<&Arc<Checkpoint>> {
        self.source.as_ref()
    }

    /// The file from which it was opened; if it has several parts, the first part or their index. `None` for an adapter
    /// in memory.
    pub fn file(&self) -> Option<&Path> {
        self.source.as_ref().map(|source| source.path())
    }

    /// The tensor files from which it was opened; none for an adapter in memory.
    pub fn files(&self) -> &[Storage] {
        self.source.as_ref().map_or(&[], |source| source.files())
    }

    /// The path to name in messages: the tensor file if there is one.
    fn place(&self) -> &Path {
        self.file().unwrap_or(&self.path)
    }

    /// The folder of the configuration.
    pub fn folder(&self) -> &Path {
        files::folder_of(&self.path)
    }

    /// Number of values.
    pub fn parameters(&self) -> u64 {
        self.tensors().iter().map(|tensor| tensor.info().elements()).sum()
    }

    /// Refuses an adapter with a fault that forbids using it, and one that multiplies weights, since only a merge can do
    /// that: no other file could hold it.
    ///
    /// # Errors
    /// As [`Self::check_for_merge`]; [`ErrorKind::Inexpressible`](crate::ErrorKind::Inexpressible).
    pub fn check(&self) -> Result<()> {
        self.check_for_merge()?;
        let Some(first) = self.multiplied.first() else { return Ok(()) };
        let problem = Problem::Multiplies { weights: self.multiplied.len(), method: first.method };
        Err(Error::from(problem).at(&self.path))
    }

    /// Refuses an adapter with a fault that forbids merging it.
    ///
    /// # Errors
    /// [`ErrorKind::Unmergeable`](crate::ErrorKind::Unmergeable) for another method than LoRA;
    /// [`ErrorKind::Damaged`](crate::ErrorKind::Damaged) with one line for each fault;
    /// [`ErrorKind::NeedsBase`](crate::ErrorKind::NeedsBase) if rows are in an order that only the base can undo.
    pub fn check_for_merge(&self) -> Result<()> {
        let method = &self.config.peft_type;
        if !method.is_empty() && method != "LORA" {
            return Err(Error::from(Problem::OtherMethod { method: method.clone() }).at(&self.path));
        }
        let faults: Vec<&Finding> = self.findings.iter().filter(|f| f.severity == Severity::Error).collect();
        let Some(first) = faults.first() else {
            return match self.findings.iter().find(|f| f.code == ROW_ORDER) {
                Some(order) => {
                    Err(Error::from(Problem::RowOrder { message: order.message.clone() }).at(&self.path))
                }
                None => Ok(()),
            };
        };
        let foreign = matches!(first.code, "foreign-method" | "unmergeable");
        if let [only] = faults.as_slice() {
            let message = only.message.clone();
            let problem = if foreign { Problem::Foreign { message } } else { Problem::Fault { message } };
            return Err(Error::from(problem).tensor(&only.subject).at(self.place()));
        }
        let count = faults.len();
        let tensors = self.tensors().len();
        let problem = if foreign {
            Problem::ForeignFaults { count, tensors }
        } else {
            Problem::Faults { count, tensors }
        };
        let lines = faults.iter().map(ToString::to_string).collect();
        Err(Error::from(problem).at(self.place()).details(lines))
    }
}

/// Sort key that puts layer 2 before layer 10.
pub(crate) fn natural(path: &str) -> Vec<(u64, &str)> {
    path.split('.').map(|c| c.parse().map_or((u64::MAX, c), |n| (n, ""))).collect()
}
