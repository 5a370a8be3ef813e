//! Settings for which a format has no field: they travel in its header, and come back.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Adapter, AdapterConfig};

/// The key under which an `adapter_config.json` travels in headers of other formats.
pub(crate) const CONFIG_KEY: &str = "lorakit.adapter_config";

/// The strings of the adapter's header, without those that belong to one format only.
pub(crate) fn header(adapter: &Adapter) -> BTreeMap<String, String> {
    let own = |name: &str| name == CONFIG_KEY || name == "format" || name == "lora_adapter_metadata";
    adapter.metadata.iter().filter(|(name, _)| !own(name)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The configuration as the text that travels, if there is one.
pub(crate) fn config_text(adapter: &Adapter) -> Option<String> {
    (!adapter.config.raw.is_empty()).then(|| Value::from(adapter.config.raw.clone()).to_string())
}

/// The configuration that travelled as `text`; a plain LoRA's if `text` is missing or makes no sense.
pub(crate) fn config(text: Option<&str>) -> AdapterConfig {
    let parsed = text.and_then(|text| serde_json::from_str(text).ok());
    let config = parsed.and_then(|json: Value| AdapterConfig::from_json(&json).ok());
    let config = config.unwrap_or_default();
    AdapterConfig { peft_type: "LORA".into(), ..config }
}
