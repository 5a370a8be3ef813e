//! torchtune: `adapter_model.pt`, or `.safetensors`, in its own names, with an `adapter_config.json`.
//!
//! Factors have PEFT's layout. If torchtune's converter of the base model reorders the rows of q and k, those of
//! `lora_b` and of the magnitudes are in Meta's order too; if it splits fused layers (Phi 3), so are the factors.
//! Sources: torchtune `models/convert_weights.py`, `models/*/_convert_weights.py`, `modules/peft`.

mod names;
mod problem;
mod rows;
mod write;

use std::collections::BTreeMap;

use names::hf_name;

use super::halves::{Half, Pair, pairs};
use super::{AdapterFormat, Draft, DraftOptions};
use crate::adapter::fuse::{FusePart, fuse};
use crate::adapter::{Adapter, AdapterConfig, Files, Module, ModuleKind, ROW_ORDER, Scaling, carried};
use crate::card::Loading;
use crate::{Base, Error, ErrorKind, Finding, Result, Severity};
use problem::Problem;

/// torchtune.
#[derive(Debug)]
pub(crate) struct Torchtune;

const LOADING: &str = "\
from safetensors.torch import load_file

# `model` is the LoRA model of torchtune for {base}, built with the rank and alpha of `adapter_config.json`.
model.load_state_dict(load_file(\"adapter_model.safetensors\"), strict=False)
";

impl AdapterFormat for Torchtune {
    fn name(&self) -> &'static str {
        "torchtune"
    }

    fn title(&self) -> &'static str {
        "a folder for torchtune: adapter_config.json and adapter_model.safetensors in its names"
    }

    fn files(&self) -> &'static [&'static str] {
        &["adapter_model.safetensors", "adapter_model.pt"]
    }

    fn needs_base(&self) -> bool {
        true
    }

    fn marks(&self, name: &str, files: &Files) -> bool {
        !files.is_gguf() && (name.ends_with(".lora_a.weight") || name.ends_with(".lora_b.weight"))
    }

    fn loading(&self) -> Option<Loading> {
        Some(Loading { library: "torchtune", code: LOADING, without_class: None })
    }

    fn read(&self, files: &Files, base: Option<&Base>) -> Result<Adapter> {
        let json = files.config.as_ref().ok_or_else(|| files.no_adapter())?;
        let own = AdapterConfig::from_json(json).map_err(|e| e.at(&files.config_path()))?;
        let (Some(alpha), Some(rank)) = (own.alpha, own.r) else {
            return Err(Error::from(super::Problem::NoScale).at(&files.config_path()));
        };
        let travelled = files.metadata().get(carried::CONFIG_KEY).map(String::as_str);
        let config = if travelled.is_some() { carried::config(travelled) } else { own };
        let (pairs, findings) = pairs(files, |info| {
            let (path, half) = match info.name.strip_suffix(".magnitude") {
                Some(path) => (path, Half::Magnitude),
                None => match info.name.strip_suffix(".weight")?.rsplit_once('.')? {
                    (path, "lora_a") => (path, Half::A),
                    (path, "lora_b") => (path, Half::B),
                    _ => return None,
                },
            };
            Some((hf_name(path)?, half))
        });
        let mut adapter = Adapter { config, findings, ..Adapter::empty(self.name(), files) };
        let rows = match rows::Rows::of(base, pairs.iter().map(|pair| pair.path.as_str())) {
            // It can be inspected as it is; Adapter::check refuses to use it.
            Err(error) if error.kind() == ErrorKind::NeedsBase => {
                adapter.findings.push(Finding::new(Severity::Note, ROW_ORDER, "", error.to_string()));
                rows::Rows::as_they_lie()
            }
            other => other.map_err(|e| e.at(&adapter.path))?,
        };
        let mut modules = BTreeMap::new();
        for pair in pairs {
            match module(&pair, &rows, alpha, rank)? {
                Ok(module) => drop(modules.insert(pair.path, module)),
                Err(fault) => adapter.findings.push(fault),
            }
        }
        adapter.config.use_dora |= modules.values().any(|module| module.magnitude.is_some());
        adapter.modules = match rows.fused {
            Some(fused) => {
                // They name layers that are fused in Hugging Face's model.
                adapter.config.target_modules.clear();
                adapter.config.raw.remove("target_modules");
                joined(modules, fused)?
            }
            None => modules.into_values().collect(),
        };
        adapter.sort();
        Ok(adapter)
    }

    fn write(&self, adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft> {
        write::draft(adapter, options)
    }

    #[cfg(test)]
    fn problems(&self) -> Vec<crate::Error> {
        Problem::samples().into_iter().map(crate::Error::from).collect()
    }
}

/// The module, or the fault of its tensors.
fn module(
    pair: &Pair,
    rows: &rows::Rows,
    alpha: f64,
    rank: u64,
) -> Result<std::result::Result<Module, Finding>> {
    let Some((_, [outputs, _])) = pair.matrices().filter(|(a, b)| a[0] == b[1]) else {
        return Ok(Err(pair.misshapen("(r, in) and (out, r)")));
    };
    let order = match rows.to_hf(&pair.path, outputs) {
        Ok(order) => order,
        Err(error) => return Ok(Err(Finding::new(Severity::Error, "shape", &pair.path, error.to_string()))),
    };
    if pair.magnitude.as_ref().is_some_and(|m| m.info().elements() != outputs as u64) {
        let message = format!("has a magnitude that does not have {outputs} values, one for each row of B");
        return Ok(Err(Finding::new(Severity::Error, "shape", &pair.path, message)));
    }
    let magnitude = pair.magnitude.as_ref().map(|m| rows::gathered(m, &order)).transpose()?;
    let b = rows::gathered(&pair.b, &order)?;
    Ok(Ok(Module {
        config_rank: Some(rank as f64),
        magnitude,
        ..Module::new(
            pair.path.clone(),
            ModuleKind::Linear,
            pair.a.clone(),
            b,
            Scaling::Fixed(alpha / rank as f64),
        )
    }))
}

/// Fuses q, k and v, and gate and up, as in the model.
fn joined(mut modules: BTreeMap<String, Module>, fused: rows::Fused) -> Result<Vec<Module>> {
    let mut whole = Vec::new();
    let prefixes: std::collections::BTreeSet<String> =
        modules.keys().filter_map(|path| rows::layer(path)).collect();
    for prefix in prefixes {
        for (name, parts) in fused.layers() {
            let taken: Vec<(Option<Module>, usize)> = parts
                .iter()
                .map(|(part, rows)| (modules.remove(&format!("{prefix}.{part}")), *rows))
                .collect();
            if taken.iter().all(|(module, _)| module.is_none()) {
                continue;
            }
            let parts: Vec<FusePart<'_>> = taken
                .iter()
                .map(|(module, rows)| FusePart { module: module.as_ref(), rows: *rows })
                .collect();
            whole.push(fuse(&format!("{prefix}.{name}"), &parts)?);
        }
    }
    whole.extend(modules.into_values());
    Ok(whole)
}

#[cfg(test)]
mod tests;
