//! `adapter_config.json`: the fields that decide what an adapter means.

use lorakit_tensor::json;
use lorakit_tensor::problem::excerpt;
use serde_json::{Map, Value};

use super::pattern::Patterns;
use super::{Problem, Scaling};
use crate::{Error, Result};

/// The typed contents of `adapter_config.json`. Fields without meaning for a finished adapter are left out.
#[derive(Debug, Clone, Default)]
pub struct AdapterConfig {
    /// `peft_type`, upper case; `LORA` for everything that can be merged.
    pub peft_type: String,
    /// The version of PEFT that wrote it; absent before 0.18.
    pub peft_version: Option<String>,
    /// `base_model_name_or_path`.
    pub base_model: Option<String>,
    /// `task_type`.
    pub task_type: Option<String>,
    /// Default rank `r`.
    pub r: Option<u64>,
    /// Default `lora_alpha`.
    pub alpha: Option<f64>,
    /// Whether the scale is `alpha / sqrt(r)` instead of `alpha / r`.
    pub use_rslora: bool,
    /// Ranks that differ from `r`, by module pattern.
    pub rank_pattern: Patterns,
    /// Alphas that differ from `lora_alpha`, by module pattern.
    pub alpha_pattern: Patterns,
    /// Whether the base stores weights as `(in, out)`.
    pub fan_in_fan_out: bool,
    /// `none`, `all` or `lora_only`.
    pub bias: String,
    /// Modules that were trained and saved whole.
    pub modules_to_save: Vec<String>,
    /// How the factors were initialised, e.g. `pissa`; `true` and `false` as text.
    pub init: String,
    /// `target_modules`: a list, or one regular expression.
    pub target_modules: Vec<String>,
    /// `exclude_modules`: modules that `target_modules` names and that are left as they were; a list, or one regular
    /// expression.
    pub exclude_modules: Vec<String>,
    /// `target_parameters`: parameters of expert modules.
    pub target_parameters: Vec<String>,
    /// Token rows that were trained: `(module suffix, rows)`; an empty suffix means the input embedding.
    pub token_indices: Vec<(String, Vec<usize>)>,
    /// Ranges of layers that were repeated.
    pub layer_replication: bool,
    /// `lora_bias`.
    pub lora_bias: bool,
    /// `use_dora`.
    pub use_dora: bool,
    /// Whether input and output embedding were trained as one.
    pub ensure_weight_tying: bool,
    /// Options that a merge cannot honour, as `name: value`.
    pub unmergeable: Vec<String>,
    /// `lora_B_layout`, where a trainer wrote it.
    pub moe_b_layout: Option<String>,
    /// The file as it is, including fields that are not understood.
    pub(crate) raw: Map<String, Value>,
}

/// Options whose presence means that `W + scale * B * A` is not what was trained.
const UNMERGEABLE: &[&str] =
    &["alora_invocation_tokens", "arrow_config", "use_qalora", "use_bdlora", "kasa_config"];

impl AdapterConfig {
    /// Reads the contents of an `adapter_config.json`.
    ///
    /// # Errors
    /// `ErrorKind::Config` for a value of the wrong type or out of range.
    pub(crate) fn from_json(json: &Value) -> Result<Self> {
        let Some(raw) = json.as_object() else {
            return Err(Problem::NotAnObject.into());
        };
        let fields = Fields(json);
        let peft_type = fields.text("peft_type")?.unwrap_or_default().to_uppercase();
        let is_rank = |r: &f64| r.fract() == 0.0 && (1.0..=65536.0).contains(r);
        let r = match peft_type.as_str() {
            "" | "LORA" => fields.number("r")?,
            // Other methods may have no rank, and say so by a number that is none.
            _ => json["r"].as_f64().filter(is_rank),
        };
        if r.as_ref().is_some_and(|r| !is_rank(r)) {
            return Err(wrong("r", "a whole number from 1 to 65536", &json["r"]));
        }
        let unmergeable = UNMERGEABLE
            .iter()
            .filter(|&&name| !matches!(&json[name], Value::Null | Value::Bool(false)))
            // Settings of BD-LoRA say where its blocks belong.
            .filter(|&&name| !(name == "use_bdlora" && json[name].is_object()))
            .map(|name| format!("{name}: {}", excerpt(&json[name].to_string())))
            .collect();
        Ok(AdapterConfig {
            peft_type,
            peft_version: fields.text("peft_version")?,
            base_model: fields.text("base_model_name_or_path")?.filter(|s| !s.is_empty()),
            task_type: fields.text("task_type")?,
            r: r.map(|r| r as u64),
            alpha: fields.number("lora_alpha")?,
            use_rslora: fields.flag("use_rslora")?,
            rank_pattern: Patterns::new("rank_pattern", &fields.numbers("rank_pattern")?)?,
            alpha_pattern: Patterns::new("alpha_pattern", &fields.numbers("alpha_pattern")?)?,
            fan_in_fan_out: fields.flag("fan_in_fan_out")?,
            bias: fields.text("bias")?.unwrap_or_else(|| "none".into()),
            modules_to_save: fields.list("modules_to_save")?,
            init: match &json["init_lora_weights"] {
                Value::Null => "true".into(),
                Value::String(s) => s.to_lowercase(),
                other => other.to_string(),
            },
            target_modules: fields.list("target_modules")?,
            exclude_modules: fields.list("exclude_modules")?,
            target_parameters: fields.list("target_parameters")?,
            token_indices: fields.token_indices()?,
            layer_replication: json["layer_replication"].as_array().is_some_and(|a| !a.is_empty()),
            lora_bias: fields.flag("lora_bias")?,
            use_dora: fields.flag("use_dora")?,
            ensure_weight_tying: fields.flag("ensure_weight_tying")?,
            unmergeable,
            moe_b_layout: fields.text("lora_B_layout")?,
            raw: raw.clone(),
        })
    }

    /// The same with the rate of dropout that training had, for a file that is written.
    #[must_use]
    pub fn with_dropout(mut self, rate: f64) -> Self {
        self.raw.insert("lora_dropout".into(), rate.into());
        self
    }

    /// The rank and the scaling that it gives the module at `path`. PEFT's default alpha is 8.
    pub fn of_module(&self, path: &str) -> (Option<f64>, Scaling) {
        let rank = self.rank_pattern.get(path).or(self.r.map(|r| r as f64));
        let alpha = self.alpha_pattern.get(path).or(self.alpha).unwrap_or(8.0);
        let scaling = if self.use_rslora { Scaling::RankStabilised } else { Scaling::Alpha };
        (rank, scaling(alpha))
    }

    /// Whether the initialisation changed the base weights, so the adapter is not a delta on the published model
    /// (PiSSA, OLoRA, CorDA, LoRA-GA, LoftQ).
    pub fn mutates_base(&self) -> bool {
        ["pissa", "olora", "corda", "lora_ga", "loftq"].iter().any(|name| self.init.starts_with(name))
    }

    /// Whether PEFT takes a part of every weight out of it when it loads the adapter, by a QR decomposition of the weight
    /// (OLoRA): one of those that [change the base](Self::mutates_base), and one that can be repeated exactly.
    pub fn is_olora(&self) -> bool {
        self.init == "olora"
    }

    /// Whether PEFT repeats the initialisation, with rank and scale of the configuration, whenever it loads the adapter:
    /// other ranks or scales then belong to another base.
    pub fn repeats_initialisation(&self) -> bool {
        self.is_olora() || self.init.starts_with("pissa")
    }

    /// Whether packed experts have the columns of one expert side by side.
    pub(crate) fn has_expert_major(&self) -> bool {
        self.moe_b_layout.as_deref() == Some("expert_major")
    }

    /// `(major, minor)` of [`Self::peft_version`].
    pub fn peft_minor(&self) -> Option<(u32, u32)> {
        let mut parts = self.peft_version.as_deref()?.split('.').map(|p| p.parse().ok());
        Some((parts.next()??, parts.next()??))
    }

    /// The base model's name, unless it is a path on the trainer's machine.
    pub fn public_base_model(&self) -> Option<&str> {
        self.base_model.as_deref().filter(|name| !is_local_path(name))
    }
}

/// Whether a base model "name" is a path on somebody's machine: anything but `name` or `owner/name`.
pub fn is_local_path(name: &str) -> bool {
    name.starts_with(['/', '~', '.']) || name.contains('\\') || name.matches('/').count() > 1
}

/// The fields of an object, each of the type that it must have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a Value);

impl Fields<'_> {
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<String>> {
        match &self.0[name] {
            Value::Null => Ok(None),
            Value::String(s) => Ok(Some(s.clone())),
            other => Err(wrong(name, "text", other)),
        }
    }

    pub(crate) fn flag(&self, name: &'static str) -> Result<bool> {
        match &self.0[name] {
            Value::Null => Ok(false),
            Value::Bool(b) => Ok(*b),
            other => Err(wrong(name, "true or false", other)),
        }
    }

    pub(crate) fn number(&self, name: &'static str) -> Result<Option<f64>> {
        match &self.0[name] {
            Value::Null => Ok(None),
            Value::Number(n) if n.as_f64().is_some_and(f64::is_finite) => Ok(n.as_f64()),
            other => Err(wrong(name, "a finite number", other)),
        }
    }

    /// A whole number from 1 to `most`; `needed` says so.
    pub(crate) fn count(&self, name: &'static str, most: u64, needed: &'static str) -> Result<Option<u64>> {
        let fits = |n: &u64| (1..=most).contains(n);
        match &self.0[name] {
            Value::Null => Ok(None),
            other => match other.as_u64().filter(fits) {
                Some(n) => Ok(Some(n)),
                None => Err(wrong(name, needed, other)),
            },
        }
    }

    /// A list of strings, or one string as a list of one.
    pub(crate) fn list(&self, name: &'static str) -> Result<Vec<String>> {
        let text =
            |v: &Value| v.as_str().map(str::to_string).ok_or_else(|| wrong(name, "a list of names", v));
        match &self.0[name] {
            Value::Null => Ok(Vec::new()),
            Value::String(s) => Ok(vec![s.clone()]),
            Value::Array(items) => items.iter().map(text).collect(),
            other => Err(wrong(name, "a list of names", other)),
        }
    }

    pub(crate) fn numbers(&self, name: &'static str) -> Result<Vec<(String, f64)>> {
        match &self.0[name] {
            Value::Null => Ok(Vec::new()),
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| {
                    let number = value.as_f64().filter(|n| n.is_finite() && *n > 0.0);
                    number.map(|n| (key.clone(), n)).ok_or_else(|| wrong(name, "positive numbers", value))
                })
                .collect(),
            other => Err(wrong(name, "an object of numbers", other)),
        }
    }

    fn token_indices(&self) -> Result<Vec<(String, Vec<usize>)>> {
        const NAME: &str = "trainable_token_indices";
        let rows = |value: &Value| -> Result<Vec<usize>> {
            let list = value.as_array().ok_or_else(|| wrong(NAME, "a list of token numbers", value))?;
            let row = |v: &Value| v.as_u64().map(|n| n as usize);
            list.iter().map(|v| row(v).ok_or_else(|| wrong(NAME, "token numbers", v))).collect()
        };
        match &self.0[NAME] {
            Value::Null => Ok(Vec::new()),
            list @ Value::Array(_) => Ok(vec![(String::new(), rows(list)?)]),
            Value::Object(map) => map.iter().map(|(name, list)| Ok((name.clone(), rows(list)?))).collect(),
            other => Err(wrong(NAME, "a list of token numbers", other)),
        }
    }
}

fn wrong(name: &'static str, needed: &'static str, found: &Value) -> Error {
    Problem::Field { name, found: excerpt(&json::restored(found.to_string())), needed }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_paths_are_told_from_names() {
        for local in ["/data/llama", "~/m", "./base", "..\\x", "home/me/models/x"] {
            assert!(is_local_path(local), "{local}");
        }
        for name in ["gpt2", "meta-llama/Llama-3.2-1B"] {
            assert!(!is_local_path(name), "{name}");
        }
    }

    #[test]
    fn wrong_types_are_named() {
        let json = serde_json::json!({"peft_type": "LORA", "r": 0});
        let error = AdapterConfig::from_json(&json).unwrap_err();
        assert_eq!(error.to_string(), "`r` is 0; it must be a whole number from 1 to 65536");
        let not_finite = json::parse(br#"{"peft_type": "LORA", "lora_alpha": NaN}"#).unwrap();
        let error = AdapterConfig::from_json(&not_finite).unwrap_err();
        assert_eq!(error.to_string(), "`lora_alpha` is NaN; it must be a finite number");
        let other = serde_json::json!({"peft_type": "OFT", "r": 0});
        assert_eq!(AdapterConfig::from_json(&other).unwrap().peft_type, "OFT");
    }
}
