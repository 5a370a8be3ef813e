//! `adapter_config.json` in mlx-lm's form.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{AdapterConfig, Problem};
use crate::Result;

/// The key under which the `adapter_config.json` of mlx-lm travels in headers of other formats.
pub(super) const CONFIG_KEY: &str = "lorakit.mlx_config";

/// The settings that decide the meaning of the tensors.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) scale: f64,
    pub(super) rank: Option<f64>,
    dora: bool,
    model: Option<String>,
}

/// Whether whole weights were trained.
pub(super) fn is_full(json: &Value) -> bool {
    json["fine_tune_type"] == "full"
}

impl Settings {
    /// # Errors
    /// `ErrorKind::Unsupported` for whole weights and unknown methods; `ErrorKind::Config` without a scale.
    pub(super) fn from_json(json: &Value) -> Result<Self> {
        let dora = match &json["fine_tune_type"] {
            Value::Null => json["use_dora"] == true,
            Value::String(kind) if kind == "lora" => false,
            Value::String(kind) if kind == "dora" => true,
            Value::String(kind) if kind == "full" => return Err(Problem::WholeWeights.into()),
            other => return Err(Problem::Method { found: other.to_string() }.into()),
        };
        let parameters = &json["lora_parameters"];
        let scale = number(parameters, "scale")?.ok_or(Problem::NoScale)?;
        let rank = number(parameters, "rank")?;
        // Until June 2024, mlx-lm multiplied by `alpha / rank` as well; since then it ignores alpha. Its configurations
        // have had `fine_tune_type` and `num_layers` since September 2024.
        let legacy = json["fine_tune_type"].is_null() && json["num_layers"].is_null();
        let factor = match (number(parameters, "alpha")?.filter(|_| legacy), rank) {
            (Some(alpha), Some(rank)) if rank > 0.0 => alpha / rank,
            _ => 1.0,
        };
        let model = json["model"].as_str().filter(|name| !name.is_empty()).map(str::to_string);
        Ok(Settings { scale: scale * factor, rank, dora, model })
    }

    /// The same settings in the fields of PEFT's configuration.
    pub(super) fn typed(&self, config: AdapterConfig) -> AdapterConfig {
        AdapterConfig {
            base_model: self.model.clone(),
            r: self.rank.map(|rank| rank as u64),
            alpha: self.rank.map(|rank| self.scale * rank),
            use_dora: self.dora,
            ..config
        }
    }
}

fn number(object: &Value, name: &'static str) -> Result<Option<f64>> {
    match &object[name] {
        Value::Null => Ok(None),
        Value::Number(number) if number.as_f64().is_some_and(f64::is_finite) => Ok(number.as_f64()),
        other => Err(Problem::Parameter { name, found: other.to_string() }.into()),
    }
}

/// The settings to write.
#[derive(Debug)]
pub(super) struct Written<'a> {
    pub(super) dora: bool,
    /// How many of the last layers are adapted; `None` if the number of layers is not known.
    pub(super) layers: Option<usize>,
    pub(super) rank: usize,
    pub(super) scale: f64,
    pub(super) keys: &'a BTreeSet<String>,
    pub(super) model: Option<&'a str>,
    /// `lora_dropout` from PEFT's configuration.
    pub(super) dropout: Option<f64>,
}

impl Written<'_> {
    /// The configuration: `before`, if the adapter once came from mlx-lm, updated with the present settings.
    pub(super) fn json(&self, before: Option<&str>) -> Value {
        let before = before.and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
        let mut json = before.unwrap_or_default();
        if let Some(layers) = json.remove("lora_layers") {
            json.entry("num_layers").or_insert(layers);
        }
        json.remove("use_dora");
        json.insert("fine_tune_type".into(), if self.dora { "dora" } else { "lora" }.into());
        // `layers[-max(n, 0):]`: -1 means all layers. Layers without factors do nothing.
        match self.layers {
            Some(layers) => drop(json.insert("num_layers".into(), layers.into())),
            None => drop(json.entry("num_layers").or_insert(json!(-1))),
        }
        if let Some(model) = self.model {
            json.entry("model").or_insert(model.into());
        }
        let mut parameters =
            json.get("lora_parameters").and_then(Value::as_object).cloned().unwrap_or_default();
        parameters.remove("alpha");
        parameters.insert("rank".into(), self.rank.into());
        parameters.insert("scale".into(), self.scale.into());
        parameters.entry("dropout").or_insert(self.dropout.unwrap_or(0.0).into());
        parameters.insert("keys".into(), self.keys.iter().cloned().collect::<Vec<_>>().into());
        json.insert("lora_parameters".into(), parameters.into());
        json.into()
    }
}
