//! An adapter against its base: does every part have a home, and how large is each change.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use lorakit_tensor::Reader;

use super::norm::norm_sq;
use super::{FitReport, ModuleReport, go_on};
use crate::adapter::{Adapter, Finding, Severity};
use crate::fit::{self, BaseView, Change, Edit, FitOptions};
use crate::plan::Progress;
use crate::{ErrorKind, Model, Result, TensorRef};

/// The outcome of [`with_base`].
pub(super) struct Compared {
    pub fit: FitReport,
    pub findings: Vec<Finding>,
    /// Depth of the base.
    pub layers: Option<usize>,
}

/// Fits the adapter and enters targets and relative norms in `reports`.
pub(super) fn with_base(
    adapter: &Adapter,
    path: &Path,
    reader: &Reader,
    reports: &mut [ModuleReport],
    progress: &dyn Progress,
) -> Result<Compared> {
    go_on(progress)?;
    let base = Model::open_as_hf(path, reader, None)?;
    let view = BaseView::new(base.tensors(), base.config.as_ref());
    let depth = |name: &&str| base.config.as_ref()?.number(name);
    let layers = ["num_hidden_layers", "n_layer"].iter().find_map(depth).map(|n| n as usize);
    let mut findings = Vec::new();
    let mut fit = FitReport {
        base: path.to_path_buf(),
        misfit: None,
        changed: 0,
        base_tensors: base.tensors().len(),
        tied: view.tied(),
    };
    let edits = match fit::fit(&view, adapter, FitOptions::default()) {
        Ok(edits) => edits,
        Err(error) => {
            let code = match error.kind() {
                ErrorKind::Unmatched => "unmatched",
                ErrorKind::Ambiguous => "ambiguous",
                ErrorKind::Shape => "shape",
                _ => "misfit",
            };
            for line in error.detail_lines() {
                let (subject, message) = line.split_once("  ").unwrap_or(("", line));
                findings.push(Finding::new(Severity::Error, code, subject, message));
            }
            let message = error.to_string();
            // The report names the adapter already.
            let prefix = format!("`{}`: ", adapter.path.display());
            fit.misfit = Some(message.strip_prefix(&prefix).unwrap_or(&message).to_string());
            return Ok(Compared { fit, findings, layers });
        }
    };
    let mut changed: Vec<&str> = edits.iter().map(|e| e.target.as_str()).collect();
    changed.sort_unstable();
    changed.dedup();
    fit.changed = changed.len();
    findings.extend(tied(&base, &view, adapter, &edits)?);
    findings.extend(relative_norms(&base, adapter, &edits, reports, progress)?);
    Ok(Compared { fit, findings, layers })
}

/// `||scale B A|| / ||W||` for each module, `W` being all that the module is added to.
fn relative_norms(
    base: &Model,
    adapter: &Adapter,
    edits: &[Edit],
    reports: &mut [ModuleReport],
    progress: &dyn Progress,
) -> Result<Vec<Finding>> {
    let mut by_origin: HashMap<&str, Vec<&Edit>> = HashMap::new();
    for edit in edits {
        by_origin.entry(&edit.origin).or_default().push(edit);
    }
    let replaced = edits.iter().filter_map(|e| match &e.change {
        Change::Replace(tensor) => Some((e.target.as_str(), tensor)),
        _ => None,
    });
    let replaced: HashMap<&str, &TensorRef> = replaced.collect();
    let opaque = adapter.modules.par_iter().zip(reports).map(|(module, report)| {
        go_on(progress)?;
        let edits = by_origin.get(module.path.as_str()).map_or(&[][..], Vec::as_slice);
        report.targets = edits.iter().map(|e| e.target.clone()).collect();
        report.targets.dedup();
        let Some(norm) = report.norm else { return Ok(None) };
        let mut sum = 0.0;
        for edit in edits {
            let Some((rows, cols)) = covered(edit) else { continue };
            let original = edit.base.map(|index| base.tensor(index));
            let Some(weight) = replaced.get(edit.target.as_str()).map(|t| (*t).clone()).or(original) else {
                continue;
            };
            match norm_sq_of(&weight, rows.start * cols..rows.end * cols) {
                Ok(part) => sum += part,
                Err(e) if e.kind() == ErrorKind::Unsupported => return Ok(Some(weight.info().dtype)),
                Err(e) => return Err(e),
            }
        }
        report.relative = (sum > 0.0 && sum.is_finite()).then(|| norm / sum.sqrt());
        Ok(None)
    });
    let opaque: Vec<_> = opaque.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    Ok(opaque.first().map(|dtype| {
        let message = format!(
            "{} modules change tensors stored as {dtype}, which cannot be decoded: no relative norms for them",
            opaque.len()
        );
        vec![Finding::new(Severity::Warning, "base-dtype", "", message)]
    }).unwrap_or_default())
}

/// The rows of its target that a low-rank edit of a weight reaches, and their width; `None` for biases.
fn covered(edit: &Edit) -> Option<(Range<usize>, usize)> {
    let Change::LowRank { terms, .. } = &edit.change else { return None };
    if edit.target.ends_with("bias") {
        return None;
    }
    let start = terms.iter().map(|t| t.rows.start).min()?;
    let end = terms.iter().map(|t| t.rows.end).max()?;
    Some((start..end, terms.first()?.a.cols))
}

/// The sum of squares of the values in `range`.
fn norm_sq_of(tensor: &TensorRef, range: Range<usize>) -> Result<f64> {
    let (mut at, mut sum) = (0, 0.0);
    tensor.for_each_piece(|values| {
        let from = range.start.saturating_sub(at).min(values.len());
        let to = range.end.saturating_sub(at).min(values.len());
        sum += values.get(from..to).map_or(0.0, norm_sq);
        at += values.len();
    })?;
    Ok(sum)
}

/// What a merge does with the tied embeddings of this base.
fn tied(base: &Model, view: &BaseView<'_>, adapter: &Adapter, edits: &[Edit]) -> Result<Option<Finding>> {
    let Some(embedding) = view.embedding().filter(|_| view.tied()) else { return Ok(None) };
    let embed = view.tensors[embedding].name.as_str();
    let stored = view.head().map(|i| view.tensors[i].name.clone());
    let head = stored.clone().unwrap_or_else(|| view.head_name());
    let on = |name: &str| -> Result<Vec<&Edit>> {
        let edits = edits.iter().filter(|e| e.target == name);
        let changes = edits.map(|e| Ok((e, is_frozen_copy(base, e)?))).collect::<Result<Vec<_>>>()?;
        Ok(changes.into_iter().filter(|(_, frozen)| !frozen).map(|(e, _)| e).collect())
    };
    let (input, output) = (on(embed)?, on(&head)?);
    let grown =
        |e: &Edit| matches!(&e.change, Change::Replace(t) if t.info().shape != view.tensors[embedding].shape);
    let stays = |e: &&Edit| matches!(e.change, Change::Rows(..)) || grown(e);
    let untie = format!(
        "a merge writes two (`{embed}`, `{head}`) and sets tie_word_embeddings to false; `--tied share` keeps one, and \
         then the change reaches both sides"
    );
    let what = match (input.is_empty(), output.is_empty()) {
        (true, true) => return Ok(None),
        _ if stored.is_some() => {
            format!("input and output embedding, and stores both: each keeps its own change, {untie}")
        }
        (false, true) if adapter.config.ensure_weight_tying || input.iter().all(stays) => {
            "input and output embedding, and they were trained as one: a merge keeps one tensor".into()
        }
        (false, true) => format!("input and output embedding, and only the input side is adapted: {untie}"),
        (true, false) => format!("input and output embedding, and only the output side is adapted: {untie}"),
        (false, false) => {
            format!(
                "input and output embedding, and both are adapted: if the changes are the same one tensor stays, else {untie}"
            )
        }
    };
    Ok(Some(Finding::new(Severity::Warning, "tied-embeddings", "", format!("the base ties {what}"))))
}

/// Whether an edit replaces a weight by the same values, as PEFT's copies of frozen embeddings do.
fn is_frozen_copy(base: &Model, edit: &Edit) -> Result<bool> {
    match (&edit.change, edit.base) {
        (Change::Replace(new), Some(index)) => base.tensor(index).same_values(new),
        _ => Ok(false),
    }
}
