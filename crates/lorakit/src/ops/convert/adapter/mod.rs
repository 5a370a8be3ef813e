//! Converting adapters between formats.
//!
//! ```
//! use lorakit::ops::convert::adapter::{self, AdapterOptions};
//! use lorakit::plan::Silent;
//!
//! let folder = tempfile::tempdir().unwrap();
//! let file = folder.path().join("adapter.gguf");
//! let options = AdapterOptions::new("../../fixtures/golden/peft/adapters/attn-r4", &file, "gguf")
//!     .with_base(Some("../../fixtures/golden/peft/bases/llama-bf16".into()));
//! let report = adapter::compute(&options, &Silent)?.run(0, &Silent)?;
//! // The file was read again, and every module compared, before it got its name.
//! assert!(report.errors.iter().all(|module| module.error < 1e-6));
//! # Ok::<(), lorakit::Error>(())
//! ```

pub(crate) mod copies;
mod report;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use lorakit_tensor::{DType, ReadMode, Reader};

pub use report::AdapterConvertReport;

use crate::adapter::{Adapter, Module, format};
use crate::fit::{self, FitOptions, Resolver};
use crate::lineage::{Lineage, Role, Step};
use crate::ops::Problem;
pub use crate::ops::approximate::{Approximated, overall_error};
use crate::ops::{approximate, inspect, refuse_repeated};
pub use crate::output::{AdapterOutput, AdapterReport, ModuleError};
use crate::output::{Destination, check_dtype, writable};
use crate::plan::{Progress, go_on, pool};
use crate::tensor::Shelf;
use crate::{Base, Error, Finding, Model, Result};

/// What to convert, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AdapterOptions {
    /// The adapter: a folder or file.
    pub source: PathBuf,
    /// The output folder or file.
    pub output: PathBuf,
    /// Name of the format to write: see [`formats`].
    pub to: String,
    /// Replace an output that exists.
    pub replace: bool,
    /// Dtype of the factors; each keeps its own by default.
    pub dtype: Option<DType>,
    /// The model that the adapter belongs to.
    pub base: Option<PathBuf>,
    /// Approximate deltas without small factors (LoHa and LoKr of high rank) by factors of this rank.
    pub approximate: Option<usize>,
    /// Turn DoRA into the nearest LoRA of this rank; needs the base.
    pub dora_to_lora: Option<usize>,
    /// Give all modules one rank and one scale, as vLLM and TGI require.
    pub uniform: bool,
    /// When the output says where it came from.
    pub lineage: Lineage,
    /// Whether an output folder gets a model card.
    pub card: bool,
    /// Threads that approximate; 0 for one on each core.
    pub threads: usize,
    /// How inputs are read.
    pub mode: ReadMode,
}

impl AdapterOptions {
    /// Default options for an adapter, an output and the name of its format: see [`formats`].
    pub fn new(source: impl Into<PathBuf>, output: impl Into<PathBuf>, to: impl Into<String>) -> Self {
        AdapterOptions {
            source: source.into(),
            output: output.into(),
            to: to.into(),
            replace: false,
            dtype: None,
            base: None,
            approximate: None,
            dora_to_lora: None,
            uniform: false,
            lineage: Lineage::default(),
            card: true,
            threads: 0,
            mode: ReadMode::default(),
        }
    }
}

crate::ops::setters! { AdapterOptions {
    with_replace: replace: bool,
    with_dtype: dtype: Option<DType>,
    with_base: base: Option<PathBuf>,
    with_approximate: approximate: Option<usize>,
    with_dora_to_lora: dora_to_lora: Option<usize>,
    with_uniform: uniform: bool,
    with_lineage: lineage: Lineage,
    with_card: card: bool,
    with_threads: threads: usize,
    with_mode: mode: ReadMode,
} }

/// An adapter format that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatInfo {
    /// Its name.
    pub name: &'static str,
    /// What is written, and for whom.
    pub title: &'static str,
}

/// A conversion that is planned.
#[derive(Debug)]
pub struct AdapterConvert {
    /// What is written.
    pub output: AdapterOutput,
    /// Format of the input.
    pub from: &'static str,
    /// Modules that were approximated, and how well.
    pub approximated: Vec<Approximated>,
    /// Things worth telling the user.
    pub notes: Vec<Finding>,
}

/// Whether the files at `path` are an adapter's, in whatever format.
///
/// # Errors
/// If they cannot be opened.
pub fn is_adapter(path: &Path, mode: ReadMode) -> Result<bool> {
    crate::ops::inspect::is_adapter(path, &Reader::new(mode))
}

/// The formats that can be written.
pub fn formats() -> Vec<FormatInfo> {
    let info =
        |format: &&dyn format::AdapterFormat| FormatInfo { name: format.name(), title: format.title() };
    format::FORMATS.iter().filter(|format| format.is_written()).map(info).collect()
}

/// Computes the conversion of an adapter: what is approximated, and which weights are copies of the base's. `progress`
/// counts what is approximated: bytes of factors, and for DoRA bytes of the base's weights.
///
/// # Errors
/// [`ErrorKind::Inexpressible`](crate::ErrorKind::Inexpressible) for what the format cannot hold,
/// [`ErrorKind::NeedsBase`](crate::ErrorKind::NeedsBase) if the files alone do not say what they mean; what reading
/// turns up.
pub fn compute(options: &AdapterOptions, progress: &dyn Progress) -> Result<AdapterConvert> {
    let format = writable(&options.to)?;
    check_dtype(format, options.dtype)?;
    let reader = &Reader::new(options.mode);
    let base = options.base.as_deref().map(|base| Base::open(base, reader)).transpose()?;
    let files = format::open(&options.source, reader)?;
    let read = format::read(&files, base.as_ref())?;
    read.check()?;
    refuse_empty(&read)?;
    go_on(progress, "anything was written")?;
    refuse_misfits(&read, base.as_ref())?;
    let from = read.format;
    let doubts = inspect::doubts(&read);
    let known: HashSet<&Finding> = read.findings.iter().collect();
    let doubts: Vec<Finding> = doubts.into_iter().filter(|doubt| !known.contains(doubt)).collect();
    let mut notes = Vec::new();
    let papers = recorded(&read, base.as_ref(), options, reader, progress)?.finish(&mut notes);
    let mut adapter = if format.packs_experts() { read } else { read.unpacked(base.as_ref())? };
    let approximated =
        pool(options.threads)?.install(|| approximate(&mut adapter, options, reader, progress))?;
    if !format.packs_experts() {
        copies::drop(&mut adapter, options.base.as_deref(), reader)?;
    }
    refuse_inflated(&adapter)?;
    go_on(progress, "anything was written")?;
    let written =
        if options.uniform { adapter.clone().unpacked(base.as_ref())?.uniform()? } else { adapter.clone() };
    notes.extend(adapter.notes());
    notes.extend(doubts);
    notes.extend(crate::ops::expert_notes(&written, format.name()));
    let destination = Destination {
        format,
        output: &options.output,
        replace: options.replace,
        dtype: options.dtype,
        reader: reader.clone(),
        papers,
        beside: Vec::new(),
    };
    let output = AdapterOutput::written_as(&written, adapter, base, &destination)?;
    Ok(AdapterConvert { output, from, approximated, notes })
}

/// What the output says about how it was made.
fn recorded(
    read: &Adapter,
    base: Option<&Base>,
    options: &AdapterOptions,
    reader: &Reader,
    progress: &dyn Progress,
) -> Result<Step> {
    let mut step = Step::new("convert", options.lineage)
        .card(options.card)
        .with("to", &options.to)
        .with("dtype", options.dtype.map(DType::name))
        .with("approximate", options.approximate)
        .with("dora_to_lora", options.dora_to_lora)
        .with("uniform", options.uniform.then_some(true));
    match &options.base {
        // Its weights are in the result.
        Some(path) if options.dora_to_lora.is_some() => step.model(Role::Base, &Model::open(path, reader)?),
        _ => step.base(base),
    }
    step.adapter(read, None, reader, progress)?;
    Ok(step)
}

/// Applies the options that approximate, before anything is written.
fn approximate(
    adapter: &mut Adapter,
    options: &AdapterOptions,
    reader: &Reader,
    progress: &dyn Progress,
) -> Result<Vec<Approximated>> {
    let mut done = Vec::new();
    let shelf = Shelf::beside(&options.output);
    if options.approximate.is_some() || options.dora_to_lora.is_some() {
        refuse_repeated(adapter)?;
    }
    if let Some(rank) = options.approximate {
        done.extend(approximate::truncate(adapter, rank, Module::exceeds_rank, (&shelf, progress))?);
    }
    if options.dora_to_lora.is_some() && adapter.modules.iter().all(|m| m.magnitude.is_none()) {
        return Err(Error::from(Problem::NoDora).at(&options.source));
    }
    if let Some(rank) = options.dora_to_lora {
        let base = options.base.as_deref();
        let path = base.ok_or_else(|| Error::from(Problem::DoraWithoutBase).at(&options.source))?;
        let base = Model::open_as_hf(path, reader, None)?;
        done.extend(approximate::dora_to_lora(adapter, &base, rank, (&shelf, progress))?);
    }
    Ok(done)
}

pub(super) fn refuse_empty(adapter: &Adapter) -> Result<()> {
    let Adapter { modules, saved, token_rows, deltas, .. } = adapter;
    if modules.is_empty() && saved.is_empty() && token_rows.is_empty() && deltas.is_empty() {
        return Err(Error::from(Problem::NothingToConvert).at(&adapter.path));
    }
    Ok(())
}

/// Refuses the adapter of another model, which would be converted by that model's heads and names.
pub(super) fn refuse_misfits(adapter: &Adapter, base: Option<&Base>) -> Result<()> {
    if let Some(base) = base.filter(|base| !base.tensors.is_empty()) {
        fit::fit(&Resolver::new(&base.tensors, base.config.as_ref()), adapter, FitOptions::default())?;
    }
    Ok(())
}

/// Refuses modules that would be larger as a LoRA than the matrices they change.
fn refuse_inflated(adapter: &Adapter) -> Result<()> {
    let inflated: Vec<&Module> = adapter.modules.iter().filter(|module| module.is_inflated()).collect();
    let Some(method) = inflated.first().and_then(|module| module.expanded) else { return Ok(()) };
    let line = |module: &&Module| {
        let rank = module.rank();
        let out = module.b.info().rows_cols().0;
        format!("{}  rank {rank}, of a matrix {out} x {}", module.path, module.a.info().rows_cols().1)
    };
    let lines = inflated.iter().map(line).collect();
    Err(Error::from(Problem::Inflated { method }).at(&adapter.path).details(lines))
}

impl AdapterConvert {
    /// Writes the output: see [`AdapterOutput::run`].
    ///
    /// # Errors
    /// As [`AdapterOutput::run`].
    pub fn run(&self, threads: usize, progress: &dyn Progress) -> Result<AdapterReport> {
        self.output.run(threads, progress)
    }
}
