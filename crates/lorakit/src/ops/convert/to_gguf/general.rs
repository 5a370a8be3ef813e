//! `general.*`: what the model is called and how it is meant to be sampled.

use lorakit_tensor::format::gguf::{Metadata, Value as GgufValue};
use serde_json::Value;

use super::files::Files;
use super::name::{Name, size_label, title};
use crate::plan::OutputTensor;
use crate::{ModelConfig, Result};

/// Entries of `generation_config.json` with their keys after `general.sampling.`; of two names, the first counts.
const SAMPLING: &[(&str, &[&str])] = &[
    ("sequence", &["sequence"]),
    ("top_k", &["top_k"]),
    ("top_p", &["top_p"]),
    ("min_p", &["min_p"]),
    ("xtc_probability", &["xtc_probability"]),
    ("xtc_threshold", &["xtc_threshold"]),
    ("temp", &["temperature"]),
    ("penalty_last_n", &["penalty_last_n"]),
    ("penalty_repeat", &["penalty_repeat", "repetition_penalty"]),
    ("mirostat", &["mirostat"]),
    ("mirostat_tau", &["mirostat_tau"]),
    ("mirostat_eta", &["mirostat_eta"]),
];
/// Those that are whole numbers; `sequence` is text, all others are f32.
const WHOLE: &[&str] = &["top_k", "penalty_last_n", "mirostat"];

/// Sets the keys for the model called `name`.
pub(super) fn set(
    metadata: &mut Metadata,
    name: &str,
    files: Files<'_>,
    config: &ModelConfig,
    tensors: &[OutputTensor],
) -> Result<()> {
    let generation = files.json("generation_config.json")?.unwrap_or(Value::Null);
    for (key, names) in SAMPLING {
        let value = names.iter().map(|name| &generation[*name]).find(|value| !value.is_null());
        if let Some(value) = value.and_then(|value| sampling_value(key, value)) {
            metadata.set(&format!("general.sampling.{key}"), value);
        }
    }
    let counts = Counts::of(tensors);
    let mut parts = Vec::new();
    // What the model was saved from, where that is a name and not a path.
    if let Some(id) = config.json["_name_or_path"].as_str().filter(|id| id.matches('/').count() <= 1) {
        parts.push(Name::of(id, counts.total));
    }
    parts.push(Name::of(name, counts.total));
    let first = |part: fn(&Name) -> &Option<String>| parts.iter().find_map(|name| part(name).clone());
    let size = || size_label(counts.total, counts.shared, counts.expert, counts.experts);
    for (key, text) in [
        ("general.name", first(|n| &n.name).map(|name| title(&name))),
        ("general.version", first(|n| &n.version)),
        ("general.organization", first(|n| &n.organization).map(|name| title(&name))),
        ("general.finetune", first(|n| &n.finetune)),
        ("general.basename", first(|n| &n.basename)),
        ("general.size_label", first(|n| &n.size_label).or_else(|| Some(size()))),
    ] {
        if let Some(text) = text {
            metadata.set(key, GgufValue::String(text));
        }
    }
    Ok(())
}

fn sampling_value(key: &str, value: &Value) -> Option<GgufValue> {
    if key == "sequence" {
        return Some(GgufValue::String(value.as_str()?.to_string()));
    }
    if WHOLE.contains(&key) {
        return Some(GgufValue::I32(i32::try_from(value.as_i64()?).ok()?));
    }
    Some(GgufValue::F32(value.as_f64()? as f32))
}

/// Numbers of parameters.
#[derive(Debug, Default)]
struct Counts {
    total: u64,
    /// Of tensors that every token passes through.
    shared: u64,
    /// Of one expert in each layer.
    expert: u64,
    experts: u64,
}

impl Counts {
    fn of(tensors: &[OutputTensor]) -> Self {
        let mut counts = Counts::default();
        let (mut sum, mut stacks) = (0, 0);
        for info in tensors.iter().map(|tensor| &tensor.info) {
            let parameters = info.elements();
            counts.total += parameters;
            match info.shape.as_slice() {
                [experts, _, _] if info.name.contains("_exps.") => {
                    counts.expert += parameters / (*experts as u64).max(1);
                    sum += *experts as u64;
                    stacks += 1;
                }
                _ => counts.shared += parameters,
            }
        }
        counts.experts = sum.checked_div(stacks).unwrap_or(0);
        counts
    }
}
