//! Taking adapters out of a model again: a merge with a negative weight.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::adapter::{Adapter, Strength};
use crate::lineage::{self, Options, Record, Role, Step};
use crate::plan::{Progress, Residue};
use crate::{DType, Finding, Model, Result, Severity};

/// Options of a merge without which the same adapter would be another delta.
const DECISIVE: &[&str] = &["rounding", "moe_layout", "only", "skip", "block_weights"];

/// Weights that were meant to add up to nothing, such as 0.1 + 0.2 - 0.3, add up to less.
const TINY: f64 = 1e-12;

/// What rounding is expected to leave of adapters that are taken out of a model.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ResidueReport {
    /// Number of weights that the adapters touch.
    pub touched: u64,
    /// Expected share of these that are not what they were before the adapters were merged.
    pub differing_share: f64,
    /// Expected norm of the differences.
    pub norm: f64,
    /// The same, relative to the norm of the weights.
    pub relative: Option<f64>,
    /// No difference is larger than this.
    pub largest: f64,
}

impl From<Residue> for ResidueReport {
    fn from(residue: Residue) -> Self {
        ResidueReport {
            touched: residue.values,
            differing_share: residue.share(),
            norm: residue.norm(),
            relative: residue.relative(),
            largest: residue.largest,
        }
    }
}

/// Whether the adapters are only taken away.
pub(super) fn undoes(adapters: &[(Adapter, f64)], strengths: &[Strength]) -> bool {
    adapters.iter().all(|(_, weight)| *weight < 0.0)
        && strengths.iter().all(|strength| strength.weighted.iter().all(|(_, own)| *own > 0.0))
}

/// The dtype of the values to which deltas were added to make tensor `index`: its own, if it is stored as floats.
pub(super) fn original(base: &Model, index: usize) -> Option<DType> {
    let dtype = base.tensors()[index].dtype;
    let packed = base.packing.as_ref().is_some_and(|packing| packing.contains(index));
    (matches!(dtype, DType::F32 | DType::F16 | DType::BF16) && !packed).then_some(dtype)
}

/// What the record of a model says about an adapter of negative weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Recognised {
    /// The weight at which the model holds it.
    pub(super) held: f64,
    /// Whether all of it is taken out, and nothing else.
    pub(super) whole: bool,
}

/// The merges of one adapter into a model.
#[derive(Debug, Clone, Default)]
struct Held<'r> {
    /// The sum of the weights at which it was merged.
    weight: f64,
    /// The options of the last merge.
    options: Option<&'r Options>,
}

/// What the record of `base` says about each adapter of negative weight; `None` for other adapters, and without a
/// record. Findings say the same.
///
/// # Errors
/// If an adapter cannot be read; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
pub(super) fn recognise(
    base: &Model,
    adapters: &[(Adapter, f64)],
    step: &Step,
    notes: &mut Vec<Finding>,
    progress: &dyn Progress,
) -> Result<Vec<Option<Recognised>>> {
    let negative = |(_, weight): &(Adapter, f64)| *weight < 0.0;
    let chain = match adapters.iter().any(negative) {
        true => chain(base),
        false => Vec::new(),
    };
    if chain.is_empty() {
        return Ok(vec![None; adapters.len()]);
    }
    let mut found = Vec::with_capacity(adapters.len());
    for (adapter, weight) in adapters {
        if *weight >= 0.0 {
            found.push(None);
            continue;
        }
        let held = held(&chain, &lineage::digest_of(adapter, progress)?);
        let differs = held.options.and_then(|then| differs(adapter, then, step.options()));
        let whole = held.weight != 0.0 && (held.weight + weight).abs() < TINY && differs.is_none();
        found.push(Some(Recognised { held: held.weight, whole }));
        notes.push(differs.unwrap_or_else(|| finding(base, adapter, *weight, &held)));
    }
    Ok(found)
}

/// The steps that made a model, the last one first.
fn chain(model: &Model) -> Vec<Record> {
    let (ancestry, _) = lineage::read(model.checkpoint(), model.reader());
    let mut next = ancestry.and_then(|ancestry| ancestry.record());
    let mut chain = Vec::new();
    while let Some(record) = next {
        let model = record.parents.iter().find(|parent| parent.role != Role::Adapter);
        next = model.and_then(|parent| parent.lineage.as_ref()?.record());
        chain.push(record);
    }
    chain
}

fn held<'r>(chain: &'r [Record], digest: &str) -> Held<'r> {
    let mut held = Held::default();
    for record in chain.iter().filter(|record| record.verb == "merge") {
        let same = record.parents.iter().filter(|parent| parent.weights.as_deref() == Some(digest));
        for parent in same {
            held.weight += parent.weight.unwrap_or(1.0);
            held.options.get_or_insert(&record.options);
        }
    }
    if held.weight.abs() < TINY {
        held.weight = 0.0;
    }
    held
}

fn finding(base: &Model, adapter: &Adapter, weight: f64, held: &Held<'_>) -> Finding {
    let model = base.path.display();
    let left = held.weight + weight;
    let (severity, code, message) = if held.options.is_none() {
        let message = format!(
            "the record of `{model}` does not say that it was merged: with weight {weight} nothing is taken out, its \
             opposite is put in"
        );
        (Severity::Warning, "not-merged", message)
    } else if held.weight == 0.0 {
        let message = format!("the record of `{model}` says that it was taken out before");
        (Severity::Warning, "not-merged", message)
    } else if left.abs() < TINY {
        let message = format!(
            "is taken out again: the record of `{model}` says that it was merged at weight {}",
            held.weight
        );
        (Severity::Note, "undo", message)
    } else {
        let message = format!(
            "the record of `{model}` says that it was merged at weight {}: at {weight} it is left in at {left}",
            held.weight
        );
        (Severity::Warning, "undo-in-part", message)
    };
    Finding::new(severity, code, &adapter.path.display().to_string(), message)
}

/// Warns of options that make the delta another one than was merged.
fn differs(adapter: &Adapter, then: &Options, now: &Options) -> Option<Finding> {
    let of = |options: &Options| -> BTreeMap<String, String> {
        let decisive = options.iter().filter(|(name, _)| DECISIVE.contains(name));
        decisive.map(|(name, value)| (name.to_string(), value)).collect()
    };
    let (then, now) = (of(then), of(now));
    let said = |options: &BTreeMap<String, String>, name: &str| {
        options.get(name).map_or_else(|| "none".to_string(), |value| format!("`{value}`"))
    };
    let other = DECISIVE.iter().filter(|name| then.get(**name) != now.get(**name));
    let other: Vec<String> = other
        .map(|name| {
            format!("{} was {} and is {}", name.replace('_', " "), said(&then, name), said(&now, name))
        })
        .collect();
    (!other.is_empty()).then(|| {
        let message = format!("was merged otherwise than it is taken out: {}", other.join("; "));
        Finding::new(Severity::Warning, "undo-differs", &adapter.path.display().to_string(), message)
    })
}
