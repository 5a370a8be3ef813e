//! Linear layers, convolutions, embeddings: one module, one weight.

use lorakit_tensor::TensorInfo;

use super::edit::{Change, Edit, Fitting};
use super::experts;
use super::index::Found;
use super::misfit::{Misfit, ambiguous, check_rows, unmatched};
use super::problem::Reason;
use super::resolver::Resolver;
use crate::TensorRef;
use crate::adapter::{Adapter, Module, ModuleKind};
use crate::plan::{Axis, LowRank};
use crate::tensor::Factor;

pub(super) type Fit<T> = std::result::Result<T, Misfit>;

pub(super) fn fit_module(base: &Resolver<'_>, fitting: &Fitting<'_>, module: &Module) -> Fit<Vec<Edit>> {
    if let Some(edits) = experts::fit_experts(base, fitting, module)? {
        return Ok(edits);
    }
    let found = find_weight(base, module)?;
    fit_weight(base, fitting.adapter, module, found)
}

/// The changes to the weight, called `target` in the output, and to its bias.
pub(super) fn fit_weight(
    base: &Resolver<'_>,
    adapter: &Adapter,
    module: &Module,
    (target, index): (String, usize),
) -> Fit<Vec<Edit>> {
    let stored = &base.tensors[index];
    let mut edits = Vec::new();
    let mut info = stored.clone();
    if let Some(weight) = &module.base_weight {
        // The adapter has its own copy of the base weight, with more rows if the vocabulary grew.
        check_rows(base, Some(index), weight, &module.path)?;
        info.shape.clone_from(&weight.info().shape);
        let change = Change::Replace(weight.clone());
        edits.push(Edit { target: target.clone(), base: Some(index), origin: module.path.clone(), change });
    }
    let change = low_rank(base, adapter, module, &info)?;
    edits.push(Edit { target: target.clone(), base: Some(index), origin: module.path.clone(), change });
    if let Some(bias) = &module.bias {
        edits.push(fit_bias(base, module, bias, &target)?);
    }
    Ok(edits)
}

/// The weight that a module adapts: usually `PATH.weight`.
fn find_weight(base: &Resolver<'_>, module: &Module) -> Fit<(String, usize)> {
    // `nn.MultiheadAttention`: the wrapper adapts the fused input projection, its inner layer the output.
    let path = module.path.replace(".base_layer.", ".");
    let name = format!("{path}.weight");
    let fits = |info: &TensorInfo| orientation(module, info).is_some();
    let mut names = vec![name.clone(), format!("{path}.in_proj_weight")];
    // A parameter that is not called `weight` is the end of the path.
    if module.parameter.as_deref().is_some_and(|parameter| parameter != "weight") {
        names = vec![path.clone()];
    }
    if let Some(tied) = base.tied_parameter(&name) {
        return Ok(tied);
    }
    for name in &names {
        match base.resolve(name, fits) {
            Found::One(index) => return Ok((base.tensors[index].name.clone(), index)),
            Found::Several(found) => return Err(ambiguous(name, &found)),
            Found::Absent => {}
        }
    }
    Err(unmatched(&name))
}

/// The orientation of `scale * B * A` on a stored weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Orientation {
    /// Stored as `(out, in)`, as `torch.nn.Linear` and convolutions are.
    OutIn,
    /// Stored as `(in, out)`, as GPT-2's `Conv1D` is; also embeddings, whose delta is `(B * A)` transposed.
    InOut,
    /// Square: both would fit.
    Either,
}

fn orientation(module: &Module, weight: &TensorInfo) -> Option<Orientation> {
    let (rows, cols) = matrix_shape(weight);
    let ((_, a), (b, _)) = (factor_shape(&module.a), factor_shape(&module.b));
    match ((b, a) == (rows, cols), (a, b) == (rows, cols)) {
        (true, true) => Some(Orientation::Either),
        (true, false) => Some(Orientation::OutIn),
        (false, true) if weight.shape.len() == 2 => Some(Orientation::InOut),
        _ => None,
    }
}

/// The low-rank terms on a weight of that shape.
pub(super) fn low_rank(
    base: &Resolver<'_>,
    adapter: &Adapter,
    module: &Module,
    weight: &TensorInfo,
) -> Fit<Change> {
    let (rows, cols) = matrix_shape(weight);
    let embedding = module.kind == ModuleKind::Embedding;
    // PEFT takes a parameter as it is stored.
    let transposed = || {
        module.parameter.is_none()
            && base.stored_transposed(&module.path).unwrap_or(adapter.config.fan_in_fan_out)
    };
    let orientation = match orientation(module, weight) {
        Some(Orientation::Either) if embedding || transposed() => Orientation::InOut,
        Some(Orientation::Either) => Orientation::OutIn,
        Some(Orientation::OutIn) if embedding => return Err(shape_misfit(module, weight)),
        Some(found) => found,
        None => return Err(shape_misfit(module, weight)),
    };
    let ((r, inputs), (outputs, _)) = (factor_shape(&module.a), factor_shape(&module.b));
    let a = Factor::matrix(module.a.clone(), r, inputs);
    let b = Factor::matrix(module.b.clone(), outputs, r);
    let (a, b, axis) = match orientation {
        Orientation::InOut => (b.transposed(), a.transposed(), Axis::Column),
        _ => (a, b, Axis::Row),
    };
    let dora = match &module.magnitude {
        None => None,
        Some(magnitude) => {
            let outputs = if axis == Axis::Row { rows } else { cols };
            let found = magnitude.info().elements();
            if found != outputs as u64 {
                return Err(Misfit::new(&module.path, Reason::Magnitudes { found, outputs }));
            }
            Some((magnitude.clone(), axis))
        }
    };
    let terms = vec![LowRank { rows: 0..rows, b, a, scale: module.scale(r) * module.strength }];
    Ok(Change::LowRank { terms, dora, peft_rounds_delta: embedding, initial: None })
}

/// `bias + scale * lora_bias`.
fn fit_bias(base: &Resolver<'_>, module: &Module, bias: &TensorRef, weight: &str) -> Fit<Edit> {
    let name = weight.strip_suffix("weight").map(|module| format!("{module}bias"));
    let stored = |name: String| base.exact(&name).map(|index| (name, index));
    let tied = |name: &String| base.tied_parameter(name);
    let Some((target, index)) = name.and_then(|name| tied(&name).or_else(|| stored(name))) else {
        return Err(Misfit::new(&module.path, Reason::NoBias));
    };
    let info = &base.tensors[index];
    let n = info.elements() as usize;
    if bias.info().elements() != n as u64 {
        let reason = Reason::Bias { base: info.shape.clone(), adapter: bias.info().shape.clone() };
        return Err(Misfit::new(&module.path, reason));
    }
    let a = Factor::matrix(bias.clone(), 1, n);
    let term =
        LowRank { rows: 0..1, b: Factor::one(), a, scale: module.scale(module.rank()) * module.strength };
    let change = Change::LowRank { terms: vec![term], dora: None, peft_rounds_delta: false, initial: None };
    Ok(Edit { target, base: Some(index), origin: module.path.clone(), change })
}

/// A weight as a matrix: the first dimension by all others.
fn matrix_shape(weight: &TensorInfo) -> (usize, usize) {
    weight.rows_cols()
}

/// A factor as a matrix; trailing kernel dimensions are columns.
fn factor_shape(factor: &TensorRef) -> (usize, usize) {
    factor.info().rows_cols()
}

fn shape_misfit(module: &Module, weight: &TensorInfo) -> Misfit {
    let (outputs, _) = factor_shape(&module.b);
    let (_, inputs) = factor_shape(&module.a);
    let adapter = match module.kind {
        ModuleKind::Linear => vec![outputs, inputs],
        ModuleKind::Embedding => vec![inputs, outputs],
    };
    Misfit::new(&module.path, Reason::Weight { base: weight.shape.clone(), adapter })
}
