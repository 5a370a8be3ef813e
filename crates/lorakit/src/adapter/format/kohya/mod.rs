//! kohya's sd-scripts and LyCORIS: one `.safetensors` file for a diffusion model.
//!
//! Names are paths with underscores for dots, so only a list of the model's layers tells which layer a name means:
//! [`crate::arch::diffusion`]. Each module has an `.alpha`, which is divided by the rank. Source: `networks/lora.py`,
//! `networks/lora_flux.py` of sd-scripts; `lycoris/modules` of LyCORIS.

mod hash;
mod write;

use std::collections::BTreeMap;

use super::layers::add_layers;
use super::{AdapterFormat, Draft, DraftOptions, spelling};
use crate::adapter::{Adapter, Files, carried};
use crate::arch::diffusion::Spelling;
use crate::plan::DataDigest;
use crate::{Base, Result};

/// kohya's format.
#[derive(Debug)]
pub(crate) struct Kohya;

impl AdapterFormat for Kohya {
    fn name(&self) -> &'static str {
        "kohya"
    }

    fn title(&self) -> &'static str {
        "a .safetensors file for sd-scripts, ComfyUI, A1111: an adapter of a diffusion model"
    }

    fn ending(&self) -> Option<&'static str> {
        Some("safetensors")
    }

    fn marks(&self, name: &str, _: &Files) -> bool {
        let module = name.split('.').next().unwrap_or_default();
        let prefixed = ["lora_", "lycoris_"].iter().any(|prefix| module.starts_with(prefix));
        prefixed
            && !module.starts_with("lora_embedding_")
            && module.len() < name.len()
            && !is_peft_part(module)
    }

    fn read(&self, files: &Files, _: Option<&Base>) -> Result<Adapter> {
        let config = carried::config(files.metadata().get(carried::CONFIG_KEY).map(String::as_str));
        let mut adapter = Adapter { config, ..Adapter::empty(self.name(), files) };
        let modules = spelling::collect(files, &mut adapter, |module, _| module.to_string());
        let version = files.metadata().get(write::VERSION).map(String::as_str);
        add_layers(files, &mut adapter, &modules, Spelling::Kohya, version)?;
        adapter.sort();
        Ok(adapter)
    }

    fn write(&self, adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft> {
        write::draft(adapter, options)
    }

    fn digests(&self, draft: &Draft) -> Result<Vec<DataDigest>> {
        hash::digests(draft)
    }

    fn reserve_digests(&self, metadata: &mut BTreeMap<String, String>) {
        hash::reserve(metadata);
    }
}

/// Names of PEFT's parts, which begin like kohya's prefixes.
fn is_peft_part(module: &str) -> bool {
    matches!(module, "lora_A" | "lora_B" | "lora_magnitude_vector" | "lora_params")
}

#[cfg(test)]
mod tests;
