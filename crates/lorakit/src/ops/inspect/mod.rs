//! What is in a file: an adapter or a model, described and audited.
//!
//! Headers are enough for everything but numbers. Norms, and the audit of values (NaN, infinity, factors that were
//! never trained), are computed on request.
//!
//! ```
//! use lorakit::ops::inspect::{InspectOptions, Inspection, inspect};
//! use lorakit::plan::Silent;
//!
//! let adapter = "../../fixtures/golden/peft/adapters/attn-r4".as_ref();
//! let options = InspectOptions::new().with_norms(true);
//! let Inspection::Adapter(report) = inspect(adapter, &options, &Silent)? else {
//!     panic!("it is a model");
//! };
//! assert_eq!((report.format, report.modules[0].rank), ("peft", 4));
//! # Ok::<(), lorakit::Error>(())
//! ```

mod adapter;
mod audit;
mod compare;
mod grid;
mod imports;
mod kinds;
mod model;
mod norm;
mod report;
mod saved;
mod serialise;
mod spectrum;
mod target;
#[cfg(test)]
mod tests;
mod traits;
mod twins;
mod values;

use std::path::{Path, PathBuf};

use lorakit_tensor::{Checkpoint, Format, ReadMode, Reader, TensorInfo, TensorSource};

pub use adapter::AdapterReport;
pub use grid::{Grid, GridRow};
pub use model::{FileReport, ModelReport};
pub use report::{FitReport, ModuleReport, SavedReport, Spectrum, TokenRowsReport};
pub use spectrum::uniform_rank;
pub use target::{Runtime, TargetReport, Verdict};

use crate::adapter::{ALPHA_IS_RANK, Adapter, CODE, OTHER_ADAPTERS, PICKLES, format};
use crate::ops::Problem;
use crate::plan::{ADAPTER_CONFIG, Progress};
use crate::{Base, Error, ErrorKind, Finding, Result, Severity};

/// What to look at.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct InspectOptions {
    /// Read the values of adapters: norms, NaN and infinity, factors that are all zero.
    pub norms: bool,
    /// Compute the singular values of each delta; implies [`Self::norms`].
    pub spectrum: bool,
    /// The base model to compare adapters with; implies [`Self::norms`].
    pub base: Option<PathBuf>,
    /// Ask whether this runtime takes the adapter.
    pub runtime: Option<Runtime>,
    /// How files are read.
    pub mode: ReadMode,
    /// Threads that read values; 0: one for each core.
    pub threads: usize,
}

impl InspectOptions {
    /// Headers only.
    pub fn new() -> Self {
        Self::default()
    }
}

crate::ops::setters! { InspectOptions {
    with_norms: norms: bool,
    with_spectrum: spectrum: bool,
    with_base: base: Option<PathBuf>,
    with_runtime: runtime: Option<Runtime>,
    with_mode: mode: ReadMode,
    with_threads: threads: usize,
} }

/// What a path turned out to be.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Inspection {
    /// An adapter.
    Adapter(Box<AdapterReport>),
    /// A model, or any other file of tensors.
    Model(Box<ModelReport>),
}

/// How much there is of one dtype.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DTypeCount {
    /// The dtype.
    pub dtype: lorakit_tensor::DType,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of values.
    pub parameters: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// Describes and audits the adapter or model at `path`. Faults of an adapter are findings of its report, not
/// errors.
///
/// # Errors
/// Whatever opening the path or the base turns up; [`ErrorKind::NoAdapter`] for a model if a runtime is given;
/// [`ErrorKind::Interrupted`] if `progress` asks to stop.
pub fn inspect(path: &Path, options: &InspectOptions, progress: &dyn Progress) -> Result<Inspection> {
    crate::plan::pool(options.threads)?.install(|| look(path, options, progress))
}

/// [`inspect`], on the threads of the caller.
pub(crate) fn look(path: &Path, options: &InspectOptions, progress: &dyn Progress) -> Result<Inspection> {
    let reader = &Reader::new(options.mode);
    if is_adapter(path, reader)? {
        let base = options.base.as_deref().map(|base| Base::open(base, reader)).transpose()?;
        let adapter = Adapter::open(path, reader, base.as_ref()).map_err(|error| or_neither(error, path))?;
        let report = adapter::report(&adapter, base.as_ref(), options, reader, progress)?;
        reader.check_unchanged()?;
        return Ok(Inspection::Adapter(Box::new(report)));
    }
    if let Some(runtime) = options.runtime {
        let problem = Problem::RuntimeForModel { runtime: runtime.title() };
        return Err(Error::from(problem).at(path));
    }
    Ok(Inspection::Model(Box::new(model::report(path, reader)?)))
}

/// Stops if the caller wants to.
fn go_on(progress: &dyn Progress) -> Result<()> {
    crate::plan::go_on(progress, "everything was looked at")
}

/// What headers and configuration make doubtful, for operations that go on regardless.
pub(crate) fn doubts(adapter: &Adapter) -> Vec<Finding> {
    let findings = audit::headers(adapter, &adapter::describe(&adapter.modules));
    // A leaked path and what lies in its folder are the business of whoever publishes or loads the adapter, not of
    // whoever merges it.
    let doubtful = |f: &Finding| match f.severity {
        Severity::Warning => !["local-path", CODE, PICKLES].contains(&f.code),
        _ => [ALPHA_IS_RANK, audit::MUTATED_BASE, OTHER_ADAPTERS].contains(&f.code),
    };
    // On the base that training left, nothing is wrong with it.
    let doubt = |f: Finding| Finding { severity: f.severity.min(Severity::Warning), ..f };
    findings.into_iter().filter(doubtful).map(doubt).collect()
}

/// The same for operations that take an initialisation into account which changed the base, or refuse it.
pub(crate) fn doubts_of_sum(adapter: &Adapter) -> impl Iterator<Item = Finding> {
    doubts(adapter).into_iter().filter(|doubt| doubt.code != audit::MUTATED_BASE)
}

/// Warns of ranks that the configuration gives otherwise than the factors: for operations on factors alone.
pub(crate) fn other_ranks(adapter: &Adapter) -> impl Iterator<Item = Finding> {
    doubts(adapter).into_iter().filter(|doubt| doubt.code == audit::OTHER_RANK)
}

/// Decides by content: a configuration next to the weights, or for a single file the names of its tensors.
pub(crate) fn is_adapter(path: &Path, reader: &Reader) -> Result<bool> {
    if path.is_dir() {
        let has = |name: &str| path.join(name).is_file();
        // A folder with nothing in it counts as a missing adapter: the error of opening it names the folders inside.
        let named = OF_ADAPTERS.iter().any(|n| has(n)) && !OF_MODELS.iter().any(|n| has(n));
        return Ok(holds_neither(path) || named || (!has("config.json") && is_marked(path, reader)));
    }
    let file = Checkpoint::open(path, reader)?;
    let factor =
        |t: &TensorInfo| [".lora_A", ".lora_B", ".lora_embedding_"].iter().any(|m| t.name.contains(m));
    let peft = file.format() != Format::Gguf && file.tensors().iter().any(factor);
    Ok(peft || is_marked(path, reader))
}

/// Files of adapters.
const OF_ADAPTERS: &[&str] = &[
    ADAPTER_CONFIG,
    "adapter_model.safetensors",
    "adapter_model.bin",
    "adapter_model.safetensors.index.json",
];
/// Files of models.
const OF_MODELS: &[&str] = &["config.json", "model.safetensors", "model.safetensors.index.json"];

fn holds_neither(folder: &Path) -> bool {
    !OF_ADAPTERS.iter().chain(OF_MODELS).any(|name| folder.join(name).is_file()) && !has_weights(folder)
}

/// The error of opening a folder as an adapter, where it could as well have been meant to be a model.
fn or_neither(error: Error, path: &Path) -> Error {
    let is_told = error.kind() != ErrorKind::NoAdapter || !error.detail_lines().is_empty();
    if is_told || !path.is_dir() || !holds_neither(path) {
        return error;
    }
    let is_empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    let problem = if is_empty { Problem::EmptyFolder } else { Problem::NeitherKind };
    Error::from(problem).at(path)
}

/// Whether the names of tensors are those of an adapter format.
fn is_marked(path: &Path, reader: &Reader) -> bool {
    let found = format::open(path, reader).and_then(|files| format::detect(&files));
    // A file that mixes formats counts too; the error of opening it says so.
    found.map_or_else(|error| error.kind() == ErrorKind::Damaged, |format| format.is_some())
}

fn has_weights(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let endings = ["safetensors", "gguf", "bin", "json"];
    entries.map(|e| e.path()).any(|p| p.extension().is_some_and(|e| endings.iter().any(|x| e == *x)))
}

/// Dtypes by bytes, most first.
pub(crate) fn count_dtypes<'a>(tensors: impl IntoIterator<Item = &'a TensorInfo>) -> Vec<DTypeCount> {
    let mut counts: Vec<DTypeCount> = Vec::new();
    for tensor in tensors {
        let (parameters, bytes) = (tensor.elements(), tensor.byte_len());
        match counts.iter_mut().find(|c| c.dtype == tensor.dtype) {
            Some(count) => {
                count.tensors += 1;
                count.parameters = count.parameters.saturating_add(parameters);
                count.bytes = count.bytes.saturating_add(bytes);
            }
            None => counts.push(DTypeCount { dtype: tensor.dtype, tensors: 1, parameters, bytes }),
        }
    }
    counts.sort_by_key(|c| std::cmp::Reverse(c.bytes));
    counts
}
