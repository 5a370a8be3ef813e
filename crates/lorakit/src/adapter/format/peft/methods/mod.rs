//! The methods of PEFT besides LoRA whose changes are exact, one file each.
//!
//! ```text
//!  AdaLoRA, LoHa, LoKr       factors            read as the LoRAs that they equal
//!  trained tokens, LN tuning values             read as what replaces the base's
//!  IA3, OFT                  factors of weights read as what a merge multiplies
//! ```
//!
//! Definitions follow `get_delta_weight` and `merge` of each method's `layer.py` in PEFT 0.21.2.

mod adalora;
#[cfg(test)]
mod dummy;
mod ia3;
mod interface;
mod ln_tuning;
mod loha;
mod lokr;
mod oft;
#[cfg(test)]
mod tests;
mod trainable_tokens;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{shapes, whole};
use crate::adapter::format::assemble::Stop;
use crate::adapter::key;
use crate::adapter::{Adapter, AdapterConfig, Files};
use crate::{Finding, Result, Severity};
use interface::{Layer, Method, Settings};

/// Every method besides LoRA that is understood.
const METHODS: &[&dyn Method] = &[
    &adalora::AdaLora,
    &loha::LoHa,
    &lokr::LoKr,
    &trainable_tokens::TrainableTokens,
    &ln_tuning::LnTuning,
    &ia3::Ia3,
    &oft::Oft,
    #[cfg(test)]
    &dummy::Dummy,
];

/// Fields that mean the same for every method.
const SHARED: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "modules_to_save",
    "peft_version",
    "revision",
    "target_modules",
    "task_type",
];

/// The method of that `peft_type`, if it is one of these.
fn of_type(raw: &Map<String, Value>) -> Option<&'static dyn Method> {
    let peft_type = raw.get("peft_type")?.as_str()?;
    METHODS.iter().copied().find(|method| method.peft_type().eq_ignore_ascii_case(peft_type))
}

/// Whether a tensor of that name belongs to one of these methods.
pub(super) fn marks(component: &str) -> bool {
    METHODS.iter().any(|method| method.marks().contains(&component))
}

/// Reads `files` if their configuration names one of these methods.
///
/// # Errors
/// `ErrorKind::Config`; if values that decide factors cannot be read.
pub(super) fn read(files: &Files, format: &'static str) -> Result<Option<Adapter>> {
    let Some(json) = &files.config else { return Ok(None) };
    let Some(raw) = json.as_object() else { return Ok(None) };
    let Some(method) = of_type(raw) else { return Ok(None) };
    let at_config = |e: crate::Error| e.at(&files.config_path());
    let settings = Settings::new(files, json, method.has_patterns())?;
    let config = config(raw, method).map_err(at_config)?;
    let mut adapter = Adapter { config, ..Adapter::empty(format, files) };
    let mut layers: BTreeMap<String, BTreeMap<(&'static str, String), usize>> = BTreeMap::new();
    let tensors = lorakit_tensor::TensorSource::tensors(&*files.source);
    let mut wholes = whole::Wholes::new(tensors, &adapter.config.modules_to_save);
    let mut spoiled = BTreeSet::new();
    for (index, info) in tensors.iter().enumerate() {
        let mut fault = |code, message: String| {
            adapter.findings.push(Finding::new(Severity::Error, code, &info.name, message));
        };
        let marked = split(&info.name, method.marks());
        if info.elements() == 0 && !(marked.is_some() && method.prunes()) {
            fault("zero-size-tensor", shapes::empty(&info.shape));
            spoiled.extend(marked.map(|(path, ..)| path));
            continue;
        }
        let Some((path, mark, rest)) = marked else {
            let (module, part) = key::parse(&info.name);
            match wholes.take(index, (&module, &part), || files.tensor(index)) {
                Ok(true) => {}
                Ok(false) => fault(
                    "foreign-method",
                    format!("does not belong to {}, which the configuration names", method.name()),
                ),
                Err((code, message)) => fault(code, message),
            }
            continue;
        };
        let parts = layers.entry(path.clone()).or_default();
        let one = !method.has_parameters();
        let is_second = one && parts.keys().any(|(other, _)| *other == mark);
        if parts.insert((mark, rest), index).is_some() || is_second {
            fault("repeated-key", format!("is a second tensor for the same part of `{path}`"));
        }
    }
    let (saved, head) = wholes.finish();
    adapter.saved = saved;
    adapter.findings.extend(head);
    let count = layers.len();
    layers.retain(|path, _| !spoiled.contains(path));
    for (path, parts) in layers {
        let layer = Layer { path: &path, parts: &parts, files, settings: &settings };
        match method.read(&layer, &mut adapter) {
            Ok(()) => {}
            Err(Stop::Fault((code, message))) => {
                adapter.findings.push(Finding::new(Severity::Error, code, &path, message));
            }
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    for patterns in [&settings.ranks, &settings.alphas] {
        patterns.check().map_err(at_config)?;
    }
    if count > 0 {
        let message =
            format!("is an adapter of the method {}: it is read as {}", method.name(), method.read_as());
        adapter.findings.push(Finding::new(Severity::Note, "method", "", message));
    }
    adapter.sort();
    Ok(Some(adapter))
}

/// Splits a tensor's name into the path of its layer, the mark, and what follows the mark.
fn split(name: &str, marks: &[&'static str]) -> Option<(String, &'static str, String)> {
    let components: Vec<&str> = name.split('.').collect();
    let (at, mark) = components
        .iter()
        .enumerate()
        .find_map(|(at, component)| Some((at, *marks.iter().find(|mark| *mark == component)?)))?;
    let (path, _) = key::parse(&format!("{}.weight", components[..at].join(".")));
    let rest = components.last().filter(|_| at + 1 < components.len());
    Some((path, mark, rest.map_or_else(String::new, |rest| (*rest).to_string())))
}

/// The configuration as that of a LoRA without ranks and alphas of its own: each module has its scale. If the adapter
/// stays one of its method, what is written starts from the configuration as it was.
fn config(raw: &Map<String, Value>, method: &dyn Method) -> Result<AdapterConfig> {
    let mut config = AdapterConfig::from_json(&Value::from(of_lora(raw)))?;
    if !method.is_low_rank() {
        config.target_modules.clear();
    }
    if method.stays().is_some() {
        config.raw = raw.clone();
    }
    Ok(config)
}

/// The fields of a configuration that mean the same for a LoRA.
fn of_lora(raw: &Map<String, Value>) -> Map<String, Value> {
    let shared = raw.iter().filter(|(name, _)| SHARED.contains(&name.as_str()));
    let mut lora: Map<String, Value> = shared.map(|(name, value)| (name.clone(), value.clone())).collect();
    lora.insert("peft_type".into(), "LORA".into());
    if lora.get("bias").and_then(Value::as_str).is_some_and(|bias| bias.ends_with("_only")) {
        lora.insert("bias".into(), "lora_only".into());
    }
    lora
}

/// What an adapter's own configuration gives to one that is written: all of it, unless the adapter no longer is one of
/// the method that it names.
pub(super) fn written_fields(adapter: &Adapter) -> Map<String, Value> {
    let raw = &adapter.config.raw;
    if of_type(raw).is_none() || written_mark(adapter).is_some() {
        return raw.clone();
    }
    let mut fields = of_lora(raw);
    // They name layers of the other method.
    fields.remove("target_modules");
    fields
}

/// The component that marks saved values and token rows in a folder written with this configuration, if the folder
/// is one of another method than LoRA.
pub(super) fn written_mark(adapter: &Adapter) -> Option<&'static str> {
    of_type(&adapter.config.raw)?.stays().filter(|_| adapter.modules.is_empty())
}
