//! Merging adapters into a base model.
//!
//! Every output tensor is one recipe: copied if no adapter touches it, else decoded, all deltas added in f32, and
//! rounded once. Coverage is proved from headers before anything is read: each adapter tensor has exactly one
//! home, each base tensor is written exactly once.

mod files;
mod group;
mod output;
pub(crate) mod problem;
mod provenance;
mod refuse;
mod ruin;
mod tied;

pub(crate) use provenance::described;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use lorakit_tensor::{DType, ReadMode, Reader, TensorInfo};

pub use tied::Tied;

use super::inspect;
use super::quantize::{Chosen, Quantization};
use crate::adapter::{Adapter, repeated};
use crate::fit::{self, BaseView, FitOptions, MoeLayout};
use crate::plan::{Compute, FileDigest, OutputTensor, Plan, Progress, Recipe, Report, Rounding, go_on};
use crate::{Base, Error, Finding, Model, Result, Severity, TensorRef};
use group::{Group, Groups};
use output::Output;
pub(crate) use problem::Problem;
use tied::Untied;

/// Which reference's arithmetic a merge follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MergeRounding {
    /// One rounding everywhere: the correctly rounded sum.
    #[default]
    Once,
    /// PEFT with `safe_merge=False`: as [`Self::Once`], but deltas of embeddings and expert parameters are
    /// rounded to the weight's dtype first.
    Peft,
    /// PEFT with `safe_merge=True`: every delta is rounded to the weight's dtype first.
    PeftSafe,
}

/// What to merge, and how.
#[derive(Debug, Clone)]
pub struct MergeOptions {
    /// The base model: a folder or file.
    pub base: PathBuf,
    /// Adapters with their weights.
    pub adapters: Vec<(PathBuf, f64)>,
    /// The output folder, or file if it ends in `.safetensors`.
    pub output: PathBuf,
    /// Replace an output that exists.
    pub replace: bool,
    /// Dtype of the output's floating-point tensors; each keeps its own by default.
    pub dtype: Option<DType>,
    /// What the sum is quantised to; by default it is written as floats, to safetensors.
    pub quantization: Option<Quantization>,
    /// The name of the pre-tokenizer for GGUF files, where it cannot be found out.
    pub pre: Option<String>,
    /// Largest shard, in bytes.
    pub max_shard: u64,
    /// What to do where input and output embedding are one tensor.
    pub tied: Tied,
    /// How experts are packed.
    pub moe_layout: MoeLayout,
    /// When sums are rounded.
    pub rounding: MergeRounding,
    /// Share of the adapters that must survive being stored; an output that keeps less is not published.
    pub min_retention: f64,
    /// The base is the residual model that an initialisation like PiSSA left behind.
    pub residual_base: bool,
    /// Search the tensors that are only copied for NaN and infinity too.
    pub check_finite: bool,
    /// How inputs are read.
    pub mode: ReadMode,
}

impl MergeOptions {
    /// Default options for one base, some adapters and an output.
    pub fn new(base: &Path, adapters: Vec<(PathBuf, f64)>, output: &Path) -> Self {
        MergeOptions {
            base: base.to_path_buf(),
            adapters,
            output: output.to_path_buf(),
            replace: false,
            dtype: None,
            quantization: None,
            pre: None,
            max_shard: 5_000_000_000,
            tied: Tied::default(),
            moe_layout: MoeLayout::default(),
            rounding: MergeRounding::default(),
            min_retention: MIN_RETENTION,
            residual_base: false,
            check_finite: false,
            mode: ReadMode::default(),
        }
    }
}

/// Below this share the merged model is the base rather than the merge.
pub const MIN_RETENTION: f64 = 0.5;

/// A merge that is planned: everything that could be refused has been.
#[derive(Debug)]
pub struct Merge {
    /// The plan.
    pub plan: Plan,
    /// The adapters, for the summary.
    pub adapters: Vec<MergedAdapter>,
    /// Tensors that adapters change, unless their deltas turn out to be zero: see [`Self::changed`].
    pub edited: usize,
    /// Tensors that the base does not have.
    pub added: Vec<String>,
    /// What each tensor became, where types were chosen.
    pub chosen: Vec<Chosen>,
    /// Things worth telling the user.
    pub notes: Vec<Finding>,
    /// Of the edited ones, those that an adapter replaces as a whole.
    replaced: usize,
    min_retention: f64,
}

/// What is said of an adapter after a merge.
#[derive(Debug, Clone)]
pub struct MergedAdapter {
    /// Its path as it was given.
    pub path: PathBuf,
    /// Its weight.
    pub weight: f64,
    /// Number of low-rank modules.
    pub modules: usize,
    /// Number of tensors saved whole and of token sets.
    pub saved: usize,
}

/// Opens everything, finds each tensor's home and plans the output.
///
/// # Errors
/// Every refusal of a merge: see [`ErrorKind`](crate::ErrorKind); [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) if `progress` asks to stop.
pub fn plan(options: &MergeOptions, progress: &dyn Progress) -> Result<Merge> {
    let sums = sums(options, &Reader::new(options.mode), progress)?;
    let options = &MergeOptions { dtype: sums.dtype, ..options.clone() };
    let Sums { base, adapters, tensors, added, edited, replaced, untied, mut notes, .. } = sums;
    let digests = FileDigest::of_files(base.checkpoint());
    let record = provenance::record(&adapters, options, &digests, progress)?;
    let output = output::of(&base, &adapters, tensors, &untied, options, record, &mut notes)?;
    stop_if_asked(progress)?;
    for name in &added {
        let class = base.config.as_ref().and_then(|c| c.architecture()).unwrap_or("the base's class");
        let message = format!(
            "is not in the base model and is added; `config.json` still says {class}: set `architectures` (and \
             `num_labels`) to the class that has it"
        );
        notes.push(Finding::new(Severity::Warning, "added-tensor", name, message));
    }
    let Output { target, container, tensors, side_files, chosen, .. } = output;
    let plan = Plan::new(target, options.replace, base.reader(), container, tensors, side_files)?;
    let plan = plan.with_digests(digests).checking_copies(options.check_finite)?;
    let adapters = adapters.iter().map(|(adapter, weight)| MergedAdapter {
        path: adapter.path.clone(),
        weight: *weight,
        modules: adapter.modules.len(),
        saved: adapter.saved.len() + adapter.token_rows.len(),
    });
    let min_retention = options.min_retention;
    let adapters = adapters.collect();
    Ok(Merge { plan, adapters, edited, replaced, added, chosen, notes, min_retention })
}

impl Merge {
    /// Tensors of the output that hold something else than the base's, as a run found.
    pub fn changed(&self, report: &Report) -> usize {
        self.replaced + report.retention.iter().filter(|tensor| tensor.retention.moved > 0).count()
    }

    /// What only the values that a run saw make doubtful.
    pub fn doubts(&self, report: &Report) -> Vec<Finding> {
        let matrices = self.plan.tensors().filter(|tensor| tensor.info.shape.len() > 1);
        let matrices: HashSet<&str> = matrices.map(|tensor| tensor.info.name.as_str()).collect();
        ruin::doubts(&report.retention, |name| matrices.contains(name))
    }

    /// Writes the output and, if enough of the adapters is in it, publishes it.
    ///
    /// # Errors
    /// As [`Plan::run`]; [`ErrorKind::Retention`](crate::ErrorKind::Retention) if less than [`MergeOptions::min_retention`] survived.
    pub fn run(&self, threads: usize, progress: &dyn Progress) -> Result<Report> {
        let written = self.plan.write(threads, progress)?;
        refuse::lost(&written.report().retention, self.min_retention, self.plan.target().path())?;
        written.publish()
    }
}

/// Base and adapters, opened, and every tensor of the merged model, in no file yet.
pub(crate) struct Sums {
    pub(crate) base: Model,
    pub(crate) adapters: Vec<(Adapter, f64)>,
    pub(crate) tensors: Vec<OutputTensor>,
    /// Names of those that the base does not have.
    pub(crate) added: Vec<String>,
    /// Number of those that adapters change.
    pub(crate) edited: usize,
    /// Of these, the number that are replaced as a whole.
    replaced: usize,
    /// Names of tensors that would be changed if the deltas were not multiplied by 0.
    pub(crate) silent: HashSet<String>,
    pub(crate) notes: Vec<Finding>,
    untied: Untied,
    /// The dtype that floating-point tensors are written in, unless each keeps its own.
    dtype: Option<DType>,
}

/// Opens everything and finds each tensor's home.
///
/// # Errors
/// Every refusal of a merge that is not about the output; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
pub(crate) fn sums(options: &MergeOptions, reader: &Reader, progress: &dyn Progress) -> Result<Sums> {
    let base = Model::open_as_hf(&options.base, reader, options.dtype)?;
    // The tensors of a GGUF base are decoded and all written in one dtype, unless types are chosen for a GGUF output.
    let to_gguf = matches!(options.quantization, Some(Quantization::Gguf { .. }));
    let to_packed = matches!(options.quantization, Some(Quantization::Packed { .. }));
    let decoded = !to_gguf && (to_packed || base.is_gguf());
    let dtype = options.dtype.or_else(|| decoded.then(|| base.natural_dtype()));
    let options = &MergeOptions { dtype, ..options.clone() };
    let mut notes = Vec::new();
    let mut adapters = Vec::new();
    let known = Base::of(&base);
    for (path, weight) in &options.adapters {
        stop_if_asked(progress)?;
        let adapter = Adapter::open(path, reader, Some(&known))?;
        refuse::unmergeable(&adapter, *weight, options.residual_base)?;
        adapter.check()?;
        notes.extend(inspect::doubts(&adapter));
        adapters.push((adapter, *weight));
    }
    // Values are read only once every adapter is known to fit.
    let view = BaseView::new(base.tensors(), base.config.as_ref());
    let mut groups = Groups::default();
    for (adapter, weight) in &adapters {
        stop_if_asked(progress)?;
        let edits = fit::fit(&view, adapter, FitOptions { moe_layout: options.moe_layout })
            .map_err(|misfit| refuse::packed(&base).unwrap_or(misfit))?;
        if edits.is_empty() {
            return Err(Error::from(Problem::Nothing).at(&adapter.path));
        }
        groups.add(&base, adapter, *weight, edits, progress)?;
    }
    for (adapter, weight) in &adapters {
        notes.extend(refuse::non_finite_or_untrained(adapter, progress)?);
        notes.extend(refuse::weighted_away(adapter, *weight));
        notes.extend(refuse::weighted_replacements(adapter, *weight));
    }
    notes.extend(repeated(&adapters)?);
    let silent = groups.drop_unchanged(&base)?;
    let untied = tied::resolve(&view, &base, &adapters, &mut groups, options.tied)?;
    // A mix chooses types of its own, so that decoding is all that is needed.
    let mixed =
        matches!(&options.quantization, Some(Quantization::Gguf { mix, .. }) if mix.file_type.is_some());
    refuse::quantized(&base, &groups, if mixed { Some(DType::F32) } else { dtype })?;

    let edited = groups.iter().count();
    let replaced =
        groups.iter().filter(|(_, group)| group.replace.is_some() && group.only_replaces()).count();
    let (tensors, added) = output_tensors(&base, groups, options, progress)?;
    notes.extend(untied.note.clone());
    if base.config.is_none() {
        let message =
            "has no `config.json`: only tensors are written, and whether embeddings are tied is not known";
        let subject = base.path.display().to_string();
        notes.push(Finding::new(Severity::Warning, "no-config", &subject, message));
    }
    Ok(Sums { base, adapters, tensors, added, edited, replaced, silent, notes, untied, dtype })
}

/// Stops where the caller wants to.
fn stop_if_asked(progress: &dyn Progress) -> Result<()> {
    go_on(progress, "anything was written")
}

/// Base tensors in file order, edited where a group says so, then the tensors that are new. Also returns the
/// names of those that the base does not have under any name.
fn output_tensors(
    base: &Model,
    mut groups: Groups,
    options: &MergeOptions,
    progress: &dyn Progress,
) -> Result<(Vec<OutputTensor>, Vec<String>)> {
    let mut tensors = Vec::with_capacity(base.tensors().len() + 1);
    for (index, info) in base.tensors().iter().enumerate() {
        stop_if_asked(progress)?;
        let tensor = base.tensor(index);
        let dtype = output_dtype(base.kept_dtype(index), options.dtype);
        tensors.push(match groups.take(&info.name) {
            Some(group) => edit(base, info.name.clone(), group, options)?,
            None => OutputTensor::cast(tensor, dtype),
        });
    }
    let mut added = Vec::new();
    for (name, group) in groups.rest() {
        if group.base.is_none() {
            added.push(name.clone());
        }
        tensors.push(edit(base, name, group, options)?);
    }
    Ok((tensors, added))
}

fn edit(base: &Model, name: String, group: Group, options: &MergeOptions) -> Result<OutputTensor> {
    // Whatever is in an adapter has been looked at.
    let replacement = group.replace.clone().map(TensorRef::known_finite);
    let Some(tensor) = replacement.or_else(|| Some(base.tensor(group.base?))) else {
        return Err(Error::from(Problem::NothingToAddTo).tensor(&name));
    };
    let matrix = || base.tensors().iter().position(|t| t.shape.len() > 1);
    let kept = group.base.or_else(matrix).map_or(tensor.info().dtype, |index| base.kept_dtype(index));
    let dtype = output_dtype(kept, options.dtype);
    let info = TensorInfo { name, dtype, shape: tensor.info().shape.clone() };
    let unchanged = group.terms.is_empty() && group.dora.is_none() && group.rows.is_empty();
    if unchanged && tensor.info().dtype == dtype {
        return Ok(OutputTensor { info, recipe: Recipe::Copy(tensor) });
    }
    let (rows, cols) = group.matrix_shape(&tensor);
    let rounding = match options.rounding {
        MergeRounding::PeftSafe => Rounding::DeltaFirst,
        MergeRounding::Peft if group.peft_rounds_delta => Rounding::DeltaFirst,
        _ => Rounding::Once,
    };
    let Group { dora, terms, rows: replaced, .. } = group;
    let compute = Compute { rows, cols, dora, terms, replaced, rounding, ..Compute::cast(tensor) };
    Ok(OutputTensor { info, recipe: Recipe::Compute(Box::new(compute)) })
}

/// `wanted` for tensors of numbers; integers and what cannot be decoded keep their dtype.
fn output_dtype(kept: DType, wanted: Option<DType>) -> DType {
    wanted.filter(|_| refuse::holds_numbers(kept)).unwrap_or(kept)
}
