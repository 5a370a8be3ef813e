//! What only the values of an adapter show: NaN and infinity, factors that were never trained, norms.

use std::collections::{HashMap, HashSet};

use super::norm::product_norm_sq;
use super::traits::Traits;
use super::{ModuleReport, Spectrum, go_on, kinds, twins};
use crate::adapter::factors::of_linalg;
use crate::adapter::{Adapter, Module};
use crate::plan::{Progress, in_order};
use crate::{ErrorKind, Finding, Result, Severity, TensorRef};

/// What one pass over a tensor finds.
enum State {
    Finite,
    Zero,
    /// Number of NaN and infinite values.
    NonFinite(u64),
    /// Stored in a dtype that has no decoder.
    Opaque(String),
}

/// What one pass over the factors of a module finds.
struct Factors {
    a: State,
    b: State,
    norm: Option<f64>,
    traits: Option<Traits>,
}

/// Reads every value once. Enters norms in `reports`, and spectra if `spectra` is set.
pub(super) fn read(
    adapter: &Adapter,
    reports: &mut [ModuleReport],
    spectra: bool,
    progress: &dyn Progress,
) -> Result<Vec<Finding>> {
    let expert_major = adapter.config.has_expert_major();
    progress.begin(adapter.modules.iter().map(Module::factor_bytes).sum());
    let factors = in_order(adapter.modules.iter().zip(&mut *reports), |(module, report)| {
        go_on(progress)?;
        let factors = factors(module, report, expert_major)?;
        progress.advance(module.factor_bytes());
        Ok(factors)
    })?;
    // The factors may be views of tensors of the file, which then are read as they are.
    let read: HashMap<(&str, u64), &State> = adapter
        .modules
        .iter()
        .zip(&factors)
        .flat_map(|(module, found)| [(&module.a, &found.a), (&module.b, &found.b)])
        .map(|(tensor, state)| ((tensor.info().name.as_str(), tensor.info().elements()), state))
        .collect();
    let key =
        |tensor: &TensorRef| read.get(&(tensor.info().name.as_str(), tensor.info().elements())).copied();
    let tensors = adapter.numbers();
    let others: Vec<&TensorRef> = tensors.iter().filter(|tensor| key(tensor).is_none()).collect();
    progress.begin(others.iter().map(|tensor| tensor.info().byte_len()).sum());
    let mut scanned = in_order(&others, |tensor| {
        go_on(progress)?;
        let state = scan(tensor)?;
        progress.advance(tensor.info().byte_len());
        Ok(state)
    })?
    .into_iter();
    let mut findings = Vec::new();
    let mut zero = HashSet::new();
    for tensor in &tensors {
        let info = tensor.info();
        let own = if key(tensor).is_none() { scanned.next() } else { None };
        match own.as_ref().or(key(tensor)).unwrap_or(&State::Finite) {
            State::Finite => {}
            State::Zero => drop(zero.insert(info.name.clone())),
            State::NonFinite(count) => {
                let message = format!("holds NaN or infinity: {count} of its {} values", info.elements());
                findings.push(Finding::new(Severity::Error, "non-finite", &info.name, message));
            }
            State::Opaque(why) => {
                findings.push(Finding::new(Severity::Error, "dtype", &info.name, why.clone()));
            }
        }
    }
    let is_zero = |tensor: &TensorRef| zero.contains(&tensor.info().name);
    let untrained: Vec<&Module> = adapter.modules.iter().filter(|m| is_zero(&m.b) || is_zero(&m.a)).collect();
    findings.extend(untrained_finding(&untrained, adapter.modules.len()));
    if adapter.modules.iter().any(|m| m.magnitude.is_some()) {
        let message = "DoRA: norms are those of scale * B * A; the magnitudes change the weight further";
        findings.push(Finding::new(Severity::Note, "dora", "", message));
    }
    let mut traits = Vec::with_capacity(factors.len());
    for (found, report) in factors.into_iter().zip(&mut *reports) {
        report.norm = found.norm;
        if spectra {
            report.spectrum = found.traits.as_ref().map(|traits| Spectrum::new(traits.values.clone()));
        }
        traits.push(found.traits);
    }
    findings.extend(kinds::findings(adapter, reports, &traits));
    findings.extend(twins::findings(adapter, &traits, progress)?);
    Ok(findings)
}

/// Reads both factors, and computes what they show unless one is not finite.
fn factors(module: &Module, report: &ModuleReport, expert_major: bool) -> Result<Factors> {
    let (a, a_values) = decoded(&module.a)?;
    let (b, b_values) = decoded(&module.b)?;
    let mut found = Factors { a, b, norm: None, traits: None };
    let (Some(a), Some(b)) = (a_values, b_values) else { return Ok(found) };
    let (ranks, inputs) = module.a.info().rows_cols();
    let (outputs, b_ranks) = module.b.info().rows_cols();
    if b_ranks != ranks || a.is_empty() || b.is_empty() {
        return Ok(found);
    }
    if module.is_packed() || report.experts.is_some() {
        found.norm = Some(stacked_norm(report, (ranks, inputs, &a), (outputs, &b), expert_major));
        return Ok(found);
    }
    let traits = Traits::of(report.scale, (ranks, inputs, &a), (outputs, &b));
    let traits = traits.map_err(|e| of_linalg(&e, &module.path))?;
    found.norm = Some(traits.norm);
    found.traits = Some(traits);
    Ok(found)
}

/// The values of a factor, if all of them are numbers.
fn decoded(tensor: &TensorRef) -> Result<(State, Option<Vec<f32>>)> {
    let values = match tensor.values() {
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok((opaque(tensor), None)),
        other => other?,
    };
    let bad = values.iter().filter(|value| !value.is_finite()).count();
    if bad > 0 {
        return Ok((State::NonFinite(bad as u64), None));
    }
    let zero = !values.is_empty() && values.iter().all(|value| *value == 0.0);
    Ok((if zero { State::Zero } else { State::Finite }, Some(values)))
}

fn opaque(tensor: &TensorRef) -> State {
    State::Opaque(format!("is stored as {}, which cannot be decoded to numbers", tensor.info().dtype))
}

/// Any other tensor, of which only a piece is in memory.
fn scan(tensor: &TensorRef) -> Result<State> {
    let scan = match tensor.scan() {
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(opaque(tensor)),
        other => other?,
    };
    Ok(match (scan.non_finite, scan.zero && tensor.info().elements() > 0) {
        (0, true) => State::Zero,
        (0, false) => State::Finite,
        (count, _) => State::NonFinite(count),
    })
}

fn untrained_finding(untrained: &[&Module], total: usize) -> Option<Finding> {
    let first = untrained.first()?;
    let (subject, message) = match untrained.len() {
        n if n == total => {
            ("", "every module has an all-zero factor: it was never trained and changes nothing".into())
        }
        1 => (
            first.path.as_str(),
            "has an all-zero factor: it was never trained and changes nothing".to_string(),
        ),
        n => (
            "",
            format!(
                "{n} of {total} modules (`{}`, ...) have an all-zero factor and change nothing",
                first.path
            ),
        ),
    };
    Some(Finding::new(Severity::Warning, "untrained", subject, message))
}

/// `||scale * B * A||` of stacked experts, summed.
fn stacked_norm(
    report: &ModuleReport,
    (ranks, inputs, a): (usize, usize, &[f32]),
    (outputs, b): (usize, &[f32]),
    expert_major: bool,
) -> f64 {
    let mut columns = vec![0.0f32; b.len()];
    for (row, values) in b.chunks_exact(ranks).enumerate() {
        for (k, value) in values.iter().enumerate() {
            columns[k * outputs + row] = *value;
        }
    }
    let a: Vec<&[f32]> = a.chunks_exact(inputs).collect();
    let b: Vec<&[f32]> = columns.chunks_exact(outputs).collect();
    let Some(experts) = report.experts else {
        return report.scale.abs() * product_norm_sq(&a, &b).sqrt();
    };
    let rank = report.rank;
    let sum: f64 = (0..experts)
        .map(|e| {
            let own = e * rank..(e + 1) * rank;
            let columns: Vec<&[f32]> = if expert_major {
                b[own.clone()].to_vec()
            } else {
                (0..rank).map(|k| b[k * experts + e]).collect()
            };
            product_norm_sq(&a[own], &columns)
        })
        .sum();
    report.scale.abs() * sum.sqrt()
}
