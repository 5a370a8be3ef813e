//! kohya's sd-scripts and LyCORIS: one `.safetensors` file for a diffusion model.
//!
//! Names are paths with underscores for dots, so only a list of the model's layers tells which layer a name means:
//! [`crate::arch::diffusion`]. Each module has an `.alpha`, which is divided by the rank. Source: `networks/lora.py`,
//! `networks/lora_flux.py` of sd-scripts; `lycoris/modules` of LyCORIS.

mod hash;
mod names;
mod write;

use std::collections::BTreeMap;

use super::layers::{VERSION, add_as_named, add_layers, model_of, note_missing_alphas};
use super::spelling::Part;
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

    /// The list of a model's layers decides what names mean; if no model has them all, or if the modules must stay as
    /// they are in the base (magnitudes of DoRA), the names of the base decide.
    fn read(&self, files: &Files, base: Option<&Base>) -> Result<Adapter> {
        let config = carried::config(files.metadata().get(carried::CONFIG_KEY).map(String::as_str));
        let mut adapter = Adapter { config, ..Adapter::empty(self.name(), files) };
        let modules = spelling::collect(files, &mut adapter, |module, _| module.to_string());
        if modules.is_empty() {
            return Ok(adapter);
        }
        note_missing_alphas(&mut adapter, modules.values());
        let version = files.metadata().get(VERSION).map(String::as_str);
        let model = model_of(files, &modules, Spelling::Kohya, version);
        let dora = modules.values().any(|parts| parts.contains_key(&Part::Magnitude));
        let in_base = match base {
            Some(base) if dora || model.is_err() => names::in_base(base, modules.keys()),
            _ => None,
        };
        match in_base {
            Some(paths) => {
                for (path, parts) in paths.iter().zip(modules.values()) {
                    add_as_named(files, &mut adapter, (path, parts), (None, None))?;
                }
            }
            None => add_layers(files, &mut adapter, &modules, (model?, Spelling::Kohya))?,
        }
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
