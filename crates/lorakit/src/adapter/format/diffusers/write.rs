//! Writing a folder for diffusers.

use super::super::layers::VERSION;
use super::super::on_layers::by_layer;
use super::super::{Can, Draft, DraftOptions, Mapped, Problem, Scaled};
use super::metadata::{self, ORIGINAL, component};
use crate::adapter::{Adapter, Delta, Module, carried};
use crate::arch::diffusion::{self, DiffusionModel, Named, Spelling};
use crate::plan::{Container, OutputTensor};
use crate::{Error, Result, TensorRef};

/// Scales are multiplied into `B`, since most readers ignore them; the metadata then say that alphas are ranks.
///
/// Full deltas have no place under diffusers' names, except those of biases next to factors. A file with others names
/// layers like the original model, as ComfyUI does.
pub(super) fn draft(adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft> {
    let biased = |delta: &Delta| delta.of_bias && adapter.modules.iter().any(|m| m.path == delta.path);
    let model = if adapter.deltas.iter().all(biased) { None } else { original(adapter) };
    let can = Can { dora: true, bias: true, convolutions: true, ..Can::default() };
    let kept = |delta: &Delta| component(&delta.path).is_none();
    let deltas = model.is_some() || adapter.deltas.iter().all(|delta| biased(delta) || kept(delta));
    Can { deltas, ..can }.hold(adapter, "diffusers' format")?;
    let (mut tensors, mut mapped) = (Vec::new(), Vec::new());
    let paths = match model {
        Some(model) => {
            for on in by_layer(model, adapter)? {
                let name = format!("{ORIGINAL}{}", on.layer.original);
                let at = |e: Error| e.at(&adapter.path);
                let deltas = on.deltas().map_err(at)?;
                let module = on.module(&name).map_err(at)?;
                let how = module
                    .iter()
                    .flat_map(|module| of_module(module, &name, options, &mut tensors))
                    .collect::<Vec<_>>();
                for part in on.modules.iter().flatten() {
                    mapped.push(Mapped { module: part.path.clone(), name: name.clone(), how: how.clone() });
                }
                let of = deltas.into_iter().zip(["diff", "diff_b"]);
                let delta = |(tensor, part): (Option<TensorRef>, _)| {
                    Some(Scaled::plain(tensor?).output(&format!("{name}.{part}"), options.dtype))
                };
                tensors.extend(of.filter_map(delta));
            }
            Vec::new()
        }
        None => {
            let paths = paths(adapter)?;
            for (module, path) in adapter.modules.iter().zip(&paths) {
                let how = of_module(module, path, options, &mut tensors);
                mapped.push(Mapped { module: module.path.clone(), name: path.clone(), how });
            }
            for delta in &adapter.deltas {
                let part = match (delta.of_bias, kept(delta)) {
                    (false, _) => "diff",
                    (true, true) => "diff_b",
                    (true, false) => "lora_B.bias",
                };
                let name = format!("{}.{part}", prefixed(adapter, &delta.path));
                tensors.push(Scaled::plain(delta.tensor.clone()).output(&name, options.dtype));
            }
            paths
        }
    };
    let mut header = carried::header(adapter);
    header.insert("format".into(), "pt".into());
    // Models share names in diffusers that differ in other formats.
    let known = diffusion::models().iter().find(|model| Some(model.title.as_str()) == adapter.image_model);
    if let Some(model) = known {
        header.entry(VERSION.into()).or_insert_with(|| model.version.clone());
    }
    if paths.iter().any(|path| component(path).is_some()) {
        header.insert(metadata::KEY.into(), metadata::text(adapter, &paths));
    }
    if let Some(config) = carried::config_text(adapter) {
        header.insert(carried::CONFIG_KEY.into(), config);
    }
    let stem = "pytorch_lora_weights";
    Ok(Draft {
        stem: Some(stem),
        container: Container::Safetensors { stem, metadata: header, max_shard: u64::MAX },
        tensors,
        side_files: Vec::new(),
        mapped,
    })
}

/// Adds the tensors of the module at `path`. Returns what was done to them.
fn of_module(
    module: &Module,
    path: &str,
    options: &DraftOptions<'_>,
    tensors: &mut Vec<OutputTensor>,
) -> Vec<String> {
    let times = module.scale(module.rank());
    // ComfyUI reads the names of LyCORIS.
    let original = component(path).is_none();
    let (bias, magnitude) =
        if original { ("diff_b", "dora_scale") } else { ("lora_B.bias", "lora_magnitude_vector") };
    let parts = [
        (Some(&module.a), "lora_A.weight", 1.0),
        (Some(&module.b), "lora_B.weight", times),
        (module.bias.as_ref(), bias, times),
        (module.magnitude.as_ref(), magnitude, 1.0),
    ];
    for (tensor, part, times) in parts {
        let Some(tensor) = tensor.cloned() else { continue };
        tensors.push(Scaled { tensor, times }.output(&format!("{path}.{part}"), options.dtype));
    }
    if times == 1.0 { Vec::new() } else { vec![format!("B times {times}")] }
}

/// The model that has the layers of an adapter that is spelled as in diffusers.
fn original(adapter: &Adapter) -> Option<&'static DiffusionModel> {
    let modules = adapter.modules.iter().map(|module| module.path.as_str());
    let deltas = adapter.deltas.iter().map(|delta| delta.path.as_str());
    let names: Vec<Named<'_>> = modules.chain(deltas).map(Named::from).collect();
    let model = diffusion::model_of(&names, Spelling::Diffusers, None).ok()?;
    // Text encoders have no original names that ComfyUI reads.
    let denoiser =
        |named: &Named<'_>| component(named.name).is_none_or(|(name, _)| !name.starts_with("text_"));
    names.iter().all(denoiser).then_some(model)
}

/// The name in the file of a layer that is not named as in diffusers.
fn prefixed(adapter: &Adapter, path: &str) -> String {
    let bare = adapter.format == "diffusers" && component(path).is_none() && !path.starts_with(ORIGINAL);
    if bare { format!("{ORIGINAL}{}", diffusion::bare(path)) } else { path.to_string() }
}

/// The modules' paths with their components. If a PEFT folder leaves the component out, the layer lists tell it; paths of
/// other image models stay as they were read.
fn paths(adapter: &Adapter) -> Result<Vec<String>> {
    let language_model = adapter.config.task_type.as_deref().is_some_and(|task| task.contains("_LM"));
    let named = |path: &str| {
        let in_pipeline = component(path).is_some() || path.starts_with(ORIGINAL);
        in_pipeline && !path.starts_with("transformer.h.") && !language_model
    };
    let paths: Vec<String> = adapter.modules.iter().map(|module| prefixed(adapter, &module.path)).collect();
    if paths.iter().all(|path| named(path)) {
        return Ok(paths);
    }
    let names: Vec<Named<'_>> = adapter.modules.iter().map(|module| module.path.as_str().into()).collect();
    let model = diffusion::model_of(&names, Spelling::Diffusers, None).map_err(|_| {
        let lines = paths.iter().filter(|path| !named(path)).cloned().collect();
        Error::from(Problem::NoPipeline).details(lines).at(&adapter.path)
    })?;
    let path = |name: &Named<'_>| {
        let found = model.find(name.name, Spelling::Diffusers)?;
        found.layer.paths.get(found.part.unwrap_or(0)).cloned()
    };
    Ok(names.iter().map(|name| path(name).unwrap_or_else(|| name.name.to_string())).collect())
}
