//! What an adapter or a model says about itself.

use std::collections::BTreeSet;
use std::path::Path;

use lorakit::adapter::Adapter;
use lorakit::card::Card;
use lorakit::lineage::{self, Ancestry, Record, Role};
use lorakit::ops::inspect::{self, AdapterReport, InspectOptions, Inspection, ModelReport};
use lorakit::plan::Progress;
use lorakit::{Finding, Model, ReadMode, Reader};
use lorakit_tensor::TensorSource as _;

use super::{AddOptions, Error, Facts, Kind, Problem, Result, note, refuse_non_finite};
use crate::facts::{BaseFacts, Noted};

/// Most bytes of a record in a manifest, and most findings.
const LARGEST_RECORD: usize = 256 << 10;
const MOST_FINDINGS: usize = 20;

/// The facts of the adapter or model at `place`, which is a copy of `source`.
pub(crate) fn facts(
    place: &Path,
    source: &Path,
    options: &AddOptions,
    notes: &mut Vec<Finding>,
    progress: &dyn Progress,
) -> Result<Facts> {
    // By position: a file that is cut short is then an error, not a fault of the process.
    let mode = ReadMode::Positioned;
    let mut inspected = InspectOptions::new().with_norms(true).with_mode(mode);
    inspected.base = options.base.clone();
    let reader = &Reader::new(mode);
    let (mut facts, findings, record) = match inspect::inspect(place, &inspected, progress)? {
        Inspection::Adapter(report) => {
            let adapter = Adapter::open(place, reader, None)?;
            progress.begin(adapter.tensors().iter().map(|tensor| tensor.info().byte_len()).sum());
            let weights = lineage::digest_of(&adapter, progress)?;
            let facts = Facts { weights: Some(weights), ..of_adapter(&report, place) };
            if let Some(reason) = report.fit.as_ref().and_then(|fit| fit.misfit.clone()) {
                return Err(Error::from(Problem::BaseShape { reason }).at(source));
            }
            (facts, report.findings, report.lineage)
        }
        Inspection::Model(report) => {
            let model = Model::open(place, reader)?;
            progress.begin(report.bytes);
            let weights = lineage::weights::digest(model.checkpoint().as_ref(), progress)?;
            (Facts { weights: Some(weights), ..of_model(&report) }, report.findings, report.lineage)
        }
    };
    let as_given = |text: &str| text.replace(&place.display().to_string(), &source.display().to_string());
    let findings = findings.into_iter().take(MOST_FINDINGS);
    facts.findings = findings
        .map(|finding| Noted {
            severity: finding.severity.to_string(),
            code: finding.code.to_string(),
            message: as_given(&finding.to_string()),
        })
        .collect();
    if !options.allow_non_finite {
        refuse_non_finite(&facts, source)?;
    }
    let folder = if place.is_dir() { Some(place) } else { None };
    facts.licence = folder.and_then(|folder| licence(folder, reader));
    describe(&mut facts, record.as_ref());
    if let Some(base) = &options.base {
        compare(&mut facts, record.as_ref(), base, reader, options, notes, progress)?;
    }
    reader.check_unchanged()?;
    Ok(facts)
}

fn of_adapter(report: &AdapterReport, place: &Path) -> Facts {
    let targets: BTreeSet<&str> = report.modules.iter().map(|module| module.leaf.as_str()).collect();
    let norms = report.modules.iter().map(|module| module.norm).collect::<Option<Vec<f64>>>();
    let norm = norms.map(|norms| norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt());
    let ranks: Vec<f64> = report.ranks.keys().map(|rank| *rank as f64).collect();
    let firsts = |pairs: &[(f64, usize)]| pairs.iter().map(|(value, _)| *value).collect::<Vec<f64>>();
    Facts {
        kind: Kind::Adapter,
        methods: report.methods.keys().map(ToString::to_string).collect(),
        format: Some(report.format.to_string()),
        rank: range(&ranks),
        alpha: range(&firsts(&report.alphas)),
        scale: range(&firsts(&report.scales)),
        targets: targets.into_iter().map(str::to_string).collect(),
        params: Some(report.parameters),
        dtypes: report.dtypes.iter().map(|count| count.dtype.name().to_string()).collect(),
        norm: norm.filter(|norm| norm.is_finite() && !report.modules.is_empty()),
        base: BaseFacts {
            name: report.base_model.clone().filter(|name| !lorakit::adapter::is_local_path(name)),
            revision: revision(place),
            ..BaseFacts::default()
        },
        ..Facts::default()
    }
}

fn of_model(report: &ModelReport) -> Facts {
    Facts {
        kind: Kind::Merged,
        format: Some(report.format.to_string()),
        params: Some(report.parameters),
        dtypes: report.dtypes.iter().map(|count| count.dtype.name().to_string()).collect(),
        ..Facts::default()
    }
}

/// `16`, or `8..32`.
fn range(values: &[f64]) -> Option<String> {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match values {
        [] => None,
        _ if least == most => Some(least.to_string()),
        _ => Some(format!("{least}..{most}")),
    }
}

/// The commit of the base that PEFT's configuration states.
fn revision(place: &Path) -> Option<String> {
    let text = std::fs::read(place.join("adapter_config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_slice(&text).ok()?;
    config["revision"].as_str().filter(|revision| !revision.is_empty()).map(str::to_string)
}

fn licence(folder: &Path, reader: &Reader) -> Option<String> {
    Card::read(folder, reader, &mut Vec::new())?.license().map(str::to_string)
}

/// Completes the facts with what the record says.
fn describe(facts: &mut Facts, ancestry: Option<&Ancestry>) {
    let Some(record) = ancestry.and_then(Ancestry::record) else { return };
    facts.op = Some(record.verb.clone());
    if let Some(base) = base_of(&record) {
        facts.base.digest = facts.base.digest.take().or(base.weights);
        facts.base.revision = facts.base.revision.take().or(base.revision);
        facts.base.form = base.trained_as.map(|form| form.quant);
        if facts.base.name.is_none() && base.name.contains('/') {
            facts.base.name = Some(base.name);
        }
    }
    let text = serde_json::to_string(&ancestry).unwrap_or_default();
    facts.lineage = (text.len() <= LARGEST_RECORD).then_some(text);
}

/// The base whose weights a record knows: that of the step itself, or of the adapters it was made from if they agree.
pub(crate) fn base_of(record: &Record) -> Option<lineage::Parent> {
    if let Some(base) =
        record.parents.iter().find(|parent| parent.role == Role::Base && parent.weights.is_some())
    {
        return Some(base.clone());
    }
    let adapters = record.parents.iter().filter(|parent| parent.role == Role::Adapter);
    let mut bases = adapters.filter_map(|parent| base_of(&parent.lineage.as_ref()?.record()?));
    let first = bases.next()?;
    bases.all(|base| base.weights == first.weights).then_some(first)
}

/// Compares the base that was named with the one that the record names.
fn compare(
    facts: &mut Facts,
    ancestry: Option<&Ancestry>,
    base: &Path,
    reader: &Reader,
    options: &AddOptions,
    notes: &mut Vec<Finding>,
    progress: &dyn Progress,
) -> Result<()> {
    let model = Model::open(base, reader)?;
    let files = model.checkpoint().as_ref();
    progress.begin(files.tensors().iter().map(lorakit_tensor::TensorInfo::byte_len).sum());
    let found = lineage::weights::digest(files, progress)?;
    let recorded = ancestry.and_then(Ancestry::record).as_ref().and_then(base_of);
    let known: Vec<String> = recorded
        .into_iter()
        .flat_map(|parent| parent.weights.into_iter().chain(parent.trained_as.map(|form| form.weights)))
        .collect();
    let name = lineage::name_of(&model);
    match known.first() {
        Some(_) if known.contains(&found) => {}
        Some(expected) => {
            let by = "its record".to_string();
            let problem = Problem::Base { found: found.clone(), expected: expected.clone(), by };
            if !options.allow_base_mismatch {
                return Err(Error::from(problem).at(base));
            }
            notes.push(note("base-mismatch", problem.to_string()));
            return Ok(());
        }
        None => match &facts.base.name {
            Some(stated) if *stated != name => {
                notes.push(note(
                    "base-name",
                    format!("it states the base `{stated}`, and `{name}` was named"),
                ));
            }
            _ => {}
        },
    }
    facts.base.digest = Some(found);
    facts.base.name = facts.base.name.take().or(Some(name));
    Ok(())
}
