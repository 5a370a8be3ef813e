//! Converting adapters between formats.
//!
//! ```text
//!  files ──► Adapter ──► unpacked ──► Draft ──► Plan ──► staged files
//!                │                                           │ read again
//!                └──────────────── compare ◄─────────────────┘
//!                                     └─► published, with the error of each module
//! ```

mod copies;
mod verify;

use std::path::{Path, PathBuf};

use lorakit_tensor::{DType, ReadMode};

pub use verify::ModuleError;

use crate::adapter::format::{self, DraftOptions};
use crate::adapter::{Adapter, Base, Files, Finding, Mapped, Module, Severity};
use crate::fit::{self, BaseView, FitOptions};
use crate::ops::approximate;
pub use crate::ops::approximate::Approximated;
use crate::plan::{Plan, Progress, Report};
use crate::{Error, ErrorKind, Model, Result};

/// What to convert, and how.
#[derive(Debug, Clone)]
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
    /// Approximate what has no small factors (LoHa and LoKr of high rank) by factors of this rank.
    pub approximate: Option<usize>,
    /// Turn DoRA into the nearest LoRA of this rank; needs the base.
    pub dora_to_lora: Option<usize>,
    /// Give all modules one rank and one scale, as vLLM and TGI need it.
    pub uniform: bool,
    /// How inputs are read.
    pub mode: ReadMode,
}

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
    /// The plan.
    pub plan: Plan,
    /// Format of the input.
    pub from: &'static str,
    /// Format of the output.
    pub to: &'static str,
    /// What became of each module.
    pub mapped: Vec<Mapped>,
    /// Modules that were approximated, and how well.
    pub approximated: Vec<Approximated>,
    /// Things worth telling the user.
    pub notes: Vec<Finding>,
    adapter: Adapter,
    base: Option<Base>,
    mode: ReadMode,
}

/// What a conversion did.
#[derive(Debug, Clone)]
pub struct AdapterReport {
    /// What was written.
    pub report: Report,
    /// The error of each module, in the order of the adapter.
    pub errors: Vec<ModuleError>,
}

/// Whether the files at `path` are an adapter's, in whatever format.
///
/// # Errors
/// If they cannot be opened.
pub fn is_adapter(path: &Path, mode: ReadMode) -> Result<bool> {
    crate::ops::inspect::is_adapter(path, mode)
}

/// The formats that are written.
pub fn formats() -> Vec<FormatInfo> {
    let info =
        |format: &&dyn format::AdapterFormat| FormatInfo { name: format.name(), title: format.title() };
    format::FORMATS.iter().filter(|format| format.is_written()).map(info).collect()
}

/// Plans the conversion of an adapter.
///
/// # Errors
/// [`ErrorKind::Inexpressible`] for what the format cannot hold, [`ErrorKind::NeedsBase`] where the files alone do not
/// say what they mean; what reading turns up.
pub fn plan(options: &AdapterOptions) -> Result<AdapterConvert> {
    let format = format::by_name(&options.to).filter(|format| format.is_written()).ok_or_else(|| {
        let names: Vec<_> = formats().iter().map(|format| format.name).collect();
        let message =
            format!("cannot write the adapter format `{}`; known are {}", options.to, names.join(", "));
        Error::new(ErrorKind::Usage, message)
    })?;
    let base = options.base.as_deref().map(|base| Base::open(base, options.mode)).transpose()?;
    let files = Files::open(&options.source, options.mode)?;
    let read = format::read(&files, base.as_ref())?;
    read.check()?;
    refuse_empty(&read)?;
    // The adapter of another model would be converted by that model's heads and names.
    if let Some(base) = base.as_ref().filter(|base| !base.tensors.is_empty()) {
        fit::fit(&BaseView::new(&base.tensors, base.config.as_ref()), &read, FitOptions::default())?;
    }
    let from = read.format;
    let mut adapter = if format.packs_experts() { read } else { read.unpacked(base.as_ref())? };
    let approximated = approximate(&mut adapter, options)?;
    if !format.packs_experts() {
        copies::drop(&mut adapter, options)?;
    }
    refuse_inflated(&adapter)?;
    let written =
        if options.uniform { adapter.clone().unpacked(base.as_ref())?.uniform()? } else { adapter.clone() };
    let draft_options = DraftOptions { dtype: options.dtype, base: base.as_ref() };
    let draft = format.write(&written, &draft_options)?;
    let digests = format.digests(&draft)?;
    let target = draft.target(&options.output)?;
    let mut inputs: Vec<&Path> = adapter.source().files().iter().map(|file| file.path()).collect();
    inputs.push(&options.source);
    let plan = Plan::new(target, options.replace, &inputs, draft.container, draft.tensors, draft.side_files)?;
    let plan = plan.with_data_digests(digests);
    let notes = adapter.findings.iter().filter(|f| f.severity != Severity::Error).cloned().collect();
    let (mapped, mode) = (draft.mapped, options.mode);
    Ok(AdapterConvert { plan, from, to: format.name(), mapped, approximated, notes, adapter, base, mode })
}

/// What options ask for before anything is written.
fn approximate(adapter: &mut Adapter, options: &AdapterOptions) -> Result<Vec<Approximated>> {
    let mut done = Vec::new();
    if let Some(rank) = options.approximate {
        done.extend(approximate::truncate(adapter, rank, |m| m.expanded.is_some() || m.exceeds_rank())?);
    }
    if let Some(rank) = options.dora_to_lora {
        let path = options.base.as_deref().ok_or_else(|| {
            let message = "uses DoRA, whose magnitudes say nothing without the weights they belong to";
            Error::new(ErrorKind::NeedsBase, message).at(&options.source)
        })?;
        let base = Model::open_as_hf(path, options.mode, None)?;
        done.extend(approximate::dora_to_lora(adapter, &base, rank)?);
    }
    Ok(done)
}

fn refuse_empty(adapter: &Adapter) -> Result<()> {
    if adapter.modules.is_empty() && adapter.saved.is_empty() && adapter.token_rows.is_empty() {
        let message = "holds nothing to convert: no low-rank factors and no saved tensors";
        return Err(Error::new(ErrorKind::Damaged, message).at(&adapter.path));
    }
    Ok(())
}

/// Refuses modules that as a LoRA would be larger than the matrices they change.
fn refuse_inflated(adapter: &Adapter) -> Result<()> {
    let inflated: Vec<&Module> = adapter.modules.iter().filter(|module| module.is_inflated()).collect();
    let Some(method) = inflated.first().and_then(|module| module.expanded) else { return Ok(()) };
    let line = |module: &&Module| {
        let (rank, out) = (module.rank(), module.b.info().rows_cols().0);
        format!("{}  rank {rank}, of a matrix {out} x {}", module.path, module.a.info().rows_cols().1)
    };
    let message = format!("holds {method}, which is exact only as LoRA of a higher rank than its matrix has");
    let lines = inflated.iter().map(line).collect();
    Err(Error::new(ErrorKind::Inexpressible, message).at(&adapter.path).details(lines))
}

impl AdapterConvert {
    /// The modules that are converted.
    pub fn modules(&self) -> &[Module] {
        &self.adapter.modules
    }

    /// Writes the output, reads it again, compares every module, and publishes it.
    ///
    /// # Errors
    /// As [`Plan::run`]; [`ErrorKind::Verification`] if the output does not hold what the input does. Nothing is
    /// published then.
    pub fn run(&self, threads: usize, progress: &dyn Progress) -> Result<AdapterReport> {
        let written = self.plan.write(threads, progress)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| {
            Error::new(ErrorKind::Unsupported, format!("cannot start {threads} threads: {e}"))
        })?;
        let errors = pool.install(|| self.verify(written.path()))?;
        Ok(AdapterReport { report: written.publish()?, errors })
    }

    fn verify(&self, staged: &Path) -> Result<Vec<ModuleError>> {
        let files = Files::open(staged, self.mode)?;
        let after = format::read(&files, self.base.as_ref())?.unpacked(self.base.as_ref())?;
        let before = self.adapter.clone().unpacked(self.base.as_ref())?;
        let place = |e: Error| e.at(self.plan.target().path());
        after.check().map_err(place)?;
        verify::compare(&before, &after).map_err(place)
    }
}
