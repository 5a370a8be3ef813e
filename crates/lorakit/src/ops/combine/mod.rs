//! Combining adapters into one.
//!
//! ```text
//!                 ┌─ svd: stacked factors ─► QR, SVD ─► the nearest of the rank ─┐
//!  modules, side  ├─ cat: stacked factors ───────────────────────────────────────┤
//!  by side ───────┤                                                              ├─► one adapter
//!                 ├─ A with A, B with B, entry by entry ─────────────────────────┤
//!                 └─ delta with delta, entry by entry ─► the nearest of the rank ┘
//! ```
//!
//! ```
//! use lorakit::Choice;
//! use lorakit::ops::combine::{self, CombineOptions, Method};
//! use lorakit::plan::Silent;
//!
//! let folder = tempfile::tempdir().unwrap();
//! let golden = |name: &str| "../../fixtures/golden/peft/adapters/".to_string() + name;
//! let adapters = vec![(golden("attn-r4").into(), 0.7), (golden("plain").into(), 0.3)];
//! let options = CombineOptions::new(adapters, folder.path().join("both"))
//!     .with_method(Method::from_name("cat").expect("it is in the table"));
//! let combine = combine::compute(&options, &Silent)?;
//! // The sum itself, at the sum of the ranks.
//! assert!(combine.overall() < 1e-6);
//! combine.run(0, &Silent)?;
//! # Ok::<(), lorakit::Error>(())
//! ```

mod chosen;
mod compute;
mod delta;
mod entries;
mod factors;
mod input;
mod interference;
mod method;
mod mix;
mod part;
pub(crate) mod problem;
mod recipe;
mod report;
mod rounded;
mod stack;
mod stacked;
mod whole;

use std::path::PathBuf;

use lorakit_tensor::{DType, ReadMode, Reader};

pub use chosen::Chosen;
pub use interference::Interference;
pub use method::Method;
pub use recipe::{MajoritySign, Mix, Style};
pub use report::CombineReport;

use crate::adapter::{Adapter, repeated};
pub use crate::adapter::{BlockWeight, NamePattern, Strength, Strengths};
use crate::lineage::{Lineage, Step, percent};
use crate::ops::{self, inspect, refuse_weights, truncate};
pub use crate::output::{AdapterOutput, AdapterReport, ModuleError};
use crate::output::{Destination, writable_or_own};
use crate::plan::{Progress, Stretch, go_on, in_order, pool};
use crate::{Base, Choice, Finding, Result, Severity};
use compute::Computation;
use input::Aligned;
pub(crate) use problem::Problem;

/// What to combine, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CombineOptions {
    /// The adapters, folders or files in any format, each with its weight.
    pub adapters: Vec<(PathBuf, f64)>,
    /// The output folder or file.
    pub output: PathBuf,
    /// Name of the format to write; by default the first adapter's, or PEFT's if that is only read.
    pub to: Option<String>,
    /// Replace an output that exists.
    pub replace: bool,
    /// Dtype of the factors; by default the adapters', F32 if they differ, and F32 if that could not hold an exact sum.
    pub dtype: Option<DType>,
    /// The model that the adapters belong to.
    pub base: Option<PathBuf>,
    /// The method.
    pub method: Method,
    /// Whose definitions apply.
    pub style: Style,
    /// The rank of the result, for methods that choose one; by default the highest of the adapters.
    pub rank: Option<usize>,
    /// The share of the entries to keep, above 0 and up to 1, for methods that drop some.
    pub density: Option<f64>,
    /// How signs are elected.
    pub majority: MajoritySign,
    /// The seed of the random numbers; 0 if not given.
    pub seed: Option<u64>,
    /// Which modules of the adapters take part, and how strongly.
    pub strengths: Strengths,
    /// When the output says where it came from.
    pub lineage: Lineage,
    /// Whether an output folder gets a model card.
    pub card: bool,
    /// How the weights were chosen, if by measuring. It is recorded, and changes nothing else.
    pub chosen: Option<Chosen>,
    /// Threads; 0 for one on each core.
    pub threads: usize,
    /// How inputs are read.
    pub mode: ReadMode,
}

impl CombineOptions {
    /// Default options for adapters with their weights and an output: the method `svd`, which comes nearest to their
    /// sum.
    pub fn new(adapters: Vec<(PathBuf, f64)>, output: impl Into<PathBuf>) -> Self {
        CombineOptions {
            adapters,
            output: output.into(),
            to: None,
            replace: false,
            dtype: None,
            base: None,
            method: Method::Svd,
            style: Style::default(),
            rank: None,
            density: None,
            majority: MajoritySign::default(),
            seed: None,
            strengths: Strengths::default(),
            lineage: Lineage::default(),
            card: true,
            chosen: None,
            threads: 0,
            mode: ReadMode::default(),
        }
    }
}

crate::ops::setters! { CombineOptions {
    with_to: to: Option<String>,
    with_replace: replace: bool,
    with_dtype: dtype: Option<DType>,
    with_base: base: Option<PathBuf>,
    with_method: method: Method,
    with_style: style: Style,
    with_rank: rank: Option<usize>,
    with_density: density: Option<f64>,
    with_majority: majority: MajoritySign,
    with_seed: seed: Option<u64>,
    with_strengths: strengths: Strengths,
    with_lineage: lineage: Lineage,
    with_card: card: bool,
    with_chosen: chosen: Option<Chosen>,
    with_threads: threads: usize,
    with_mode: mode: ReadMode,
} }

/// A combination that is computed and not yet written.
#[derive(Debug)]
pub struct Combine {
    /// What is written.
    pub output: AdapterOutput,
    /// The method.
    pub method: Method,
    /// The adapters, in the order given.
    pub adapters: Vec<Part>,
    /// What became of each module; empty for one adapter that stays as it is.
    pub modules: Vec<Combined>,
    /// Every pair of adapters in every module that both have.
    pub interference: Vec<Interference>,
    /// What [`Combined::error`] is measured against.
    pub against: Against,
    /// Things worth telling the user.
    pub notes: Vec<Finding>,
}

/// One of the adapters.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Part {
    /// Its path.
    #[serde(serialize_with = "crate::report::path")]
    pub path: PathBuf,
    /// Its weight.
    pub weight: f64,
    /// Its format.
    pub format: &'static str,
    /// Number of its low-rank modules that take part.
    pub modules: usize,
    /// Number of modules that are left out.
    pub left_out: usize,
    /// Number of modules with a weight of their own.
    pub weighted: usize,
    /// Which modules these are.
    #[serde(skip)]
    pub strength: Strength,
}

/// What became of the modules of one path.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Combined {
    /// The path.
    #[serde(rename = "module")]
    pub path: String,
    /// Its rank in each adapter; `None` for one that lacks it.
    pub ranks_before: Vec<Option<usize>>,
    /// The rank of the result.
    pub rank: usize,
    /// The distance to what [`Combine::against`] names, relative to the norm of that, rounding included (by `linear`, to
    /// four digits).
    pub error: f64,
    /// The norm of what [`Combine::against`] names.
    pub norm: f64,
}

/// What a result is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// The weighted sum of the deltas.
    Sum,
    /// The method's result for the deltas, before it is cut to the rank.
    Mixture,
}

impl Against {
    /// What a card calls the distance to it.
    fn figure(self) -> &'static str {
        match self {
            Against::Sum => "Distance to the weighted sum",
            Against::Mixture => "Distance to the mixture of full rank",
        }
    }
}

impl Combine {
    /// The error of all modules together, relative to their norm.
    pub fn overall(&self) -> f64 {
        truncate::overall_error(self.modules.iter().map(|m| (m.error, m.norm)))
    }

    /// Writes the output: see [`AdapterOutput::run`].
    ///
    /// # Errors
    /// As [`AdapterOutput::run`].
    pub fn run(&self, threads: usize, progress: &dyn Progress) -> Result<AdapterReport> {
        self.output.run(threads, progress)
    }
}

/// Computes a combination. `progress` counts the bytes of factors that are done.
///
/// One adapter is not combined with anything: it is written as it is, its scale multiplied by its weight, whatever the
/// method (PEFT does the same).
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for options that do not belong together;
/// [`ErrorKind::Unmergeable`](crate::ErrorKind::Unmergeable) for DoRA and the like;
/// [`ErrorKind::Shape`](crate::ErrorKind::Shape) and [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) with one line
/// for each module or parameter; what reading and the format turn up.
pub fn compute(options: &CombineOptions, progress: &dyn Progress) -> Result<Combine> {
    check(options)?;
    let reader = &Reader::new(options.mode);
    let base = options.base.as_deref().map(|base| Base::open(base, reader)).transpose()?;
    let open = |(path, weight): &(PathBuf, f64)| {
        go_on(progress, "anything was written")?;
        Ok((input::open(path, reader, base.as_ref())?, *weight))
    };
    let mut adapters: Vec<(Adapter, f64)> = options.adapters.iter().map(open).collect::<Result<_>>()?;
    let format = writable_or_own(options.to.as_deref(), adapters[0].0.format)?;
    let mut step = recorded(options).with("to", format.name());
    step.base(base.as_ref());
    for (adapter, weight) in &adapters {
        step.adapter(adapter, Some(*weight), reader, progress)?;
    }
    let mut notes: Vec<Finding> =
        adapters.iter().flat_map(|(adapter, _)| inspect::other_ranks(adapter)).collect();
    let mut destination = Destination {
        format,
        output: &options.output,
        replace: options.replace,
        dtype: options.dtype,
        reader: reader.clone(),
        papers: step.finish(&mut notes),
        beside: Vec::new(),
    };
    let strengths = options.strengths.apply(adapters.iter_mut().map(|(adapter, _)| adapter))?;
    let whole = strengths.iter().all(|strength| strength.left_out.is_empty());
    let plain = strengths.iter().all(|strength| strength.weighted.is_empty());
    if !plain {
        notes.extend(part::taken_whole(&adapters, &strengths));
    }
    let parts = adapters.iter().zip(strengths).map(|((adapter, weight), strength)| Part {
        path: adapter.path.clone(),
        weight: *weight,
        format: adapter.format,
        modules: adapter.modules.len(),
        left_out: strength.left_out.len(),
        weighted: strength.weighted.len(),
        strength,
    });
    let parts: Vec<Part> = parts.collect();
    if let [(adapter, weight)] = adapters.as_slice()
        && *weight == 1.0
        && plain
        && options.rank.is_none()
        && !(options.style == Style::Peft && adapter.config.use_rslora)
    {
        let mut single =
            if format.packs_experts() { adapter.clone() } else { adapter.clone().unpacked(base.as_ref())? };
        if !whole && format.name() == "peft" {
            part::describe(&mut single);
        }
        notes.extend(single.findings.iter().filter(|f| f.severity != Severity::Error).cloned());
        let output = AdapterOutput::new(single, base, &destination)?;
        let (method, modules, interference) = (options.method, Vec::new(), Vec::new());
        let against = Against::Sum;
        return Ok(Combine { output, method, adapters: parts, modules, interference, against, notes });
    }
    input::refuse(&adapters)?;
    part::separate(&mut adapters, format.packs_experts(), base.as_ref(), progress)?;
    let aligned = input::align(&adapters, options)?;
    notes.extend(input::notes(&adapters, &aligned));
    notes.extend(of_saved(&adapters));
    notes.extend(repeated(&adapters)?);
    notes.extend(adapters.iter().filter_map(|(adapter, weight)| weightless(adapter, *weight)));
    let mut adapter = united(&adapters)?;
    let computation = Computation::new(&adapters, options);
    let compute = |aligned: &Aligned| {
        go_on(progress, "anything was written")?;
        let stretch = Stretch::new(progress, aligned.bytes());
        let computed = computation.of_module(aligned, &stretch)?;
        stretch.finish();
        Ok(computed)
    };
    progress.begin(aligned.iter().map(Aligned::bytes).sum());
    let computed = pool(options.threads)?.install(|| in_order(&aligned, compute))?;
    let (mut modules, mut interference) = (Vec::new(), Vec::new());
    for one in computed {
        adapter.modules.push(one.module);
        modules.push(one.combined);
        interference.extend(one.interference);
    }
    if !interference.is_empty() && interference.iter().all(Interference::cancels) {
        let message = "the weighted deltas cancel each other: what is left is rounding";
        notes.push(Finding::new(Severity::Warning, "cancelled", "", message));
    }
    if !whole && format.name() == "peft" {
        part::describe(&mut adapter);
    }
    notes.extend(ops::expert_notes(&adapter, format.name()));
    let against = computation.against();
    let error = truncate::overall_error(modules.iter().map(|m| (m.error, m.norm)));
    destination.papers.figure(against.figure(), percent(error));
    options.chosen.iter().for_each(|chosen| destination.papers.figure(Chosen::FIGURE, chosen.figure()));
    let output = AdapterOutput::new(adapter, base, &destination)?;
    let method = options.method;
    Ok(Combine { output, method, adapters: parts, modules, interference, against, notes })
}

/// Refuses options that do not belong together.
fn check(options: &CombineOptions) -> Result<()> {
    let by = options.method.in_style(options.style);
    let method = options.method.name();
    if options.adapters.is_empty() {
        return Err(Problem::Nothing.into());
    }
    refuse_weights(&options.adapters)?;
    if options.rank.is_some() && !by.has_rank() {
        return Err(Problem::Rank { method }.into());
    }
    // Large deltas are decomposed from a random start, which matters if entries are picked.
    if options.seed.is_some() && !by.is_random() && !matches!(by, Method::Deltas(_)) {
        return Err(Problem::Seed { method }.into());
    }
    if options.majority != MajoritySign::default() && !by.elects_signs() {
        return Err(Problem::Majority { method }.into());
    }
    match options.density {
        None if by.has_density() && options.adapters.len() > 1 => Err(Problem::NoDensity { method }.into()),
        Some(_) if !by.has_density() => Err(Problem::Density { method }.into()),
        Some(density) if !(density > 0.0 && density <= 1.0) => Err(Problem::DensityRange { density }.into()),
        _ => Ok(()),
    }
}

/// Warns of an adapter that has no part in the result.
fn weightless(adapter: &Adapter, weight: f64) -> Option<Finding> {
    let message = "weight 0 adds nothing of its deltas";
    let subject = adapter.path.display().to_string();
    (weight == 0.0).then(|| Finding::new(Severity::Warning, "weight-zero", &subject, message))
}

fn of_saved(adapters: &[(Adapter, f64)]) -> Vec<Finding> {
    let whole = adapters.iter().any(|(a, _)| !a.saved.is_empty() || !a.token_rows.is_empty());
    let message = "parameters that are saved whole are taken over as they are, whatever the weights";
    let note = Finding::new(Severity::Note, "saved-whole", "", message);
    if whole { vec![note] } else { Vec::new() }
}

/// The first adapter with what all replace, without its modules, and with a configuration that does not mention them.
fn united(adapters: &[(Adapter, f64)]) -> Result<Adapter> {
    let (saved, token_rows) = whole::united(adapters)?;
    let mut adapter = adapters[0].0.with_modules(Vec::new());
    let raw = &mut adapter.config.raw;
    if adapters.len() > 1 {
        const OF_ONE: &[&str] = &[
            "target_modules",
            "target_parameters",
            "exclude_modules",
            "layers_to_transform",
            "layers_pattern",
            "modules_to_save",
            "trainable_token_indices",
            "init_lora_weights",
            "lora_bias",
        ];
        // Of these, keeps only what all adapters agree on.
        let agreed = |name: &str| {
            adapters.iter().all(|(a, _)| a.config.raw.get(name) == adapters[0].0.config.raw.get(name))
        };
        raw.retain(|name, _| !OF_ONE.contains(&name.as_str()) || agreed(name));
        adapter.metadata.clear();
    }
    (adapter.saved, adapter.token_rows) = (saved, token_rows);
    // Several adapters with full deltas are refused.
    adapter.deltas.clone_from(&adapters[0].0.deltas);
    Ok(adapter)
}

/// What the output says about how it was made.
fn recorded(options: &CombineOptions) -> Step {
    let method = options.method.in_style(options.style);
    let random = method.is_random() || matches!(method, Method::Deltas(_));
    let style = Some(options.style.name()).filter(|_| options.style != Style::Fixed);
    let majority = Some(options.majority.name())
        .filter(|_| method.elects_signs() && options.majority != MajoritySign::Total);
    // One adapter is not combined with anything, whatever the method; only whether its rank is cut depends on it.
    let several = options.adapters.len() > 1;
    Step::new("combine", options.lineage)
        .card(options.card)
        .with("method", (several || options.rank.is_some()).then(|| options.method.name()))
        .with("style", style)
        .with("rank", options.rank)
        .with("density", options.density.filter(|_| several))
        .with("majority", majority.filter(|_| several))
        .with("seed", (several && random).then_some(options.seed.unwrap_or(0)))
        .with_all(options.strengths.recorded())
        .with("dtype", options.dtype.map(DType::name))
        .with("chosen", options.chosen.as_ref())
}

#[cfg(test)]
mod tests;
