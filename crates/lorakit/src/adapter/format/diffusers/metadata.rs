//! `lora_adapter_metadata`: PEFT configurations of all components, in one JSON object whose keys begin with the
//! component's name.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::adapter::{Adapter, AdapterConfig, Files, Module, Scaling};
use crate::{Error, Result};

use super::super::{Problem, most_common, ranks};

/// The header entry.
pub(super) const KEY: &str = "lora_adapter_metadata";

/// The prefix of an original model's names.
pub(super) const ORIGINAL: &str = "diffusion_model.";

/// Components of pipelines.
const COMPONENTS: &[&str] =
    &["unet", "transformer", "transformer_2", "text_encoder", "text_encoder_2", "text_encoder_3", "prior"];

/// The component with which a path begins, and the rest.
pub(super) fn component(path: &str) -> Option<(&str, &str)> {
    path.split_once('.').filter(|(first, _)| COMPONENTS.contains(first))
}

/// The configurations by component.
pub(super) struct Metadata(BTreeMap<String, AdapterConfig>);

impl Metadata {
    /// Reads the header entry.
    ///
    /// # Errors
    /// `ErrorKind::Config` if it is not a JSON object, or if it holds values that make no sense.
    pub(super) fn of(files: &Files) -> Result<Self> {
        let place = |e: Error| e.tensor(KEY).at(files.source.path());
        let Some(text) = files.metadata().get(KEY) else { return Ok(Metadata(BTreeMap::new())) };
        let objects = objects(text).ok_or_else(|| place(Problem::HeaderEntry.into()))?;
        let config =
            |(name, object)| Ok((name, AdapterConfig::from_json(&Value::Object(object)).map_err(place)?));
        objects.into_iter().map(config).collect::<Result<_>>().map(Metadata)
    }

    /// Rank and scaling of the module at `path`, if its component has a configuration with an alpha.
    pub(super) fn of_module(&self, path: &str) -> (Option<f64>, Option<Scaling>) {
        let Some((name, rest)) = component(path) else { return (None, None) };
        let Some(config) = self.0.get(name).filter(|config| config.alpha.is_some()) else {
            return (None, None);
        };
        let (rank, scaling) = config.of_module(rest);
        (rank, Some(scaling))
    }
}

/// The entries of each component.
fn objects(text: &str) -> Option<BTreeMap<String, Map<String, Value>>> {
    let all: Map<String, Value> = serde_json::from_str(text).ok()?;
    let mut objects: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (key, value) in all {
        if let Some((name, rest)) = key.split_once('.') {
            objects.entry(name.to_string()).or_default().insert(rest.to_string(), value);
        }
    }
    Some(objects)
}

/// The header entry for modules at `paths`, in which nothing scales: alphas are ranks. Entries that diffusers wrote
/// before stay, as far as they are still true.
pub(super) fn text(adapter: &Adapter, paths: &[String]) -> String {
    let before = adapter.metadata.get(KEY).and_then(|text| objects(text)).unwrap_or_default();
    let mut by_component: BTreeMap<&str, Vec<(&str, &Module)>> = BTreeMap::new();
    for (path, module) in paths.iter().zip(&adapter.modules) {
        if let Some((name, rest)) = component(path) {
            by_component.entry(name).or_default().push((rest, module));
        }
    }
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    for (name, modules) in by_component {
        let object = before.get(name).cloned().unwrap_or_default();
        for (key, value) in object.into_iter().chain(config(&modules)) {
            all.insert(format!("{name}.{key}"), value);
        }
    }
    serde_json::to_string_pretty(&all).unwrap_or_default()
}

/// A PEFT configuration of these modules.
fn config(modules: &[(&str, &Module)]) -> Map<String, Value> {
    let owned: Vec<Module> = modules.iter().map(|(_, module)| (*module).clone()).collect();
    let r = most_common(ranks(&owned)).unwrap_or(8.0) as u64;
    let others = modules.iter().filter(|(_, module)| module.rank() as u64 != r);
    // PEFT reads these keys as regular expressions that match the end of a path.
    let pattern: Map<String, Value> = others
        .map(|(path, module)| (format!("^{}", path.replace('.', "\\.")), json!(module.rank())))
        .collect();
    let mut targets: Vec<&str> = modules.iter().map(|(path, _)| *path).collect();
    targets.sort_unstable();
    let entries = [
        ("r", json!(r)),
        ("lora_alpha", json!(r)),
        ("rank_pattern", Value::from(pattern.clone())),
        ("alpha_pattern", Value::from(pattern)),
        ("target_modules", json!(targets)),
        ("use_rslora", json!(false)),
        ("use_dora", json!(modules.iter().any(|(_, module)| module.magnitude.is_some()))),
        ("lora_bias", json!(modules.iter().any(|(_, module)| module.bias.is_some()))),
    ];
    entries.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}
