//! Writing a folder for diffusers.

use super::super::{Can, Draft, DraftOptions, Mapped, Problem, Scaled};
use super::metadata::{self, component};
use crate::adapter::{Adapter, Module, carried};
use crate::arch::diffusion::{self, Spelling};
use crate::plan::Container;
use crate::{Error, Result};

/// Scales are multiplied into `B`, since most readers ignore them; the metadata then say that alphas are ranks.
pub(super) fn draft(adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft> {
    Can { dora: true, bias: true, convolutions: true, ..Can::default() }
        .hold(adapter, "diffusers' format")?;
    let paths = paths(adapter)?;
    let mut tensors = Vec::new();
    let mut mapped = Vec::new();
    for (module, path) in adapter.modules.iter().zip(&paths) {
        let times = module.scale(module.rank());
        let parts = [
            (Some(&module.a), "lora_A.weight", 1.0),
            (Some(&module.b), "lora_B.weight", times),
            (module.bias.as_ref(), "lora_B.bias", times),
            (module.magnitude.as_ref(), "lora_magnitude_vector", 1.0),
        ];
        for (tensor, part, times) in parts {
            let Some(tensor) = tensor.cloned() else { continue };
            tensors.push(Scaled { tensor, times }.output(&format!("{path}.{part}"), options.dtype));
        }
        let how = if times == 1.0 { Vec::new() } else { vec![format!("B times {times}")] };
        mapped.push(Mapped { module: module.path.clone(), name: path.clone(), how });
    }
    let mut header = carried::header(adapter);
    header.insert("format".into(), "pt".into());
    header.insert(metadata::KEY.into(), metadata::text(adapter, &paths));
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

/// The modules' paths with their components. If a PEFT folder leaves the component out, the layer lists tell it.
fn paths(adapter: &Adapter) -> Result<Vec<String>> {
    let language_model = adapter.config.task_type.as_deref().is_some_and(|task| task.contains("_LM"));
    let named = |module: &&Module| {
        component(&module.path).is_some() && !module.path.starts_with("transformer.h.") && !language_model
    };
    if adapter.modules.iter().all(|module| named(&module)) {
        return Ok(adapter.modules.iter().map(|module| module.path.clone()).collect());
    }
    let names: Vec<&str> = adapter.modules.iter().map(|module| module.path.as_str()).collect();
    let model = diffusion::model_of(&names, Spelling::Diffusers, None).map_err(|_| {
        let others = adapter.modules.iter().filter(|module| !named(module));
        let lines = others.map(|module| module.path.clone()).collect();
        Error::from(Problem::NoPipeline).details(lines).at(&adapter.path)
    })?;
    let path = |name: &str| {
        let found = model.find(name, Spelling::Diffusers)?;
        found.layer.paths.get(found.part.unwrap_or(0)).cloned()
    };
    Ok(names.iter().map(|name| path(name).unwrap_or_else(|| (*name).to_string())).collect())
}
