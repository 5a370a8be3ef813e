//! diffusers: a folder with `pytorch_lora_weights.safetensors`.
//!
//! Names are paths that begin with the pipeline's component. The files have no scales: without `lora_adapter_metadata`
//! in the header, alpha is the rank. The attention processors of old diffusers are read too, and files that name layers
//! like the original model (`diffusion_model.`). If a list of layers has all their names, they get those of diffusers,
//! else they stay as they are. Source: `loaders/lora_base.py`, `loaders/lora_conversion_utils.py`,
//! `utils/state_dict_utils.py` of diffusers.

mod metadata;
mod write;

use std::collections::BTreeMap;

use lorakit_tensor::TensorSource;

use super::layers::{VERSION, add_as_named, add_layers, model_of, note_missing_alphas};
use super::spelling::{self, Part, Parts};
use super::{AdapterFormat, Draft, DraftOptions};
use crate::adapter::{Adapter, Files, carried};
use crate::arch::diffusion::{self, Spelling};
use crate::card::Loading;
use crate::{Base, Result};
use metadata::{Metadata, ORIGINAL, component};

/// diffusers' format.
#[derive(Debug)]
pub(crate) struct Diffusers;

const LOADING: &str = "\
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained({base})
pipeline.load_lora_weights(\".\")  # this folder, or the repository that holds it
";

impl AdapterFormat for Diffusers {
    fn name(&self) -> &'static str {
        "diffusers"
    }

    fn title(&self) -> &'static str {
        "a folder for diffusers, ComfyUI: pytorch_lora_weights.safetensors"
    }

    fn files(&self) -> &'static [&'static str] {
        &["pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin"]
    }

    fn marks(&self, name: &str, files: &Files) -> bool {
        let in_pipeline = component(name).is_some() || name.starts_with(ORIGINAL);
        let inside = in_pipeline && spelling::parse(name).is_some();
        files.config.is_none()
            && (inside
                || (spelling::is_down_or_up(name) && !name.starts_with("base_model."))
                || *files.of_image_model.get_or_init(|| names_layers(files)))
    }

    fn loading(&self) -> Option<Loading> {
        Some(Loading { library: "diffusers", code: LOADING, without_class: None })
    }

    fn read(&self, files: &Files, _: Option<&Base>) -> Result<Adapter> {
        let config = carried::config(files.metadata().get(carried::CONFIG_KEY).map(String::as_str));
        let mut adapter = Adapter { config, ..Adapter::empty(self.name(), files) };
        let metadata = Metadata::of(files)?;
        let modules = spelling::collect(files, &mut adapter, canonical);
        let (own, original): (BTreeMap<String, Parts>, BTreeMap<String, Parts>) =
            modules.into_iter().partition(|(name, _)| component(name).is_some());
        let unsaid = |(name, _): &(&String, &Parts)| metadata.of_module(name).1.is_none();
        note_missing_alphas(&mut adapter, original.values().chain(own.iter().filter(unsaid).map(|(_, p)| p)));
        for (name, parts) in &own {
            add_as_named(files, &mut adapter, (name, parts), metadata.of_module(name))?;
        }
        let version = files.metadata().get(VERSION).map(String::as_str);
        match model_of(files, &original, Spelling::Original, version) {
            Ok(model) => add_layers(files, &mut adapter, &original, (model, Spelling::Original))?,
            Err(_) => {
                for (name, parts) in &original {
                    add_as_named(files, &mut adapter, (name, parts), (None, None))?;
                }
            }
        }
        adapter.sort();
        Ok(adapter)
    }

    fn write(&self, adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft> {
        write::draft(adapter, options)
    }
}

/// Whether all tensors belong to layers of one image model, whatever is in front of their names. A file that says
/// neither what it is nor its scale is only taken for an adapter if this is known, since nothing else has alphas that
/// are ranks.
fn names_layers(files: &Files) -> bool {
    let mut modules: BTreeMap<String, Parts> = BTreeMap::new();
    for (index, info) in files.source.tensors().iter().enumerate() {
        let Some((module, part)) = spelling::parse(&info.name) else { return false };
        let (module, part) = spelling::placed(module, part);
        modules.entry(diffusion::bare(&module).to_string()).or_default().insert(part, index);
    }
    !modules.is_empty() && model_of(files, &modules, Spelling::Original, None).is_ok()
}

/// The path of a module in current diffusers: processors used to be modules, the output of their attention is the first
/// of a list, and the layers of text encoders used to be called like those of attention.
fn canonical(module: &str, _: Part) -> String {
    const TEXT: &[(&str, &str)] =
        &[(".to_q", ".q_proj"), (".to_k", ".k_proj"), (".to_v", ".v_proj"), (".to_out", ".out_proj")];
    let current = module.replace(".processor.", ".");
    let of_text = current.starts_with("text_encoder");
    let old = current.len() < module.len() || current.starts_with("unet.");
    let renamed = TEXT
        .iter()
        .filter(|_| of_text)
        .find_map(|(old, new)| current.strip_suffix(old).map(|path| format!("{path}{new}")));
    match renamed {
        Some(renamed) => renamed,
        None if old && current.ends_with(".to_out") => current + ".0",
        None => current,
    }
}

#[cfg(test)]
mod tests;
