//! GGUF tensors in a mix: a type for each, the importance of its columns, their order in the file.

use std::collections::HashSet;
use std::sync::Arc;

use lorakit_quant::encoder;
use lorakit_quant::mix::{Facts, FileType, MixError, MixOptions, Reason, choose, file_order};
use lorakit_tensor::format::gguf::Metadata;
use lorakit_tensor::{DType, TensorInfo};

use super::Problem;
use super::imatrix::{Coverage, Imatrix};
use crate::plan::{Chosen, Importance, OutputTensor, Recipe};
use crate::{Error, Finding, Result, Severity};

/// How the types of a GGUF file are chosen.
#[derive(Debug, Clone)]
pub struct Mix {
    /// The mix; `None` keeps the type of every tensor.
    pub file_type: Option<FileType>,
    /// What else is asked for.
    pub options: MixOptions,
    /// The least type for tensors that adapters change.
    pub promote: Option<DType>,
}

/// Gives each of `tensors`, named as in GGUF files, its type, and puts them in the order of the file.
///
/// # Errors
/// [`ErrorKind::Mix`](crate::ErrorKind::Mix) if a tensor fits no type; whatever `imatrix` refuses.
pub(crate) fn apply(
    mix: &Mix,
    metadata: &Metadata,
    imatrix: Option<&Imatrix>,
    mut tensors: Vec<OutputTensor>,
    notes: &mut Vec<Finding>,
) -> Result<(Vec<OutputTensor>, Vec<Chosen>)> {
    if let (Some(file_type), None) = (mix.file_type.filter(|mix| mix.needs_importance()), imatrix) {
        return Err(Problem::NeedsImportances { mix: file_type.to_string() }.into());
    }
    let mut infos: Vec<TensorInfo> = tensors.iter().map(|t| t.info.clone()).collect();
    if mix.file_type.is_some() {
        let order = file_order(&infos);
        (tensors, infos) = (in_order(tensors, &order), in_order(infos, &order));
    }
    let mut choices: Vec<(DType, String, bool)> = match mix.file_type {
        None => infos.iter().map(|info| (info.dtype, "kept".to_string(), false)).collect(),
        Some(file_type) => choose(file_type, &Facts::read(metadata), &mix.options, &infos)
            .map_err(unfit)?
            .into_iter()
            .map(|c| (c.dtype, c.reason.to_string(), matches!(c.reason, Reason::Fallback { .. })))
            .collect(),
    };
    if let Some(wanted) = mix.promote {
        for (tensor, choice) in tensors.iter().zip(&mut choices) {
            promote(tensor, wanted, choice);
        }
    }
    if let Some(imatrix) = imatrix {
        let encoded = infos.iter().zip(&choices).filter(|(info, (dtype, ..))| *dtype != info.dtype);
        let weighed = encoded.filter(|(_, (dtype, ..))| uses_importance(*dtype));
        let coverage = imatrix.check(&infos, weighed.clone().map(|(info, _)| info))?;
        if let Some(mix) = mix.file_type {
            let needing = weighed.filter(|(info, (dtype, ..))| mix.needs_importance_of(&info.name, *dtype));
            require(imatrix, mix, &coverage, needing.map(|(info, _)| info.name.as_str()))?;
        }
        notes.extend(uncovered(imatrix, &coverage));
    }
    let mut written = Vec::with_capacity(tensors.len());
    let mut rows = Vec::with_capacity(tensors.len());
    for (tensor, (dtype, why, fallback)) in tensors.into_iter().zip(choices) {
        let from = tensor.source_dtype().unwrap_or(tensor.info.dtype);
        let tensor = with_importance(tensor.with_dtype(dtype), imatrix)?;
        rows.push(Chosen {
            name: tensor.info.name.clone(),
            from: from.name(),
            to: dtype.name(),
            why,
            fallback,
        });
        written.push(tensor);
    }
    notes.extend(fallbacks(&rows));
    Ok((written, rows))
}

/// What to do differs with who chose the type that does not fit.
fn unfit(error: MixError) -> Problem {
    let reason = error.to_string();
    match error {
        MixError::Fallback { given: true, .. } => Problem::UnfitGiven { reason },
        MixError::Fallback { fallback: None, .. } => Problem::UnfitAtAll { reason },
        _ => Problem::Unfit { reason },
    }
}

/// `items` in another order: the one at `order[n]` becomes number `n`.
fn in_order<T>(items: Vec<T>, order: &[usize]) -> Vec<T> {
    let mut places: Vec<Option<T>> = items.into_iter().map(Some).collect();
    order.iter().filter_map(|&i| places[i].take()).collect()
}

/// Raises an edited tensor to `wanted`, or to a type whose blocks divide its rows, if that has more bits.
fn promote(tensor: &OutputTensor, wanted: DType, choice: &mut (DType, String, bool)) {
    let columns = tensor.info.shape.last().copied().unwrap_or(1);
    let fits = |dtype: &DType| columns.is_multiple_of(dtype.block().elements);
    let Some(raised) = [wanted, DType::Q8_0, DType::F16].into_iter().find(fits) else { return };
    if tensor.edited() && bits(raised) > bits(choice.0) {
        *choice = (raised, "changed by the adapter: promoted".into(), false);
    }
}

fn bits(dtype: DType) -> f64 {
    8.0 * dtype.block().bytes as f64 / dtype.block().elements as f64
}

fn uses_importance(dtype: DType) -> bool {
    encoder(dtype).is_some_and(|encoder| encoder.uses_importance())
}

/// A stack of experts has importances for each of them, and so for runs of its rows.
fn with_importance(tensor: OutputTensor, imatrix: Option<&Imatrix>) -> Result<OutputTensor> {
    let Some(imatrix) = imatrix.filter(|_| uses_importance(tensor.info.dtype)) else { return Ok(tensor) };
    let Some((values, matrices)) = imatrix.of(&tensor.info) else { return Ok(tensor) };
    let mut tensor = tensor.row_by_row()?;
    if let Recipe::Compute(compute) = &mut tensor.recipe {
        let rows_each = compute.rows / matrices.max(1);
        compute.importance = Some(Importance { values: Arc::from(values), rows_each });
    }
    Ok(tensor)
}

/// Refuses a mix that would be garbage without the importances of tensors that `imatrix` lacks.
fn require<'a>(
    imatrix: &Imatrix,
    mix: FileType,
    coverage: &Coverage,
    needing: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let missing: HashSet<&str> = coverage.missing.iter().map(String::as_str).collect();
    let (lacked, covered): (Vec<&str>, Vec<&str>) = needing.partition(|name| missing.contains(name));
    let Some(first) = lacked.first() else { return Ok(()) };
    let of = lacked.len() + covered.len();
    let problem =
        Problem::LacksImportances { mix: mix.to_string(), first: first.to_string(), count: lacked.len(), of };
    Err(Error::from(problem).at(imatrix.path()))
}

/// One note for all tensors that the importance matrix lacks, or for a matrix that has no effect.
fn uncovered(imatrix: &Imatrix, coverage: &Coverage) -> Option<Finding> {
    let message = match coverage.missing.first() {
        _ if coverage.covered.is_empty() => {
            "changes nothing: no tensor that it knows becomes a type that weighs errors".to_string()
        }
        None => return None,
        Some(first) => format!(
            "has no entry for `{first}`, {} of {} tensors in all; they are quantised without it",
            coverage.missing.len(),
            coverage.missing.len() + coverage.covered.len()
        ),
    };
    let subject = imatrix.path().display().to_string();
    Some(Finding::new(Severity::Note, "imatrix-coverage", &subject, message))
}

/// One note for all tensors that fell back.
fn fallbacks(rows: &[Chosen]) -> Option<Finding> {
    let fallen: Vec<&Chosen> = rows.iter().filter(|row| row.fallback).collect();
    let first = fallen.first()?;
    let message = format!(
        "falls back to {}, with {} of {} tensors in all: {}",
        first.to,
        fallen.len(),
        rows.len(),
        first.why
    );
    Some(Finding::new(Severity::Note, "fallback", &first.name, &message))
}

impl OutputTensor {
    /// The type of the tensor that it is made from.
    pub(crate) fn source_dtype(&self) -> Option<DType> {
        match &self.recipe {
            Recipe::Copy(tensor) => Some(tensor.info().dtype),
            Recipe::Compute(compute) => Some(compute.base.info().dtype),
            Recipe::Bytes(_) | Recipe::Part { .. } => None,
        }
    }
}
