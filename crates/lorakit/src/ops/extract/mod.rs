//! The adapter that turns one model into another: low-rank factors of what changed in layers, whole copies of what
//! changed elsewhere.
//!
//! ```text
//!  base  W ─┐                  ┌─ layers ─► randomised SVD, panel by panel ─► rank ─► B, A ─┐
//!           ├─ T - W, by name ─┤                                                            ├─► one adapter
//!  tuned T ─┘                  └─ norms, biases, embeddings ─► saved whole ─────────────────┘
//! ```
//!
//! A weight is passed over once for its norm, six times for its leading triplets (Halko, Martinsson and Tropp, 2011),
//! six times for the largest singular value of noise ([`Rule::Auto`]) and once for what the stored factors leave. Neither
//! it nor the difference is ever in memory as a whole.
//!
//! ```
//! use lorakit::ops::extract::{self, ExtractOptions};
//! use lorakit::ops::merge::{self, MergeOptions, Sum};
//! use lorakit::plan::Silent;
//!
//! let folder = tempfile::tempdir().unwrap();
//! let base = "../../fixtures/golden/peft/bases/llama-f32";
//! let tuned = folder.path().join("tuned");
//! let sum = Sum::new(base, [("../../fixtures/golden/peft/adapters/f32", 1.0)]);
//! merge::plan(&MergeOptions::new(sum, &tuned), &Silent)?.run(0, &Silent)?;
//! let options = ExtractOptions::new(base, &tuned, folder.path().join("adapter"));
//! let extract = extract::compute(&options, &Silent)?;
//! assert!(extract.factored().count() > 0);
//! extract.run(0, &Silent)?;
//! # Ok::<(), lorakit::Error>(())
//! ```

mod bulk;
mod changed;
mod compute;
mod config;
mod difference;
mod noise;
mod notes;
mod options;
mod pair;
pub(crate) mod problem;
mod report;
mod rule;
mod step;

use std::collections::HashSet;

use lorakit_tensor::Reader;

pub use crate::adapter::NamePattern;
pub use changed::{Became, Changed};
pub use options::{Embeddings, ExtractOptions};
pub use report::ExtractReport;
pub use rule::Rule;

use crate::adapter::Adapter;
use crate::fit::{self, FitOptions, Resolver};
use crate::lineage::{Role, percent};
pub use crate::output::{AdapterOutput, AdapterReport, ModuleError};
use crate::output::{Destination, writable};
use crate::plan::{Progress, Stretch, go_on, in_order, pool};
use crate::tensor::Shelf;
use crate::{Base, Error, Finding, Model, Result};
use compute::{Done, jobs};
use pair::pairs;
pub(crate) use problem::Problem;

/// An extraction that is computed and not yet written.
#[derive(Debug)]
pub struct Extract {
    /// What is written.
    pub output: AdapterOutput,
    /// What became of each change, in the order of the base.
    pub changes: Vec<Changed>,
    /// Number of tensors that are the same in both models.
    pub same: usize,
    /// Things worth telling the user.
    pub notes: Vec<Finding>,
}

impl Extract {
    /// The changes with factors.
    pub fn factored(&self) -> impl Iterator<Item = &Changed> {
        self.changes.iter().filter(|c| matches!(c.became, Became::Factors(_)))
    }

    /// Share of the energy of all changes that the adapter holds, and the norm of what it does not hold, relative to
    /// that of all changes.
    pub fn overall(&self) -> (f64, f64) {
        overall(&self.changes)
    }

    /// The norm that rounding to the tuned model's dtype alone is expected to leave, relative to that of all changes.
    pub fn rounding(&self) -> Option<f64> {
        let whole: f64 = self.changes.iter().map(|c| c.norm * c.norm).sum();
        let noise = self.changes.iter().map(|c| c.rounding.map(|r| r * r)).sum::<Option<f64>>()?;
        (whole > 0.0).then(|| (noise / whole).sqrt())
    }

    /// Share of the values of all layers that a merge of the adapter would make equal to the tuned model's, to the bit.
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

/// Computes the adapter. `progress` counts the bytes of the tuned model that are done.
///
/// # Errors
/// [`ErrorKind::Unmatched`](crate::ErrorKind::Unmatched) and [`ErrorKind::Shape`](crate::ErrorKind::Shape) if the
/// models do not have the same tensors; [`ErrorKind::Unchanged`](crate::ErrorKind::Unchanged) if there is no
/// difference; [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite);
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a changed tensor that cannot be decoded; what reading
/// and the format turn up.
pub fn compute(options: &ExtractOptions, progress: &dyn Progress) -> Result<Extract> {
    let format = writable(&options.to)?;
    let reader = &Reader::new(options.mode);
    let base = Model::open_as_hf(&options.base, reader, None)?;
    let tuned = Model::open_as_hf(&options.tuned, reader, None)?;
    let mut step = options.recorded();
    step.model(Role::Base, &base);
    step.model(Role::Tuned, &tuned);
    let mut notes = Vec::new();
    let mut destination = Destination {
        format,
        output: &options.output,
        replace: options.replace,
        dtype: None,
        reader: reader.clone(),
        papers: step.finish(&mut notes),
        beside: Vec::new(),
    };
    go_on(progress, "anything was written")?;
    let pairs = pairs(&base, &tuned, options)?;
    let mut adapter = Adapter::of(Adapter::IN_MEMORY, &options.tuned);
    // The destination's refusals come first, before anything is computed.
    AdapterOutput::new(adapter.clone(), Some(Base::of(&base)), &destination)?;

    let jobs = jobs(&pairs);
    let shelf = Shelf::beside(&options.output);
    progress.begin(jobs.iter().map(compute::Job::bytes).sum());
    let done = pool(options.threads)?.install(|| {
        in_order(&jobs, |job| {
            go_on(progress, "anything was written")?;
            let stretch = Stretch::new(progress, job.bytes());
            let done = job.run(options, &shelf, &stretch)?;
            stretch.finish();
            Ok(done)
        })
    })?;
    let same = done.iter().filter(|done| done.is_none()).count();
    let done: Vec<Done> = done.into_iter().flatten().collect();
    let saved = done.iter().filter(|d| d.changed.became == Became::Saved).map(|d| d.tensor);
    let saved: HashSet<&str> = saved.collect();
    adapter.saved = config::saved(&pairs, &saved)?;
    adapter.modules = done.iter().filter_map(|d| d.module.clone()).collect();
    config::mirror_tied(&mut adapter, &base, &tuned)?;
    adapter.sort();
    notes.extend(notes::of(&done, &adapter, options));
    let names: Vec<&str> = base.tensors().iter().chain(tuned.tensors()).map(|t| t.name.as_str()).collect();
    notes.extend(options.idle(&names).map(notes::idle));
    config::describe(&mut adapter, &base, options);
    notes.extend(crate::ops::expert_notes(&adapter, format.name()));
    let changes: Vec<Changed> = done.iter().map(|d| d.changed.clone()).collect();
    if adapter.modules.is_empty() && adapter.saved.is_empty() {
        return Err(notes::nothing(&changes, options));
    }
    let reached: HashSet<&str> =
        done.iter().filter(|d| d.module.is_some()).map(|d| d.tensor).chain(saved).collect();
    go_on(progress, "anything was written")?;
    fits(&base, &adapter, &reached)?;
    let (energy, residual) = overall(&changes);
    destination.papers.figure("Energy of the difference that it holds", percent(energy));
    destination.papers.figure("What it does not hold, relative to the difference", percent(residual));
    let output = AdapterOutput::new(adapter, Some(Base::of(&base)), &destination)?;
    Ok(Extract { output, changes, same, notes })
}

/// See [`Extract::overall`].
fn overall(changes: &[Changed]) -> (f64, f64) {
    let whole: f64 = changes.iter().map(|c| c.norm * c.norm).sum();
    let lost: f64 = changes.iter().map(|c| (c.norm * c.residual).powi(2)).sum();
    if whole == 0.0 { (1.0, 0.0) } else { (1.0 - lost / whole, (lost / whole).sqrt()) }
}

/// Proves that a merge would put every part of the adapter where it was taken from.
fn fits(base: &Model, adapter: &Adapter, reached: &HashSet<&str>) -> Result<()> {
    let view = Resolver::new(base.tensors(), base.config.as_ref());
    let edits = fit::fit(&view, adapter, FitOptions::default())?;
    let targets: HashSet<&str> = edits.iter().map(|edit| edit.target.as_str()).collect();
    match reached.iter().find(|name| !targets.contains(**name)) {
        None => Ok(()),
        Some(name) => Err(Error::from(Problem::NotPutBack).tensor(name).at(&base.path)),
    }
}

#[cfg(test)]
mod tests;
