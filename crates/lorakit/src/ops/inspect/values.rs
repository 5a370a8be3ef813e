//! What only the values of an adapter show: NaN and infinity, factors that were never trained, norms.

use std::collections::HashSet;

use super::norm::product_norm_sq;
use super::{ModuleReport, go_on};
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

/// Reads every value once for the audit, and the factors again for the norms, which it enters in `reports`.
pub(super) fn read(
    adapter: &Adapter,
    reports: &mut [ModuleReport],
    progress: &dyn Progress,
) -> Result<Vec<Finding>> {
    let tensors = adapter.numbers();
    progress.begin(tensors.iter().map(|tensor| tensor.info().byte_len()).sum());
    let states = in_order(&tensors, |tensor| {
        go_on(progress)?;
        let state = state(tensor)?;
        progress.advance(tensor.info().byte_len());
        Ok(state)
    })?;
    let mut findings = Vec::new();
    let (mut zero, mut bad) = (HashSet::new(), HashSet::new());
    for (tensor, state) in tensors.iter().zip(&states) {
        let info = tensor.info();
        let name = info.name.as_str();
        match state {
            State::Finite => continue,
            State::Zero => {
                zero.insert(name);
                continue;
            }
            State::NonFinite(count) => {
                let message = format!("holds NaN or infinity: {count} of its {} values", info.elements());
                findings.push(Finding::new(Severity::Error, "non-finite", name, message));
            }
            State::Opaque(why) => findings.push(Finding::new(Severity::Error, "dtype", name, why.clone())),
        }
        bad.insert(name);
    }
    let is = |set: &HashSet<&str>, tensor: &TensorRef| set.contains(tensor.info().name.as_str());
    let untrained: Vec<&Module> =
        adapter.modules.iter().filter(|m| is(&zero, &m.b) || is(&zero, &m.a)).collect();
    findings.extend(untrained_finding(&untrained, adapter.modules.len()));
    if adapter.modules.iter().any(|m| m.magnitude.is_some()) {
        let message = "DoRA: norms are those of scale * B * A; the magnitudes change the weight further";
        findings.push(Finding::new(Severity::Note, "dora", "", message));
    }
    let expert_major = adapter.config.moe_b_layout.as_deref() == Some("expert_major");
    progress.begin(adapter.modules.iter().map(Module::factor_bytes).sum());
    in_order(adapter.modules.iter().zip(reports), |(module, report)| {
        go_on(progress)?;
        if !is(&bad, &module.a) && !is(&bad, &module.b) {
            report.norm = delta_norm(module, report, expert_major)?;
        }
        progress.advance(module.factor_bytes());
        Ok(())
    })?;
    Ok(findings)
}

fn state(tensor: &TensorRef) -> Result<State> {
    let scan = match tensor.scan() {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            let dtype = tensor.info().dtype;
            return Ok(State::Opaque(format!("is stored as {dtype}, which cannot be decoded to numbers")));
        }
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

/// `||scale * B * A||`; stacked experts are summed. `None` if `B` is not an `(out, r)` matrix.
fn delta_norm(module: &Module, report: &ModuleReport, expert_major: bool) -> Result<Option<f64>> {
    let (ranks, inputs) = module.a.info().rows_cols();
    let (outputs, b_ranks) = module.b.info().rows_cols();
    if b_ranks != ranks {
        return Ok(None);
    }
    let (a, b) = (module.a.values()?, module.b.values()?);
    let mut columns = vec![0.0f32; b.len()];
    for (row, values) in b.chunks_exact(ranks).enumerate() {
        for (k, value) in values.iter().enumerate() {
            columns[k * outputs + row] = *value;
        }
    }
    let a: Vec<&[f32]> = a.chunks_exact(inputs).collect();
    let b: Vec<&[f32]> = columns.chunks_exact(outputs).collect();
    let Some(experts) = report.experts else {
        return Ok(Some(report.scale.abs() * product_norm_sq(&a, &b).sqrt()));
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
    Ok(Some(report.scale.abs() * sum.sqrt()))
}
