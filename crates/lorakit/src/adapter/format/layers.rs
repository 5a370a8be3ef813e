//! Modules on the layers of an image or video model, read from a file: found in the list of a model's layers, or kept
//! under the names that the file gives them.

use std::collections::BTreeMap;

use super::Problem;
use super::assemble::{Fault, assemble};
use super::spelling::{Part, Parts};
use crate::adapter::fuse::split;
use crate::adapter::{ALPHA_IS_RANK, Adapter, Delta, Files, Module, Scaling};
use crate::arch::diffusion::{self, DiffusionModel, Found, Named, Spelling};
use crate::tensor::{Factor, RowOrder};
use crate::{Error, ErrorKind, Finding, Result, Severity, TensorRef};

/// The header entry that names the model of a file.
pub(super) const VERSION: &str = "ss_base_model_version";

/// The model that has all these modules, by their names and sizes. `version` decides if several have them.
///
/// # Errors
/// `ErrorKind::Unsupported` with the names that the nearest model lacks.
pub(super) fn model_of(
    files: &Files,
    modules: &BTreeMap<String, Parts>,
    spelling: Spelling,
    version: Option<&str>,
) -> Result<&'static DiffusionModel> {
    let named = |(name, parts): (&'_ String, &Parts)| {
        let shape = |part| Some(files.tensor(*parts.get(&part)?).info().rows_cols());
        let factors = shape(Part::Up).zip(shape(Part::Down));
        (name.clone(), factors.map(|((outputs, _), (_, inputs))| (outputs, inputs)).or(shape(Part::Diff)))
    };
    let sizes: Vec<(String, Option<(usize, usize)>)> = modules.iter().map(named).collect();
    let named: Vec<Named<'_>> =
        sizes.iter().map(|(name, size)| Named { name: diffusion::bare(name), size: *size }).collect();
    diffusion::model_of(&named, spelling, version).map_err(|(nearest, lacking)| {
        unknown(nearest, spelling, named.len(), &lacking).at(files.source.path())
    })
}

/// Adds the modules of a file to `adapter`, under the names that `model` has for them in diffusers.
///
/// # Errors
/// If values cannot be read. Faults of modules become findings.
pub(super) fn add_layers(
    files: &Files,
    adapter: &mut Adapter,
    modules: &BTreeMap<String, Parts>,
    (model, spelling): (&'static DiffusionModel, Spelling),
) -> Result<()> {
    adapter.image_model = Some(&model.title);
    for (name, parts) in modules {
        let Some(found) = model.find(diffusion::bare(name), spelling) else { continue };
        let kernel = found.layer.paths.first().and_then(|path| model.kernel(path));
        let (module, deltas) = take(files, name, parts, kernel, None)?;
        let modules = module.map(|module| match module {
            Ok(module) => or_fault(place(module, found)),
            Err(fault) => Ok(Err(fault)),
        });
        match modules.transpose()? {
            None => {}
            Some(Ok(modules)) => adapter.modules.extend(modules),
            Some(Err(fault)) => adapter.findings.push(finding(name, fault)),
        }
        for delta in deltas {
            match or_fault(place_delta(&delta, found))? {
                Ok(deltas) => adapter.deltas.extend(deltas),
                Err(fault) => adapter.findings.push(finding(name, fault)),
            }
        }
    }
    Ok(())
}

/// Adds the module `name` of a file to `adapter` as it is called there; `rank` and `scaling` are what its configuration
/// says.
///
/// # Errors
/// As [`add_layers`].
pub(super) fn add_as_named(
    files: &Files,
    adapter: &mut Adapter,
    (name, parts): (&str, &Parts),
    (rank, scaling): (Option<f64>, Option<Scaling>),
) -> Result<()> {
    let (module, deltas) = take(files, name, parts, None, scaling)?;
    match module {
        None => {}
        Some(Ok(module)) => adapter.modules.push(Module { config_rank: rank, ..module }),
        Some(Err(fault)) => adapter.findings.push(finding(name, fault)),
    }
    adapter.deltas.extend(deltas);
    Ok(())
}

/// Notes that modules have no alpha, which makes their scale 1.
pub(super) fn note_missing_alphas<'a>(adapter: &mut Adapter, modules: impl Iterator<Item = &'a Parts>) {
    let factors = |parts: &&Parts| parts.contains_key(&Part::Down) || parts.contains_key(&Part::HadaW1A);
    let (mut all, mut without) = (0, 0);
    for parts in modules.filter(factors) {
        all += 1;
        without += usize::from(!parts.contains_key(&Part::Alpha));
    }
    if without > 0 {
        let which = if without == all {
            "the file has no alpha".into()
        } else {
            format!("{without} of {all} modules have no alpha")
        };
        let message = format!(
            "{which}, and no configuration says one: it is taken to be the rank, so the scale is 1, as diffusers and ComfyUI do"
        );
        adapter.findings.push(Finding::new(Severity::Note, ALPHA_IS_RANK, "", message));
    }
}

fn finding(name: &str, (code, message): Fault) -> Finding {
    Finding::new(Severity::Error, code, name, message)
}

/// Shapes that do not fit are faults of the file.
fn or_fault<T>(result: Result<T>) -> Result<std::result::Result<T, Fault>> {
    match result {
        Err(error) if error.kind() == ErrorKind::Shape => Ok(Err(("shape", error.to_string()))),
        other => other.map(Ok),
    }
}

type Taken = (Option<std::result::Result<Module, Fault>>, Vec<Delta>);

/// The low-rank module of these tensors, if there is one, and the full deltas. A delta of the bias goes with a module of
/// scale 1, which has a place for it.
fn take(
    files: &Files,
    name: &str,
    parts: &Parts,
    kernel: Option<usize>,
    scaling: Option<Scaling>,
) -> Result<Taken> {
    let delta = |part: Part| {
        let tensor = files.tensor(*parts.get(&part)?);
        Some(Delta { path: name.to_string(), of_bias: part == Part::DiffBias, tensor, strength: 1.0 })
    };
    let mut deltas: Vec<Delta> = [Part::Diff, Part::DiffBias].into_iter().filter_map(delta).collect();
    let rest: Parts = parts.iter().filter(|(part, _)| **part < Part::Diff).map(|(p, i)| (*p, *i)).collect();
    // An alpha next to full deltas does not scale them.
    if rest.keys().all(|part| *part == Part::Alpha) && !deltas.is_empty() {
        return Ok((None, deltas));
    }
    let mut module = match assemble(files, name, &rest, kernel, scaling)? {
        Ok(module) => module,
        Err(fault) => return Ok((Some(Err(fault)), deltas)),
    };
    let outputs = module.b.info().rows_cols().0 as u64;
    let own = |delta: &Delta| delta.of_bias && delta.tensor.info().elements() == outputs;
    if let Some(place) = deltas.iter().position(own)
        && module.bias.is_none()
        && module.scale(module.rank()) == 1.0
    {
        module.bias = Some(deltas.remove(place).tensor);
    }
    Ok((Some(Ok(module)), deltas))
}

/// The diffusers modules that correspond to a module on a layer of the original model.
///
/// # Errors
/// As [`split`] and [`swap_halves`].
pub(crate) fn place(module: Module, found: Found<'_>) -> Result<Vec<Module>> {
    let layer = found.layer;
    match (found.part, layer.paths.as_slice()) {
        (Some(part), paths) => Ok(vec![Module { path: paths[part].clone(), ..module }]),
        (None, [path]) => {
            let module = if layer.swapped { swap_halves(&module)? } else { module };
            Ok(vec![Module { path: path.clone(), ..module }])
        }
        (None, paths) => {
            let rows = module.b.info().rows_cols().0;
            let whole = layer.shares.iter().sum::<usize>().max(1);
            let parts: Vec<(String, usize)> = paths
                .iter()
                .zip(&layer.shares)
                .map(|(path, share)| (path.clone(), share * (rows / whole)))
                .collect();
            split(&module, &parts)
        }
    }
}

/// The full deltas in diffusers that correspond to one on a layer of the original model.
///
/// # Errors
/// [`ErrorKind::Shape`] for rows that cannot be shared among the layers.
pub(crate) fn place_delta(delta: &Delta, found: Found<'_>) -> Result<Vec<Delta>> {
    let layer = found.layer;
    let at = |path: &String, tensor| Delta { path: path.clone(), tensor, ..delta.clone() };
    let paths = match (found.part, layer.paths.as_slice()) {
        (Some(part), paths) => return Ok(vec![at(&paths[part], delta.tensor.clone())]),
        (None, [path]) if layer.swapped => {
            return Ok(vec![at(path, swapped_rows(&delta.tensor, delta.rows())?)]);
        }
        (None, [path]) => return Ok(vec![at(path, delta.tensor.clone())]),
        (None, paths) => paths,
    };
    let shape = &delta.tensor.info().shape;
    let (rows, whole) = (delta.rows(), layer.shares.iter().sum::<usize>().max(1));
    if !rows.is_multiple_of(whole) || rows == 0 {
        return Err(Problem::NoShares { rows, shares: whole }.into());
    }
    let cols = delta.tensor.info().elements() as usize / rows;
    let (all, mut start) = (Factor::matrix(delta.tensor.clone(), rows, cols), 0);
    let part = |(path, share): (&String, &usize)| {
        let count = share * (rows / whole);
        let of_shape = std::iter::once(count).chain(shape.iter().skip(1).copied()).collect();
        let tensor = all.clone().take_rows(start, count, 1).to_tensor(of_shape)?;
        start += count;
        Ok(at(path, tensor))
    };
    paths.iter().zip(&layer.shares).map(part).collect()
}

/// The module with the two halves of its output rows exchanged.
///
/// # Errors
/// [`ErrorKind::Shape`] for an odd number of rows.
pub(crate) fn swap_halves(module: &Module) -> Result<Module> {
    let rows = module.b.info().rows_cols().0;
    let swap = |tensor: &TensorRef| swapped_rows(tensor, rows);
    Ok(Module {
        b: swap(&module.b)?,
        magnitude: module.magnitude.as_ref().map(swap).transpose()?,
        bias: module.bias.as_ref().map(swap).transpose()?,
        ..module.clone()
    })
}

/// The tensor with the two halves of its rows exchanged.
///
/// # Errors
/// [`ErrorKind::Shape`] for an odd number of rows.
pub(crate) fn swapped_rows(tensor: &TensorRef, rows: usize) -> Result<TensorRef> {
    if !rows.is_multiple_of(2) {
        return Err(Problem::NoHalves { rows }.into());
    }
    let cols = tensor.info().elements() as usize / rows.max(1);
    let order = RowOrder::of_ranges([rows / 2..rows, 0..rows / 2]);
    Factor::matrix(tensor.clone(), rows, cols).gather_rows(&order).to_tensor(tensor.info().shape.clone())
}

/// The error for names that no model has, with the ones that the nearest model lacks. If the names are spelled as in
/// diffusers, the adapter was meant to be written with kohya's names.
pub(super) fn unknown(
    nearest: &'static DiffusionModel,
    spelling: Spelling,
    modules: usize,
    lacking: &[&str],
) -> Error {
    let known = || diffusion::models().iter().map(|model| model.title.as_str()).collect();
    let (model, found) = (nearest.title.as_str(), modules - lacking.len());
    let problem = match (found, spelling) {
        (0, Spelling::Diffusers) => Problem::UnnamedModel { known: known() },
        (0, _) => Problem::UnknownModel { known: known() },
        (_, Spelling::Diffusers) => Problem::UnnamedLayers { model, found, modules },
        _ => Problem::UnknownLayers { model, found, modules },
    };
    Error::from(problem).details(lacking.iter().map(|name| name.escape_debug().to_string()).collect())
}
