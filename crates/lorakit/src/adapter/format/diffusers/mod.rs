//! diffusers: a folder with `pytorch_lora_weights.safetensors`.
//!
//! Names are paths that begin with the pipeline's component. The files have no scales: without `lora_adapter_metadata`
//! in the header, alpha is the rank. The attention processors of old diffusers are read too, and files that name layers
//! like the original model (`diffusion_model.`). Source: `loaders/lora_base.py`, `loaders/lora_conversion_utils.py`,
//! `utils/state_dict_utils.py` of diffusers.

mod metadata;
mod write;

use std::collections::BTreeMap;

use super::assemble::assemble;
use super::layers::add_layers;
use super::spelling::{self, Part, Parts};
use super::{AdapterFormat, Draft, DraftOptions};
use crate::adapter::{Adapter, Files, carried};
use crate::arch::diffusion::Spelling;
use crate::card::Loading;
use crate::{Base, Finding, Result, Severity};
use metadata::{Metadata, component};

/// The prefix of an original model's names.
const ORIGINAL: &str = "diffusion_model.";

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
            && (inside || (spelling::is_down_or_up(name) && !name.starts_with("base_model.")))
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
        for (name, parts) in &own {
            let (rank, scaling) = metadata.of_module(name);
            match assemble(files, name, parts, None, scaling)? {
                Ok(mut module) => {
                    module.config_rank = rank;
                    adapter.modules.push(module);
                }
                Err((code, message)) => {
                    adapter.findings.push(Finding::new(Severity::Error, code, name, message));
                }
            }
        }
        let version = files.metadata().get("ss_base_model_version").map(String::as_str);
        add_layers(files, &mut adapter, &original, Spelling::Original, version)?;
        adapter.sort();
        Ok(adapter)
    }

    fn write(&self, adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft> {
        write::draft(adapter, options)
    }
}

/// The path of a module in current diffusers: processors used to be modules, and the layers of text encoders used to
/// be called like those of attention.
fn canonical(module: &str, _: Part) -> String {
    const TEXT: &[(&str, &str)] =
        &[(".to_q", ".q_proj"), (".to_k", ".k_proj"), (".to_v", ".v_proj"), (".to_out", ".out_proj")];
    let module = module.strip_prefix(ORIGINAL).unwrap_or(module).replace(".processor.", ".");
    let of_text = module.starts_with("text_encoder");
    let renamed = TEXT
        .iter()
        .filter(|_| of_text)
        .find_map(|(old, new)| module.strip_suffix(old).map(|path| format!("{path}{new}")));
    match renamed {
        Some(renamed) => renamed,
        None if module.ends_with(".to_out") => module + ".0",
        None => module,
    }
}

#[cfg(test)]
mod tests;
