//! Merging adapters into a base model.
//!
//! Every output tensor is one recipe: copied if no adapter touches it, else decoded, all deltas added in f32, and
//! rounded once. Coverage is proved from headers before anything is read: each adapter tensor has exactly one
//! home, each base tensor is written exactly once.

mod files;
mod group;
mod options;
mod output;
pub(crate) mod problem;
mod refuse;
mod report;
mod ruin;
mod sum;
mod tied;
mod undo;
mod vocabulary;

use std::collections::HashSet;
use std::path::PathBuf;

use lorakit_tensor::{DType, Reader};

pub use crate::fit::MoeLayout;
pub use options::{MIN_RETENTION, MergeOptions};
pub use report::MergeReport;
pub(crate) use sum::{Form, Sums, sums};
pub use sum::{MergeRounding, Sum};
pub use tied::Tied;
pub use undo::ResidueReport;

use super::MAX_SHARD;
use super::quantize::{Chosen, Quantization, recorded};
pub use crate::adapter::{BlockWeight, NamePattern, Strength, Strengths};
use crate::lineage::{self, Role, Step};
use crate::plan::{Plan, Progress, Report, go_on, overall};
use crate::{Finding, Model, Result, Severity};
use output::Output;
pub(crate) use problem::Problem;
pub(super) use refuse::unmergeable as refuse_unmergeable;

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
    /// What each tensor became, if types were chosen.
    pub chosen: Vec<Chosen>,
    /// Things worth telling the user.
    pub notes: Vec<Finding>,
    /// Of the edited ones, those that an adapter replaces as a whole.
    replaced: usize,
    /// Whether adapters are only taken away, and as a whole as far as is known.
    undoes: bool,
    min_retention: f64,
}

/// An adapter, as described after a merge.
#[derive(Debug, Clone, serde::Serialize)]
pub struct MergedAdapter {
    /// Its path as it was given.
    #[serde(serialize_with = "crate::report::path")]
    pub path: PathBuf,
    /// Its weight.
    pub weight: f64,
    /// Number of modules that take part: low-rank ones, and those whose weights are multiplied.
    pub modules: usize,
    /// Number of tensors saved whole and of token sets.
    pub saved: usize,
    /// Number of full deltas that take part.
    pub deltas: usize,
    /// Number of modules that are left out.
    pub left_out: usize,
    /// Number of modules with a weight of their own.
    pub weighted: usize,
    /// For one that is taken out: the weight at which the base holds it, if the record of the base tells; 0 if that says
    /// that it does not.
    pub held: Option<f64>,
    /// Which modules these are.
    #[serde(skip)]
    pub strength: Strength,
}

/// Opens everything, finds each tensor's home and plans the output.
///
/// # Errors
/// Every refusal of a merge: see [`ErrorKind`](crate::ErrorKind);
/// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) if `progress` asks to stop.
pub fn plan(options: &MergeOptions, progress: &dyn Progress) -> Result<Merge> {
    let form = Form { dtype: options.dtype, quantization: options.quantization.as_ref() };
    let reader = &Reader::new(options.mode);
    let mut step = step(options, reader, progress)?;
    let sums = sums(&options.sum, &form, reader, progress)?;
    let options = &MergeOptions { dtype: sums.dtype, ..options.clone() };
    let Sums { base, adapters, strengths, tensors, added, edited, replaced, untied, mut notes, .. } = sums;
    step.model(Role::Base, &base);
    for (adapter, weight) in &adapters {
        step.adapter(adapter, Some(*weight), reader, progress)?;
    }
    notes.extend(other_forms(&step, &base));
    let recognised = undo::recognise(&base, &adapters, &step, &mut notes, progress)?;
    let whole = recognised.iter().flatten().all(|recognised| recognised.whole);
    let undoes = whole && undo::undoes(&adapters, &strengths);
    let papers = step.finish(&mut notes).of_model();
    let output = output::of(&base, &adapters, tensors, &untied, options, &mut notes)?;
    go_on(progress, "anything was written")?;
    for name in &added {
        let class = base.config.as_ref().and_then(|c| c.architecture()).unwrap_or("the base's class");
        let message = format!(
            "is not in the base model and is added; `config.json` still says {class}: set `architectures` (and \
             `num_labels`) to the class that has it"
        );
        notes.push(Finding::new(Severity::Warning, "added-tensor", name, message));
    }
    let Output { target, container, tensors, side_files, chosen, .. } = output;
    let plan = Plan::with_papers(target, options.replace, reader, container, tensors, side_files, papers)?;
    let plan = plan.checking_copies(options.check_finite)?;
    let described = adapters.iter().zip(strengths).zip(recognised);
    let adapters = described.map(|(((adapter, weight), strength), recognised)| MergedAdapter {
        path: adapter.path.clone(),
        weight: *weight,
        modules: adapter.modules.len() + adapter.multiplied.len(),
        saved: adapter.saved.len() + adapter.token_rows.len(),
        deltas: adapter.deltas.len(),
        left_out: strength.left_out.len(),
        weighted: strength.weighted.len(),
        held: recognised.map(|recognised| recognised.held),
        strength,
    });
    let min_retention = options.min_retention;
    let adapters = adapters.collect();
    Ok(Merge { plan, adapters, edited, replaced, added, chosen, notes, undoes, min_retention })
}

/// A note for each adapter that was trained on another form of the base.
fn other_forms(step: &Step, base: &Model) -> Vec<Finding> {
    let form = lineage::form_of(base);
    let note = |(adapter, parent): (String, lineage::Parent)| {
        let trained = parent.trained_as.map(|trained| trained.quant).unwrap_or_default();
        let message = format!(
            "was trained on `{}` as {trained}, and this base is stored as {form}: what it learned makes up for the rounding \
             of that form, which the merged model does not have",
            parent.name.escape_debug(),
        );
        Finding::new(Severity::Note, "other-form", &adapter, message)
    };
    step.trained_on_other(&form).into_iter().map(note).collect()
}

/// What the output says about how it was made, before its inputs are opened.
fn step(options: &MergeOptions, reader: &Reader, progress: &dyn Progress) -> Result<Step> {
    let sum = &options.sum;
    let rounding = match sum.rounding {
        MergeRounding::Once => "once",
        MergeRounding::Peft => "peft",
        MergeRounding::PeftSafe => "peft-safe",
    };
    let tied = match sum.tied {
        Tied::Untie => "untie",
        Tied::Share => "share",
    };
    let layout = match sum.moe_layout {
        MoeLayout::Auto => None,
        MoeLayout::RankMajor => Some("rank_major"),
        MoeLayout::ExpertMajor => Some("expert_major"),
    };
    let gguf = matches!(options.quantization, Some(Quantization::Gguf { .. }));
    let step = Step::new("merge", options.lineage)
        .card(options.card)
        .with("rounding", rounding)
        .with("tied", tied)
        .with("moe_layout", layout)
        .with("residual_base", sum.residual_base.then_some(true))
        .with_all(sum.strengths.recorded())
        .with("dtype", options.dtype.map(DType::name))
        .with("pre", options.pre.as_deref().filter(|_| gguf))
        .with("max_shard", Some(options.max_shard).filter(|max| !gguf && *max != MAX_SHARD));
    match &options.quantization {
        Some(quantization) => recorded(step, quantization, reader, progress),
        None => Ok(step),
    }
}

impl Merge {
    /// Number of tensors of the output that hold something other than the base's, as a run found.
    pub fn changed(&self, report: &Report) -> usize {
        self.replaced + report.retention.iter().filter(|tensor| tensor.retention.moved > 0).count()
    }

    /// What rounding is expected to leave of adapters that are taken out of the model, which only a run shows. `None` if
    /// something else is added, if the record of the base says that one of them was not merged so, or if no tensor that
    /// they touch is stored as floats.
    pub fn residue(&self, report: &Report) -> Option<ResidueReport> {
        let residue = overall(&report.retention).residue;
        (self.undoes && residue.values > 0).then(|| residue.into())
    }

    /// Doubts that only the values seen by a run can raise.
    pub fn doubts(&self, report: &Report) -> Vec<Finding> {
        let matrices = self.plan.tensors().filter(|tensor| tensor.info.shape.len() > 1);
        let matrices: HashSet<&str> = matrices.map(|tensor| tensor.info.name.as_str()).collect();
        ruin::doubts(&report.retention, |name| matrices.contains(name))
    }

    /// Writes the output and, if enough of the adapters is in it, publishes it.
    ///
    /// # Errors
    /// As [`Plan::run`]; [`ErrorKind::Retention`](crate::ErrorKind::Retention) if less than
    /// [`MergeOptions::min_retention`] survived.
    pub fn run(&self, threads: usize, progress: &dyn Progress) -> Result<Report> {
        let written = self.plan.write(threads, progress)?;
        refuse::lost(&written.report().retention, self.min_retention, self.plan.target().path())?;
        written.publish()
    }
}
