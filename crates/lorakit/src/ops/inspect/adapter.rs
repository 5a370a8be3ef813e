//! The report on an adapter.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use lorakit_tensor::Reader;
use serde::Serialize;

use super::{
    DTypeCount, FitReport, Grid, InspectOptions, ModuleReport, SavedReport, TargetReport, TokenRowsReport,
    audit, compare, count_dtypes, go_on, grid, target, values,
};
use crate::adapter::{Adapter, Module, Scaling};
use crate::lineage::{self, Ancestry};
use crate::ops::convert::adapter::copies;
use crate::plan::Progress;
use crate::{Base, Finding, Result, Severity, TensorRef, report};

/// An adapter, described and audited.
#[derive(Debug, Clone, Serialize)]
pub struct AdapterReport {
    /// The path as it was given.
    #[serde(serialize_with = "report::path")]
    pub path: PathBuf,
    /// The tensor file.
    #[serde(serialize_with = "report::path")]
    pub file: PathBuf,
    /// Size of the tensor file in bytes.
    pub bytes: u64,
    /// How many modules there are of each method, e.g. `DoRA`; with IA3 and OFT, which multiply weights.
    pub methods: BTreeMap<&'static str, usize>,
    /// How many modules have each rank.
    #[serde(serialize_with = "super::serialise::ranks")]
    pub ranks: BTreeMap<usize, usize>,
    /// How many modules have each alpha, ascending.
    #[serde(serialize_with = "super::serialise::numbers")]
    pub alphas: Vec<(f64, usize)>,
    /// How many modules have each scale, ascending.
    #[serde(serialize_with = "super::serialise::numbers")]
    pub scales: Vec<(f64, usize)>,
    /// Number of values of all tensors.
    pub parameters: u64,
    /// Number of tensors.
    pub tensors: usize,
    /// Dtypes, most bytes first.
    pub dtypes: Vec<DTypeCount>,
    /// `base_model_name_or_path`.
    pub base_model: Option<String>,
    /// The format it is in, e.g. `peft`.
    pub format: &'static str,
    /// The PEFT version that wrote it.
    pub peft_version: Option<String>,
    /// The record of where it came from.
    pub lineage: Option<Ancestry>,
    /// `task_type`.
    pub task: Option<String>,
    /// How the factors were initialised; `true` for the usual way.
    pub init: String,
    /// Whether values were read.
    #[serde(rename = "values_read")]
    pub norms: bool,
    /// How it fits the base, if one was given.
    pub fit: Option<FitReport>,
    /// Whether the requested runtime takes it.
    #[serde(rename = "for")]
    pub target: Option<TargetReport>,
    /// The low-rank modules, in layer order.
    pub modules: Vec<ModuleReport>,
    /// The modules by layer and kind; positions are those of `modules`.
    #[serde(skip)]
    pub grids: Vec<Grid>,
    /// Parameters saved whole.
    pub saved: Vec<SavedReport>,
    /// Full deltas of parameters.
    pub deltas: Vec<SavedReport>,
    /// Trained token rows.
    pub token_rows: Vec<TokenRowsReport>,
    /// What the audit turned up, gravest first.
    pub findings: Vec<Finding>,
}

impl SavedReport {
    fn of(name: String, tensor: &TensorRef) -> Self {
        let info = tensor.info();
        SavedReport { name, shape: info.shape.clone(), bytes: info.byte_len() }
    }
}

pub(super) fn report(
    adapter: &Adapter,
    base: Option<&Base>,
    options: &InspectOptions,
    reader: &Reader,
    progress: &dyn Progress,
) -> Result<AdapterReport> {
    go_on(progress)?;
    let config = &adapter.config;
    let mut modules = describe(&adapter.modules);
    let mut findings = audit::headers(adapter, &modules);
    let norms = options.norms || options.spectrum || options.base.is_some();
    if norms {
        findings.extend(values::read(adapter, &mut modules, options.spectrum, progress)?);
    }
    let mut fit = None;
    let mut layers = None;
    match &options.base {
        Some(base) => {
            let compared = compare::with_base(adapter, base, reader, &mut modules, progress)?;
            findings.extend(compared.findings);
            layers = compared.layers;
            fit = Some(compared.fit);
        }
        None => findings.extend(audit::untied_trap(adapter)),
    }
    if let Some(fit) = &mut fit {
        fit.non_finite = findings.iter().filter(|finding| finding.code == "non-finite").count();
    }
    let mut record = None;
    if let Some(checkpoint) = adapter.checkpoint() {
        let (ancestry, notes) = lineage::read(checkpoint, reader);
        record = ancestry;
        findings.extend(notes);
    }
    // Stable: findings of one severity stay in the order of the audit.
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    let faults = findings.iter().filter(|f| f.severity == Severity::Error).count();
    let misfit = fit.as_ref().and_then(|fit: &FitReport| fit.misfit.as_deref());
    let target = match options.runtime {
        None => None,
        Some(runtime) => {
            let mut adapter = adapter.clone();
            // An adapter that must be converted is seen as the conversion sees it.
            if runtime.drops_copies() {
                copies::drop(&mut adapter, options.base.as_deref(), reader)?;
            }
            Some(target::report(runtime, &adapter, base, faults, misfit))
        }
    };
    let paths: Vec<&str> = modules.iter().map(|m| m.path.as_str()).collect();
    let grids = grid::build(&paths, layers);
    let tensors = adapter.tensors();
    Ok(AdapterReport {
        path: adapter.path.clone(),
        format: adapter.format,
        file: adapter.file().unwrap_or(&adapter.path).to_path_buf(),
        bytes: adapter.files().iter().map(|f| f.len()).sum(),
        methods: tally(modules.iter().map(|m| m.method).chain(adapter.multiplied.iter().map(|m| m.method))),
        ranks: tally(modules.iter().map(|m| m.rank)),
        alphas: tally_floats(modules.iter().map(|m| m.alpha)),
        scales: tally_floats(modules.iter().map(|m| m.scale)),
        parameters: adapter.parameters(),
        tensors: tensors.len(),
        dtypes: count_dtypes(tensors.iter().map(TensorRef::info)),
        base_model: config.base_model.clone(),
        peft_version: config.peft_version.clone(),
        lineage: record,
        task: config.task_type.clone(),
        init: config.init.clone(),
        grids,
        modules,
        saved: adapter.saved.iter().map(|s| SavedReport::of(s.name.clone(), &s.tensor)).collect(),
        deltas: adapter.deltas.iter().map(|d| SavedReport::of(d.name(), &d.tensor)).collect(),
        token_rows: adapter
            .token_rows
            .iter()
            .map(|t| TokenRowsReport { path: t.path.clone(), rows: t.rows.clone() })
            .collect(),
        norms,
        fit,
        target,
        findings,
    })
}

pub(super) fn describe(modules: &[Module]) -> Vec<ModuleReport> {
    let places: Vec<_> = modules.iter().map(|m| grid::place(&m.path)).collect();
    let suffix = |i: usize| places[i].as_ref().map_or(modules[i].path.as_str(), |p| p.suffix.as_str());
    let mut suffixes: Vec<&str> = (0..modules.len()).map(suffix).collect();
    suffixes.sort_unstable();
    suffixes.dedup();
    let leaves: HashMap<&str, String> = suffixes.iter().copied().zip(grid::leaves(&suffixes)).collect();
    let one = |(i, m): (usize, &Module)| {
        let (rank, experts) = rank(m);
        ModuleReport {
            path: m.path.clone(),
            layer: places[i].as_ref().map(|p| p.layer),
            leaf: leaves.get(suffix(i)).cloned().unwrap_or_default(),
            method: match (m.magnitude.is_some(), matches!(m.scaling, Scaling::RankStabilised(_))) {
                (false, false) => m.expanded.unwrap_or("LoRA"),
                (false, true) => "rsLoRA",
                (true, false) => "DoRA",
                (true, true) => "rsDoRA",
            },
            rank,
            experts,
            alpha: m.scaling.alpha(rank),
            scale: m.scale(rank),
            a: m.a.info().shape.clone(),
            b: m.b.info().shape.clone(),
            bias: m.bias.is_some(),
            norm: None,
            relative: None,
            targets: Vec::new(),
            spectrum: None,
        }
    };
    modules.iter().enumerate().map(one).collect()
}

/// The rank of a module, and the number of experts if their factors are stacked: `A` then has `E * r` rows.
fn rank(module: &Module) -> (usize, Option<usize>) {
    let rows = module.rank();
    match module.config_rank.map(|r| r as usize) {
        Some(r) if module.is_packed() && r > 0 && rows > r && rows.is_multiple_of(r) => (r, Some(rows / r)),
        _ => (rows, None),
    }
}

fn tally<T: Ord>(values: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts
}

fn tally_floats(values: impl Iterator<Item = f64>) -> Vec<(f64, usize)> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let mut counts: Vec<(f64, usize)> = Vec::new();
    for value in sorted {
        match counts.last_mut() {
            Some((last, count)) if *last == value => *count += 1,
            _ => counts.push((value, 1)),
        }
    }
    counts
}
