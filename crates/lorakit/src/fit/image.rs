//! Layers of image and video models under the names of another publication: the adapter names them as in diffusers and
//! the base as in the original model, or the other way round. Only lists of layers prove that two names mean the same;
//! the base keeps its names.

use std::ops::Range;

use lorakit_tensor::TensorInfo;

use super::edit::{Change, Edit, Fitting};
use super::index::Found as Counterpart;
use super::layer::{self, Fit};
use super::misfit::{Misfit, ambiguous};
use super::problem::Reason;
use super::resolver::Resolver;
use crate::TensorRef;
use crate::adapter::format::{place, place_delta, swap_halves, swapped_rows};
use crate::adapter::{Delta, Module};
use crate::arch::diffusion::{self, Found, Layer, Spelling};
use crate::plan::LowRank;
use crate::tensor::Factor;

/// The layers that an adapter may mean by `path`, and how it spells them.
fn layers_of<'f>(
    fitting: &'f Fitting<'_>,
    path: &'f str,
) -> impl Iterator<Item = (Found<'static>, Spelling)> + 'f {
    let (models, spelling) = fitting.image();
    models.iter().filter_map(move |model| Some((model.find(diffusion::bare(path), *spelling)?, *spelling)))
}

/// The tensor of the base that has the `leaf` of a layer of the original model.
fn original(base: &Resolver<'_>, layer: &Layer, leaf: &str, path: &str) -> Fit<Option<usize>> {
    let names = match leaf {
        // Some parameters are in no module of their own.
        "weight" => vec![format!("{}.weight", layer.original), layer.original.clone()],
        _ => vec![format!("{}.{leaf}", layer.original)],
    };
    for name in names {
        match base.resolve(&name, |_| true) {
            Counterpart::One(index) => return Ok(Some(index)),
            Counterpart::Several(names) => return Err(ambiguous(path, &names)),
            Counterpart::Absent => {}
        }
    }
    Ok(None)
}

/// The rows that a part of a layer has in a tensor of `rows` rows.
fn share(found: &Found<'_>, rows: usize) -> Option<Range<usize>> {
    let (part, shares) = (found.part.unwrap_or(0), &found.layer.shares);
    let whole = shares.iter().sum::<usize>().max(1);
    let (unit, start) = (rows / whole, shares.iter().take(part).sum::<usize>());
    rows.is_multiple_of(whole).then(|| start * unit..(start + shares[part]) * unit)
}

/// The changes by a module that the base has under the names of another publication; `None` if it does not.
///
/// # Errors
/// If it is there, and does not fit.
pub(super) fn fit_module(
    base: &Resolver<'_>,
    fitting: &Fitting<'_>,
    module: &Module,
) -> Fit<Option<Vec<Edit>>> {
    for found in layers_of(fitting, &module.path) {
        let edits = fit_layer(base, fitting, module, found)?;
        if edits.is_some() {
            return Ok(edits);
        }
    }
    Ok(None)
}

fn fit_layer(
    base: &Resolver<'_>,
    fitting: &Fitting<'_>,
    module: &Module,
    (found, spelling): (Found<'_>, Spelling),
) -> Fit<Option<Vec<Edit>>> {
    let adapter = fitting.adapter;
    if spelling == Spelling::Original && found.part.is_none() {
        let Ok(parts) = place(module.clone(), found) else { return Ok(None) };
        let mut edits = Vec::new();
        for part in &parts {
            let Some(index) = in_diffusers(base, &format!("{}.weight", part.path))? else { return Ok(None) };
            let target = base.tensors[index].name.clone();
            let part = Module { strength: module.strength, ..part.clone() };
            edits.extend(layer::fit_weight(base, adapter, &part, (target, index))?);
        }
        edits.iter_mut().for_each(|edit| edit.origin.clone_from(&module.path));
        return Ok(Some(edits));
    }
    let Some(index) = original(base, found.layer, "weight", &module.path)? else { return Ok(None) };
    let stored = &base.tensors[index];
    if found.layer.paths.len() == 1 {
        let swapped = found.layer.swapped.then(|| swap_halves(module)).transpose();
        let Ok(swapped) = swapped else { return Ok(None) };
        let module = swapped.as_ref().unwrap_or(module);
        return layer::fit_weight(base, adapter, module, (stored.name.clone(), index)).map(Some);
    }
    if module.magnitude.is_some() {
        return Err(Misfit::new(&module.path, Reason::PartDora { tensor: stored.name.clone() }));
    }
    let (rows, cols) = stored.rows_cols();
    let Some(range) = share(&found, rows) else { return Ok(None) };
    let info = TensorInfo { shape: vec![range.len(), cols], ..stored.clone() };
    let mut change = layer::low_rank(base, adapter, module, &info)?;
    if let Change::LowRank { terms, .. } = &mut change {
        for term in terms {
            term.rows = term.rows.start + range.start..term.rows.end + range.start;
        }
    }
    let mut edits =
        vec![Edit { target: stored.name.clone(), base: Some(index), origin: module.path.clone(), change }];
    if let Some(bias) = &module.bias {
        let scale = module.scale(module.rank()) * module.strength;
        let Some(index) = original(base, found.layer, "bias", &module.path)? else {
            return Err(Misfit::new(&module.path, Reason::NoBias));
        };
        edits.push(of_part(base, (&found, index), &module.path, bias, scale)?);
    }
    Ok(Some(edits))
}

/// The tensor that a folder of diffusers calls so, without the component in front.
fn in_diffusers(base: &Resolver<'_>, name: &str) -> Fit<Option<usize>> {
    match base.resolve(name, |_| true) {
        Counterpart::One(index) => Ok(Some(index)),
        Counterpart::Several(names) => Err(ambiguous(name, &names)),
        Counterpart::Absent => Ok(None),
    }
}

/// `scale` times a vector, added to a part of the bias `index`.
fn of_part(
    base: &Resolver<'_>,
    (found, index): (&Found<'_>, usize),
    path: &str,
    vector: &TensorRef,
    scale: f64,
) -> Fit<Edit> {
    let stored = &base.tensors[index];
    let total = stored.elements() as usize;
    let range = share(found, total).filter(|range| range.len() as u64 == vector.info().elements());
    let misfit = || {
        let reason = Reason::Bias { base: stored.shape.clone(), adapter: vector.info().shape.clone() };
        Misfit::new(path, reason)
    };
    let range = range.ok_or_else(misfit)?;
    let piece = (Factor::matrix(vector.clone(), range.len(), 1), range.start, 0);
    let whole = TensorRef::assembled(vec![piece], 1, vec![total]).map_err(|_| misfit())?;
    let term = LowRank { rows: 0..1, b: Factor::one(), a: Factor::matrix(whole, 1, total), scale };
    let change = Change::LowRank { terms: vec![term], dora: None, peft_rounds_delta: false, initial: None };
    Ok(Edit { target: stored.name.clone(), base: Some(index), origin: path.to_string(), change })
}

/// The names that the parameter of a full delta may have; some are in no module of their own.
pub(super) fn names(delta: &Delta) -> Vec<String> {
    if delta.of_bias { vec![delta.name()] } else { vec![delta.name(), delta.path.clone()] }
}

/// The tensors to which a full delta is added that the base has under the names of another publication: each with its
/// share of the delta and its first row there. Empty if it does not have them.
///
/// # Errors
/// If a name means several tensors.
pub(super) fn homes_of_delta(base: &Resolver<'_>, fitting: &Fitting<'_>, delta: &Delta) -> Fit<Vec<Share>> {
    for found in layers_of(fitting, &delta.path) {
        let homes = on_layer(base, delta, found)?;
        if !homes.is_empty() {
            return Ok(homes);
        }
    }
    Ok(Vec::new())
}

/// A tensor, what is added to it, and to which rows.
type Share = (usize, Delta, Option<Range<usize>>);

fn on_layer(base: &Resolver<'_>, delta: &Delta, (found, spelling): (Found<'_>, Spelling)) -> Fit<Vec<Share>> {
    if spelling == Spelling::Original && found.part.is_none() {
        let Ok(parts) = place_delta(delta, found) else { return Ok(Vec::new()) };
        let mut homes = Vec::new();
        for part in parts {
            for name in names(&part) {
                if let Some(index) = in_diffusers(base, &name)? {
                    homes.push((index, part, None));
                    break;
                }
            }
        }
        return Ok(if homes.len() == found.layer.paths.len() { homes } else { Vec::new() });
    }
    let leaf = if delta.of_bias { "bias" } else { "weight" };
    let Some(index) = original(base, found.layer, leaf, &delta.path)? else { return Ok(Vec::new()) };
    if found.layer.paths.len() == 1 {
        let tensor = if found.layer.swapped { swapped_rows(&delta.tensor, delta.rows()).ok() } else { None };
        let tensor = tensor.unwrap_or_else(|| delta.tensor.clone());
        return Ok(vec![(index, Delta { tensor, ..delta.clone() }, None)]);
    }
    let rows = base.tensors[index].shape.first().copied().unwrap_or(1);
    let range = share(&found, rows).filter(|range| range.len() == delta.rows());
    Ok(range.map(|range| (index, delta.clone(), Some(range))).into_iter().collect())
}
