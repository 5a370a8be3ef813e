//! The adapter that turns one model into another: low-rank factors of what changed in layers, whole copies of what
//! changed elsewhere.
//!
//! ```text
//!  base  W ─┐                  ┌─ layers ─► randomised SVD, panel by panel ─► rank ─► B, A ─┐
//!           ├─ T - W, by name ─┤                                                            ├─► one adapter
//!  tuned T ─┘                  └─ norms, biases, embeddings ─► saved whole ─────────────────┘
//! ```
//!
//! A weight is passed over once for its norm, six times for its leading triplets (Halko, Martinsson and Tropp, 2011)
//! and once for what the stored factors leave. Neither it nor the difference is ever in memory as a whole.

mod compute;
mod config;
mod difference;
mod pair;
mod rule;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use lorakit_tensor::{DType, ReadMode};
use rayon::prelude::*;

pub use rule::Rule;

use crate::adapter::{Adapter, Base, Finding, Severity};
use crate::fit::{self, BaseView, FitOptions};
pub use crate::ops::publish_adapter::{AdapterOutput, AdapterReport, ModuleError};
use crate::ops::publish_adapter::{Destination, writable};
use crate::plan::{Progress, pool};
use crate::{Error, ErrorKind, Model, Result};
use compute::{Done, jobs};
use pair::{Role, module_of, pairs};

/// What to extract, and how.
#[derive(Debug, Clone)]
pub struct ExtractOptions {
    /// The model that training started from: a folder or file.
    pub base: PathBuf,
    /// The model that came out.
    pub tuned: PathBuf,
    /// The output folder or file.
    pub output: PathBuf,
    /// Name of the format to write.
    pub to: String,
    /// Replace an output that exists.
    pub replace: bool,
    /// Dtype of the factors.
    pub dtype: DType,
    /// How ranks are chosen.
    pub rule: Rule,
    /// No module gets more, whatever the rule says.
    pub max_rank: Option<usize>,
    /// What becomes of embeddings.
    pub embeddings: Embeddings,
    /// Tensors that stay as they are in the base.
    pub skip: Vec<NamePattern>,
    /// Threads; 0 for one on each core.
    pub threads: usize,
    /// How inputs are read.
    pub mode: ReadMode,
}

/// What becomes of an embedding that changed. Output embeddings are layers like others, unless the vocabulary grew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embeddings {
    /// It is saved whole.
    Whole,
    /// It gets factors.
    Factors,
    /// It stays as it is in the base.
    Skip,
}

/// A regular expression that some part of a tensor's name matches.
#[derive(Debug, Clone)]
pub struct NamePattern(fancy_regex::Regex);

impl FromStr for NamePattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |e| Error::new(ErrorKind::Usage, format!("`{text}` is no regular expression: {e}"));
        fancy_regex::Regex::new(text).map(NamePattern).map_err(wrong)
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl ExtractOptions {
    /// Options that find ranks by themselves, for a folder of PEFT's with factors in F32.
    pub fn new(base: &Path, tuned: &Path, output: &Path) -> Self {
        ExtractOptions {
            base: base.into(),
            tuned: tuned.into(),
            output: output.into(),
            to: "peft".into(),
            replace: false,
            dtype: DType::F32,
            rule: Rule::Auto,
            max_rank: None,
            embeddings: Embeddings::Whole,
            skip: Vec::new(),
            threads: 0,
            mode: ReadMode::default(),
        }
    }

    /// Whether a tensor of that name is not wanted. A pattern that gives up on a name does not match it.
    fn skips(&self, name: &str) -> bool {
        self.skip.iter().any(|pattern| pattern.0.is_match(name).unwrap_or(false))
    }

    fn role_of_whole(&self, name: &str) -> Role {
        let embedding = fit::is_embedding(module_of(name)) && self.embeddings == Embeddings::Skip;
        if self.skips(name) || embedding { Role::LeftOut } else { Role::Whole }
    }
}

/// An extraction that is computed and not yet written.
#[derive(Debug)]
pub struct Extract {
    /// What is written.
    pub output: AdapterOutput,
    /// What became of each change, in the order of the base.
    pub changes: Vec<Changed>,
    /// Number of tensors that both models have the same.
    pub same: usize,
    /// Things worth telling the user.
    pub notes: Vec<Finding>,
}

/// What became of the change of one module, or of one tensor.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The module's path; of what is no module, the tensor's name.
    pub name: String,
    /// What it became.
    pub became: Became,
    /// Rows and columns of the weight.
    pub shape: (usize, usize),
    /// `||T - W||`, Frobenius; of a new tensor `||T||`.
    pub norm: f64,
    /// `||T - W|| / ||W||`; `None` for a new tensor.
    pub relative: Option<f64>,
    /// `||T - W - B A|| / ||T - W||`, with the factors as they are stored.
    pub residual: f64,
    /// The norm that rounding `T` to its dtype is expected to have, if errors are independent of the values; `None` if
    /// it is quantised.
    pub rounding: Option<f64>,
    /// Share of the values of a merge, in the dtype of `T`, that are those of `T`; `None` for quantised tensors.
    pub identical: Option<f64>,
}

/// What a change became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// Factors of this rank.
    Factors(usize),
    /// A whole copy of the tuned tensor.
    Saved,
    /// Nothing: it is no more than rounding leaves.
    Noise,
    /// Nothing: it was not wanted.
    LeftOut,
}

impl Became {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Became::Factors(_) => "factors",
            Became::Saved => "saved",
            Became::Noise => "noise",
            Became::LeftOut => "left_out",
        }
    }

    /// The rank; 0 without factors.
    pub fn rank(self) -> usize {
        if let Became::Factors(rank) = self { rank } else { 0 }
    }
}

/// Relative change above which the two models have little to do with each other.
const UNLIKE: f64 = 0.5;

impl Extract {
    /// The changes with factors.
    pub fn factored(&self) -> impl Iterator<Item = &Changed> {
        self.changes.iter().filter(|c| matches!(c.became, Became::Factors(_)))
    }

    /// Share of the energy of all changes that the adapter holds, and the norm of what it does not hold relative to that
    /// of all changes.
    pub fn overall(&self) -> (f64, f64) {
        let whole: f64 = self.changes.iter().map(|c| c.norm * c.norm).sum();
        let lost: f64 = self.changes.iter().map(|c| (c.norm * c.residual).powi(2)).sum();
        if whole == 0.0 { (1.0, 0.0) } else { (1.0 - lost / whole, (lost / whole).sqrt()) }
    }

    /// The norm that rounding to the tuned model's dtype alone is expected to leave, relative to that of all changes.
    pub fn rounding(&self) -> Option<f64> {
        let whole: f64 = self.changes.iter().map(|c| c.norm * c.norm).sum();
        let noise = self.changes.iter().map(|c| c.rounding.map(|r| r * r)).sum::<Option<f64>>()?;
        (whole > 0.0).then(|| (noise / whole).sqrt())
    }

    /// Share of the values of all layers that a merge of the adapter would make those of the tuned model, to the bit.
    pub fn identical(&self) -> Option<f64> {
        let size = |c: &Changed| (c.shape.0 * c.shape.1) as f64;
        let known = || self.changes.iter().filter_map(|c| Some((size(c), c.identical?)));
        let all: f64 = known().map(|(size, _)| size).sum();
        (all > 0.0).then(|| known().map(|(size, share)| size * share).sum::<f64>() / all)
    }

    /// Writes the output: see [`AdapterOutput::run`].
    ///
    /// # Errors
    /// As [`AdapterOutput::run`].
    pub fn run(&self, threads: usize, progress: &dyn Progress) -> Result<AdapterReport> {
        self.output.run(threads, progress)
    }
}

/// Computes the adapter. `progress` hears of the bytes of the tuned model that are done.
///
/// # Errors
/// [`ErrorKind::Unmatched`] and [`ErrorKind::Shape`] if the tensors are not the same; [`ErrorKind::Unchanged`] if there is
/// no difference; [`ErrorKind::NonFinite`]; [`ErrorKind::Unsupported`] for a changed tensor that cannot be decoded; what
/// reading and the format turn up.
pub fn plan(options: &ExtractOptions, progress: &dyn Progress) -> Result<Extract> {
    let format = writable(&options.to)?;
    let base = Model::open_as_hf(&options.base, options.mode, None)?;
    let tuned = Model::open_as_hf(&options.tuned, options.mode, None)?;
    let destination = Destination {
        format,
        output: &options.output,
        replace: options.replace,
        dtype: None,
        inputs: base.inputs().into_iter().chain(tuned.inputs()).map(Path::to_path_buf).collect(),
        mode: options.mode,
    };
    let pairs = pairs(&base, &tuned, options)?;
    let mut adapter = Adapter::of("peft", &options.tuned, tuned.checkpoint());
    // What the place refuses, before anything is computed.
    AdapterOutput::new(adapter.clone(), Some(Base::of(&base)), &destination)?;

    let jobs = jobs(&pairs);
    let done = pool(options.threads)?.install(|| {
        let each = jobs.par_iter().map(|job| {
            if progress.cancelled() {
                return Err(Error::new(ErrorKind::Interrupted, "stopped before anything was written"));
            }
            let done = job.run(options)?;
            progress.advance(job.bytes());
            Ok(done)
        });
        each.collect::<Result<Vec<_>>>()
    })?;
    let same = done.iter().filter(|done| done.is_none()).count();
    let done: Vec<Done> = done.into_iter().flatten().collect();
    let saved: HashSet<&str> = done.iter().filter(|d| d.saved.is_some()).map(|d| d.tensor).collect();
    adapter.saved = config::saved(&pairs, &saved);
    adapter.modules = done.iter().filter_map(|d| d.module.clone()).collect();
    config::mirror_tied(&mut adapter, &base, &tuned)?;
    adapter.sort();
    let notes = notes(&done, &adapter, options);
    config::describe(&mut adapter, &base, options);
    let changes: Vec<Changed> = done.iter().map(|d| d.changed.clone()).collect();
    if adapter.modules.is_empty() && adapter.saved.is_empty() {
        return Err(nothing(&changes, options));
    }
    let reached: HashSet<&str> =
        done.iter().filter(|d| d.module.is_some() || d.saved.is_some()).map(|d| d.tensor).collect();
    fits(&base, &adapter, &reached)?;
    let output = AdapterOutput::new(adapter, Some(Base::of(&base)), &destination)?;
    Ok(Extract { output, changes, same, notes })
}

fn nothing(changes: &[Changed], options: &ExtractOptions) -> Error {
    let message = match changes {
        [] => "holds what the base holds, so there is nothing to extract".into(),
        _ if changes.iter().any(|c| c.became == Became::LeftOut) => {
            format!("differs from the base in {}, none of which is wanted", counted(changes.len(), "tensor"))
        }
        _ => {
            let tensors = counted(changes.len(), "tensor");
            format!("differs from the base in {tensors}, in none by more than rounding leaves")
        }
    };
    Error::new(ErrorKind::Unchanged, message).at(&options.tuned)
}

/// Proves that a merge would put every part of the adapter where it was taken from.
fn fits(base: &Model, adapter: &Adapter, reached: &HashSet<&str>) -> Result<()> {
    let view = BaseView::new(base.tensors(), base.config.as_ref());
    let edits = fit::fit(&view, adapter, FitOptions::default())?;
    let targets: HashSet<&str> = edits.iter().map(|edit| edit.target.as_str()).collect();
    match reached.iter().find(|name| !targets.contains(**name)) {
        None => Ok(()),
        Some(name) => {
            let message = "was taken apart, and a merge would not put it together again";
            Err(Error::new(ErrorKind::Verification, message).tensor(name).at(&base.path))
        }
    }
}

/// `1 module`, `2 modules`.
fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// What a user should know beside the numbers.
fn notes(done: &[Done<'_>], adapter: &Adapter, options: &ExtractOptions) -> Vec<Finding> {
    let mut notes = Vec::new();
    let mut say = |severity, code, subject: &str, message: String| {
        notes.push(Finding::new(severity, code, subject, message));
    };
    let changed = || done.iter().map(|d| &d.changed);
    let count = |which: Became| changed().filter(|c| c.became == which).count();
    let (moved, all) =
        done.iter().fold((0.0, 0.0), |(moved, all), d| (moved + d.sums.delta, all + d.sums.base));
    if moved > UNLIKE * UNLIKE * all && all > 0.0 {
        let message = format!(
            "the models differ by {:.0} % of the base's norm: is this the base that training started from?",
            100.0 * (moved / all).sqrt()
        );
        say(Severity::Warning, "unlike", "", message);
    }
    if count(Became::Noise) > 0 {
        let message = format!(
            "no factors for {}, which the noise of rounding does not tell from the base",
            counted(count(Became::Noise), "layer")
        );
        say(Severity::Note, "noise", "", message);
    }
    if count(Became::LeftOut) > 0 {
        let lost: f64 = changed().filter(|c| c.became == Became::LeftOut).map(|c| c.norm * c.norm).sum();
        let message = format!(
            "{} left out as asked: {:.2} % of the energy of all changes",
            counted(count(Became::LeftOut), "change"),
            100.0 * lost / moved.max(f64::MIN_POSITIVE)
        );
        say(Severity::Note, "left-out", "", message);
    }
    let (full, most) = changed().fold((0, 0), |(full, most), c| {
        let (rank, (rows, cols)) = (c.became.rank(), c.shape);
        (full + usize::from(rank * (rows + cols) > rows * cols), most.max(rank))
    });
    if full > 0 && !matches!(options.rule, Rule::Rank(_)) {
        let message = format!(
            "factors larger than the weight in {} (rank up to {most}): the change is of no low rank; `--rank` beside \
             the rule caps it",
            counted(full, "module")
        );
        say(Severity::Warning, "full-rank", "", message);
    }
    if options.rule == Rule::Auto && done.iter().any(|d| d.module.is_some() && d.sums.rounding.is_none()) {
        let message =
            "the tuned model is quantised: noise is what looks like it, since its level is not known";
        say(Severity::Note, "noise-unknown", "", message.into());
    }
    let bytes = |which: &dyn Fn(&str) -> bool| -> u64 {
        let saved = adapter.saved.iter().filter(|saved| which(module_of(&saved.name)));
        saved.map(|saved| saved.tensor.info().byte_len()).sum()
    };
    let vocabulary = bytes(&|path| fit::is_embedding(path) || fit::is_head(path));
    let factors: u64 = adapter.modules.iter().map(|m| m.a.info().byte_len() + m.b.info().byte_len()).sum();
    if vocabulary > factors + bytes(&|_| true) - vocabulary {
        let message = format!(
            "embeddings are saved whole and take {:.1} MB, more than all else; `--embeddings factors` makes that small",
            vocabulary as f64 / 1e6
        );
        say(Severity::Note, "whole-embeddings", "", message);
    }
    for saved in &adapter.saved {
        let leaf = saved.name.rsplit('.').next().unwrap_or_default();
        if !matches!(leaf, "weight" | "bias") {
            let message = "is a parameter that PEFT takes from no adapter; a merge with lorakit does";
            say(Severity::Warning, "saved-parameter", &saved.name, message.into());
        }
    }
    notes
}

#[cfg(test)]
mod tests;
