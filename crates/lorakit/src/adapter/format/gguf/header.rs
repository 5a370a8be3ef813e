//! The metadata of a GGUF adapter.

use std::collections::BTreeMap;

use lorakit_tensor::DType;
use lorakit_tensor::format::gguf::{Array, Metadata, Value};
use serde_json::Value as Json;

use crate::adapter::{Adapter, AdapterConfig, carried, is_local_path};
use crate::{Finding, Severity};

pub(super) const ARCHITECTURE: &str = "general.architecture";
pub(super) const TYPE: &str = "general.type";
pub(super) const ADAPTER: &str = "adapter";
const METHOD: &str = "adapter.type";
const ALPHA: &str = "adapter.lora.alpha";
const FILE_TYPE: &str = "general.file_type";
const QUANTIZATION: &str = "general.quantization_version";
const NAME: &str = "general.name";
const BASE_COUNT: &str = "general.base_model.count";
const BASE: &str = "general.base_model.0.";
const INVOCATION: &str = "adapter.alora.invocation_tokens";
/// PEFT's name for [`INVOCATION`].
const INVOCATION_CONFIG: &str = "alora_invocation_tokens";
const HUB: &str = "https://huggingface.co/";

/// Whether the key follows from the adapter; every other string travels along.
fn is_own(key: &str) -> bool {
    const OWN: &[&str] =
        &[ARCHITECTURE, TYPE, METHOD, ALPHA, FILE_TYPE, QUANTIZATION, BASE_COUNT, INVOCATION];
    OWN.contains(&key) || key == "general.alignment" || key == carried::CONFIG_KEY || key.starts_with(BASE)
}

/// The text of `key`.
pub(super) fn text<'a>(metadata: &'a Metadata, key: &str) -> Option<&'a str> {
    metadata.get(key).and_then(Value::as_str)
}

/// The metadata of an adapter file.
pub(super) struct Header {
    /// `alpha`; `None` if the scale is 1.
    pub(super) alpha: Option<f64>,
    /// The configuration that travelled along, completed.
    pub(super) config: AdapterConfig,
    /// Strings that do not belong to a field.
    pub(super) strings: BTreeMap<String, String>,
    pub(super) findings: Vec<Finding>,
}

impl Header {
    /// Reads the metadata; anything that llama.cpp would not load becomes a finding.
    pub(super) fn of(metadata: &Metadata) -> Self {
        let mut findings = Vec::new();
        let mut fault = |code, key: &str, message: String| {
            findings.push(Finding::new(Severity::Error, code, key, message));
        };
        for (key, needed) in [(TYPE, ADAPTER), (METHOD, "lora")] {
            if text(metadata, key) != Some(needed) {
                let found = metadata.get(key).map_or("absent".into(), ToString::to_string);
                let message = format!("is {}, and llama.cpp needs `{needed}`", found.escape_debug());
                fault("metadata", key, message);
            }
        }
        let alpha = match metadata.get(ALPHA) {
            None => None,
            Some(Value::F32(alpha)) if alpha.is_finite() => {
                Some(f64::from(*alpha)).filter(|alpha| *alpha != 0.0)
            }
            Some(other) => {
                let message = format!(
                    "is {other} of type {}, and llama.cpp stops at anything but a finite f32",
                    other.type_name()
                );
                fault("metadata", ALPHA, message);
                None
            }
        };
        let mut config = carried::config(text(metadata, carried::CONFIG_KEY));
        config.base_model = config.base_model.or_else(|| base_model(metadata));
        if let Some(Value::Array(Array::U32(tokens))) = metadata.get(INVOCATION) {
            config.raw.entry(INVOCATION_CONFIG).or_insert_with(|| tokens.clone().into());
        }
        let strings = metadata.iter().filter(|(key, _)| !is_own(key));
        let strings = strings.filter_map(|(key, value)| Some((key.to_string(), value.as_str()?.to_string())));
        Header { alpha, config, strings: strings.collect(), findings }
    }
}

/// The base's Hugging Face identifier, else its name.
pub(super) fn base_model(metadata: &Metadata) -> Option<String> {
    let part = |part: &str| text(metadata, &format!("{BASE}{part}"));
    let on_hub = part("repo_url").and_then(|url| url.strip_prefix(HUB));
    on_hub.filter(|id| !is_local_path(id)).or_else(|| part("name")).map(str::to_string)
}

/// The metadata of `adapter` for models of `architecture`; `dtype` is the dtype of most values.
pub(super) fn metadata(adapter: &Adapter, architecture: &str, alpha: f32, dtype: DType) -> Metadata {
    let mut metadata = Metadata::default();
    let string = |text: &str| Value::String(text.to_string());
    metadata.set(ARCHITECTURE, string(architecture));
    metadata.set(TYPE, string(ADAPTER));
    metadata.set(METHOD, string("lora"));
    metadata.set(ALPHA, Value::F32(alpha));
    let path = adapter.path.canonicalize().unwrap_or_else(|_| adapter.path.clone());
    metadata.set(NAME, string(&path.file_stem().unwrap_or_default().to_string_lossy()));
    let config = &adapter.config;
    if let Some(id) = config.public_base_model() {
        metadata.set(BASE_COUNT, Value::U32(1));
        let (organization, name) = id.split_once('/').map_or((None, id), |(o, name)| (Some(o), name));
        metadata.set(&format!("{BASE}name"), string(name));
        if let Some(organization) = organization {
            metadata.set(&format!("{BASE}organization"), string(organization));
            metadata.set(&format!("{BASE}repo_url"), string(&format!("{HUB}{id}")));
        }
    }
    let file_type = match dtype {
        DType::F16 => 1,
        DType::Q4_0 => 2,
        DType::Q8_0 => 7,
        DType::BF16 => 32,
        _ => 0,
    };
    metadata.set(FILE_TYPE, Value::U32(file_type));
    metadata.set(QUANTIZATION, Value::U32(2));
    let tokens = config.raw.get(INVOCATION_CONFIG).and_then(Json::as_array);
    let token = |token: &Json| token.as_u64().and_then(|token| u32::try_from(token).ok());
    if let Some(tokens) = tokens.and_then(|tokens| tokens.iter().map(token).collect::<Option<Vec<u32>>>()) {
        metadata.set(INVOCATION, Value::Array(Array::U32(tokens)));
    }
    for (key, text) in carried::header(adapter).iter().filter(|(key, _)| !is_own(key)) {
        metadata.set(key, string(text));
    }
    if let Some(config) = carried::config_text(adapter) {
        metadata.set(carried::CONFIG_KEY, Value::String(config));
    }
    metadata
}
