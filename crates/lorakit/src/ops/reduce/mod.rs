//! Lowering the rank of an adapter: the best approximation of each module (Eckart and Young, 1936), with ranks by
//! module or from one budget for all.
//!
//! ```text
//!  B (m, r) ─► Q_b R_b ─┐
//!                       ├─► U S V of R_b R_aᵀ (r, r) ─► ranks ─► B' (m, k), A' (k, n)
//!  A (r, n) ─► Q_a R_a ─┘                         (one module, or all)
//! ```
//!
//! The delta, `(m, n)`, is never formed.
//!
//! ```
//! use lorakit::ops::reduce::{self, ReduceOptions, Rule};
//! use lorakit::plan::Silent;
//!
//! let folder = tempfile::tempdir().unwrap();
//! let options =
//!     ReduceOptions::new("../../fixtures/golden/peft/adapters/attn-r4", folder.path().join("small"), Rule::Rank(2));
//! let reduce = reduce::compute(&options, &Silent)?;
//! let (energy, _) = reduce.overall();
//! assert!(energy > 0.5 && energy < 1.0);
//! reduce.run(0, &Silent)?;
//! # Ok::<(), lorakit::Error>(())
//! ```

mod bits;
mod budget;
mod options;
pub(crate) mod problem;
mod reduced;
mod report;
mod rule;
mod size;
mod work;

pub use lorakit_linalg::rank::{KohyaEdition, KohyaRule};
use lorakit_tensor::{DType, Reader};

pub use options::ReduceOptions;
pub use reduced::Reduced;
pub use report::ReduceReport;
pub use rule::Rule;
pub use size::Alternative;

use crate::adapter::format;
use crate::adapter::{Adapter, Module};
use crate::lineage::{Step, percent};
use crate::ops::truncate::overall_error;
use crate::ops::{self, inspect, refuse_repeated};
pub use crate::output::{AdapterOutput, AdapterReport, ModuleError};
use crate::output::{Destination, check_dtype, writable_or_own};
use crate::plan::{Progress, go_on, pool};
use crate::tensor::Shelf;
use crate::{Base, Error, Finding, Result, Severity};
use bits::is_quantised;
pub(crate) use problem::Problem;
use size::{Choice, Job};
use work::Work;

/// A reduction that is computed and not yet written.
#[derive(Debug)]
pub struct Reduce {
    /// What is written.
    pub output: AdapterOutput,
    /// Format of the input.
    pub from: &'static str,
    /// What became of each module.
    pub modules: Vec<Reduced>,
    /// Bytes of the input's tensor files.
    pub bytes: u64,
    /// With one budget for all modules: the energy per parameter (or byte) of the best omitted triplet.
    pub level: Option<f64>,
    /// Where dtypes were chosen as well: what each could do with the size, and which was taken.
    pub alternatives: Vec<Alternative>,
    /// Things worth telling the user.
    pub notes: Vec<Finding>,
}

impl Reduce {
    /// Parameters of all factors, before and after.
    pub fn parameters(&self) -> (u64, u64) {
        let sum = |rank: fn(&Reduced) -> usize| self.modules.iter().map(|m| m.parameters(rank(m))).sum();
        (sum(|m| m.rank_before), sum(|m| m.rank))
    }

    /// Share of the whole adapter's energy that is kept, and its error relative to its norm.
    pub fn overall(&self) -> (f64, f64) {
        overall(&self.modules)
    }

    /// Writes the output: see [`AdapterOutput::run`].
    ///
    /// # Errors
    /// As [`AdapterOutput::run`].
    pub fn run(&self, threads: usize, progress: &dyn Progress) -> Result<AdapterReport> {
        self.output.run(threads, progress)
    }
}

/// Computes the reduction of an adapter. `progress` counts the bytes of factors that are done.
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for a budget below rank 1;
/// [`ErrorKind::Unmergeable`](crate::ErrorKind::Unmergeable) for methods whose factors are not a product;
/// [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite); what reading and the format turn up.
pub fn compute(options: &ReduceOptions, progress: &dyn Progress) -> Result<Reduce> {
    let reader = &Reader::new(options.mode);
    let base = options.base.as_deref().map(|base| Base::open(base, reader)).transpose()?;
    let files = format::open(&options.source, reader)?;
    let read = format::read(&files, base.as_ref())?;
    read.check()?;
    refuse(&read)?;
    refuse_repeated(&read)?;
    let from = read.format;
    let packed = read.modules.iter().any(Module::is_packed);
    let to = writable_or_own(options.to.as_deref(), from)?;
    let mut step = options.rule.recorded(Step::new("reduce", options.lineage).card(options.card));
    check_dtype(to, options.dtype)?;
    let trades = options.trades(to);
    let dtype = if trades { Some("auto") } else { options.dtype.map(DType::name) };
    step = step.with("max_rank", options.max_rank).with("dtype", dtype);
    step = step.with("to", to.name());
    step.base(base.as_ref());
    step.adapter(&read, None, reader, progress)?;
    let mut notes: Vec<Finding> = inspect::other_ranks(&read).collect();
    let papers = step.finish(&mut notes);
    let mut adapter = if to.packs_experts() { read.split()? } else { read };
    let apart = adapter.modules.iter().any(Module::is_packed);
    if apart || !to.packs_experts() {
        adapter = adapter.unpacked(base.as_ref())?;
    }
    let mut destination = Destination {
        format: to,
        output: &options.output,
        replace: options.replace,
        // Blocks are encoded when they are computed, since that is a part of the error.
        dtype: options.dtype.filter(|dtype| !is_quantised([*dtype; 2])),
        reader: reader.clone(),
        papers,
        beside: Vec::new(),
    };
    // As long as any: the size of the card counts.
    put_figures(&mut destination, "99.99 %", "99.99 %");
    go_on(progress, "anything was written")?;
    // The refusals of the format and the destination come first, before anything is computed.
    let ones = Choice::same(vec![1; adapter.modules.len()], options.dtype);
    AdapterOutput::new(size::with_ranks(&adapter, &ones, &destination)?, base.clone(), &destination)?;
    notes.extend(adapter.notes());
    notes.extend(said_of(&adapter, packed && (apart || !to.packs_experts())));
    let dtypes = |module: &Module| (module.a.info().dtype, module.b.info().dtype);
    let before: Vec<_> = adapter.modules.iter().map(dtypes).collect();
    let pool = pool(options.threads)?;
    let (modules, traded) = pool.install(|| -> Result<_> {
        let mut traded = if options.rule.is_global() {
            let job = Job { adapter: &adapter, base: base.as_ref(), to: &destination, progress };
            Some(budget::spent(job, options, trades)?)
        } else {
            None
        };
        let work = Work {
            options,
            to: &destination,
            alpha: size::alpha(&adapter, to),
            shelf: Shelf::beside(&options.output),
            progress,
        };
        let whole = adapter.modules.clone();
        let mut modules = work.reduce(&mut adapter.modules, traded.as_ref().map(|traded| &traded.choice))?;
        if let Some((floats, place, lost)) = traded.as_mut().and_then(|traded| traded.floats.take()) {
            // Losses to blocks were estimated. They are known now, and those of rank alone were certain.
            let found: f64 = modules.iter().map(|m| (m.error * m.norm).powi(2)).sum();
            if found > lost {
                adapter.modules = whole;
                modules = work.reduce(&mut adapter.modules, Some(&floats))?;
                traded.iter_mut().for_each(|traded| traded.take(place));
            }
        }
        Ok((modules, traded))
    })?;
    let level = traded.as_ref().map(|traded| traded.level);
    let alternatives = traded.map_or_else(Vec::new, |traded| traded.alternatives);
    forget_old(&mut adapter);
    notes.extend(misses(options, &modules));
    notes.extend(ops::expert_notes(&adapter, to.name()));
    let is_same =
        |(module, dtypes): (&Reduced, &_)| module.rank == module.rank_before && module.dtypes == *dtypes;
    if modules.iter().zip(&before).all(is_same) {
        let message = "every module keeps its rank; nothing was reduced";
        notes.push(Finding::new(Severity::Note, "nothing-reduced", "", message));
    }
    let bytes = files.source.files().iter().map(lorakit_tensor::Storage::len).sum();
    let (energy, error) = overall(&modules);
    put_figures(&mut destination, &percent(energy), &percent(error));
    let output = AdapterOutput::new(adapter, base, &destination)?;
    Ok(Reduce { output, from, modules, bytes, level, alternatives, notes })
}

/// Puts energy and error into the model card.
fn put_figures(destination: &mut Destination<'_>, energy: &str, error: &str) {
    destination.papers.figure("Energy kept by the reduction", energy);
    destination.papers.figure("Error of the reduction", error);
}

/// See [`Reduce::overall`].
fn overall(modules: &[Reduced]) -> (f64, f64) {
    let sum = |value: fn(&Reduced) -> f64| modules.iter().map(value).sum::<f64>();
    let whole = sum(|m| m.norm * m.norm);
    if whole == 0.0 {
        return (1.0, 0.0);
    }
    let kept = sum(|m| m.energy * m.norm * m.norm);
    (kept / whole, overall_error(modules.iter().map(|m| (m.error, m.norm))))
}

/// Refuses what has no low-rank product to reduce.
fn refuse(adapter: &Adapter) -> Result<()> {
    if adapter.modules.is_empty() {
        let tensors = adapter.saved.len() + adapter.token_rows.len() + adapter.deltas.len();
        let problem = if tensors == 0 { Problem::Nothing } else { Problem::OnlyWhole { tensors } };
        return Err(Error::from(problem).at(&adapter.path));
    }
    // These change when and for which inputs the product is added, not what it is.
    let harmless = |option: &&String| {
        option.starts_with("alora_invocation_tokens") || option.starts_with("arrow_config")
    };
    match adapter.config.unmergeable.iter().find(|option| !harmless(option)) {
        None => Ok(()),
        Some(option) => {
            Err(Error::from(ops::Problem::NotAProduct { option: option.clone() }).at(&adapter.path))
        }
    }
}

fn said_of(adapter: &Adapter, packed: bool) -> Vec<Finding> {
    let note = |code, message: &str| Finding::new(Severity::Note, code, "", message);
    let mut notes = Vec::new();
    if adapter.modules.iter().any(|module| module.magnitude.is_some()) {
        let message = "its magnitudes (DoRA) are kept; energy and error are those of the low-rank part";
        notes.push(note("dora-magnitudes", message));
    }
    if packed {
        let message = "experts that shared a module are written as a module for each";
        notes.push(note("experts-unpacked", message));
    }
    notes
}

/// Drops what kohya's header says about the old factors; its writer fills in what is true of the new ones.
fn forget_old(adapter: &mut Adapter) {
    let old = |name: &str| matches!(name, "ss_network_dim" | "ss_network_alpha") || name.starts_with("sshs_");
    adapter.metadata.retain(|name, _| !old(name));
}

/// Modules whose stored dtype is too coarse for the error that was asked for.
fn misses(options: &ReduceOptions, modules: &[Reduced]) -> Vec<Finding> {
    let Rule::MaxError(allowed) = options.rule else { return Vec::new() };
    let over: Vec<&Reduced> = modules.iter().filter(|m| m.error > allowed * (1.0 + 1e-6)).collect();
    let Some(worst) = over.iter().max_by(|a, b| a.error.total_cmp(&b.error)) else { return Vec::new() };
    let limited = options.max_rank.is_some_and(|limit| worst.rank >= limit);
    let why = if limited {
        format!("rank {} is the highest allowed", worst.rank)
    } else {
        "values are rounded to the stored dtype".into()
    };
    let error = match worst.error {
        error if error < 1e-3 => format!("{error:.1e}"),
        error => format!("{error:.3}"),
    };
    let which = match over.len() {
        1 => String::new(),
        n => format!("the largest of the {n} modules "),
    };
    let message = format!("its error is {error}, {which}above the {allowed} that was asked for: {why}");
    vec![Finding::new(Severity::Warning, "error-above-limit", &worst.path, message)]
}

#[cfg(test)]
mod tests;
