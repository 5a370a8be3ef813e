//! Modules whose names must be looked up in the list of a model's layers.

use std::collections::BTreeMap;

use super::Problem;
use super::assemble::assemble;
use super::spelling::Parts;
use crate::adapter::fuse::{FusePart, fuse, split};
use crate::adapter::{Adapter, Files, Module};
use crate::arch::diffusion::{self, DiffusionModel, Found, Layer, Spelling};
use crate::tensor::{Factor, RowOrder};
use crate::{Error, ErrorKind, Finding, Result, Severity, TensorRef};

/// Adds the modules of a file to `adapter`, named as in diffusers. Their names decide to which model they belong, or
/// `version` does if the names leave it open.
///
/// # Errors
/// [`ErrorKind::Unsupported`] with the names that the nearest model lacks; if values cannot be read. Faults of modules
/// become findings.
pub(super) fn add_layers(
    files: &Files,
    adapter: &mut Adapter,
    modules: &BTreeMap<String, Parts>,
    spelling: Spelling,
    version: Option<&str>,
) -> Result<()> {
    let names: Vec<&str> = modules.keys().map(String::as_str).collect();
    if names.is_empty() {
        return Ok(());
    }
    let model = diffusion::model_of(&names, spelling, version)
        .map_err(|(nearest, lacking)| unknown(nearest, spelling, &names, &lacking).at(files.source.path()))?;
    for (name, parts) in modules {
        let Some(found) = model.find(name, spelling) else { continue };
        let kernel = found.layer.paths.first().and_then(|path| model.kernel(path));
        let placed = match assemble(files, name, parts, kernel, None)? {
            Ok(module) => match place(module, found) {
                Err(error) if error.kind() == ErrorKind::Shape => Err(("shape", error.to_string())),
                other => Ok(other?),
            },
            Err(fault) => Err(fault),
        };
        match placed {
            Ok(modules) => adapter.modules.extend(modules),
            Err((code, message)) => {
                adapter.findings.push(Finding::new(Severity::Error, code, name, message));
            }
        }
    }
    Ok(())
}

/// The diffusers modules that correspond to a module on a layer of the original model.
fn place(module: Module, found: Found<'_>) -> Result<Vec<Module>> {
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

/// The module on a layer of the original model that does what the modules on its parts do, called `name`.
///
/// # Errors
/// As [`fuse`] and [`swap_halves`].
pub(super) fn joined(layer: &Layer, parts: &[Option<&Module>], name: &str) -> Result<Module> {
    if let [Some(module)] = parts {
        return if layer.swapped { swap_halves(module) } else { Ok((*module).clone()) };
    }
    let unit = parts
        .iter()
        .zip(&layer.shares)
        .find_map(|(part, share)| Some(part.as_ref()?.b.info().rows_cols().0 / share));
    let part =
        |(module, share): (&Option<_>, &usize)| FusePart { module: *module, rows: share * unit.unwrap_or(0) };
    fuse(name, &parts.iter().zip(&layer.shares).map(part).collect::<Vec<_>>())
}

/// The module with the two halves of its output rows exchanged.
///
/// # Errors
/// [`ErrorKind::Shape`] for an odd number of rows.
fn swap_halves(module: &Module) -> Result<Module> {
    let rows = module.b.info().rows_cols().0;
    if !rows.is_multiple_of(2) {
        return Err(Problem::NoHalves { rows }.into());
    }
    let swap = |tensor: &TensorRef| -> Result<TensorRef> {
        let cols = tensor.info().elements() as usize / rows.max(1);
        let whole = Factor::matrix(tensor.clone(), rows, cols);
        let order = RowOrder::of_ranges([rows / 2..rows, 0..rows / 2]);
        whole.gather_rows(&order).to_tensor(tensor.info().shape.clone())
    };
    Ok(Module {
        b: swap(&module.b)?,
        magnitude: module.magnitude.as_ref().map(swap).transpose()?,
        bias: module.bias.as_ref().map(swap).transpose()?,
        ..module.clone()
    })
}

/// The error for names that no model has, with the ones that the nearest model lacks. If the names are spelled as in
/// diffusers, the adapter was meant to be written with kohya's names.
pub(super) fn unknown(
    nearest: &'static DiffusionModel,
    spelling: Spelling,
    names: &[&str],
    lacking: &[&str],
) -> Error {
    let known = || diffusion::models().iter().map(|model| model.title.as_str()).collect();
    let (model, found, modules) = (nearest.title.as_str(), names.len() - lacking.len(), names.len());
    let problem = match (found, spelling) {
        (0, Spelling::Diffusers) => Problem::UnnamedModel { known: known() },
        (0, _) => Problem::UnknownModel { known: known() },
        (_, Spelling::Diffusers) => Problem::UnnamedLayers { model, found, modules },
        _ => Problem::UnknownLayers { model, found, modules },
    };
    Error::from(problem).details(lacking.iter().map(|name| name.escape_debug().to_string()).collect())
}
