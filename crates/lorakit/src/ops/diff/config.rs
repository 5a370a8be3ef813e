//! Configurations, field by field.

use std::collections::HashSet;

use serde_json::Value;

use super::spelling::normal;
use crate::adapter::{AdapterConfig, Patterns};
use crate::model::ModelConfig;

/// Fields of `config.json` that do not change what a model computes from its tensors: where it came from, how it is
/// loaded, and how it is trained.
const RECORDS: &[&str] = &[
    "_name_or_path",
    "transformers_version",
    "dtype",
    "tie_word_embeddings",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "initializer_range",
    "pretraining_tp",
    "attention_dropout",
    "hidden_dropout",
    "attn_pdrop",
    "embd_pdrop",
    "resid_pdrop",
];

/// The one object whose absence says something: that nothing is scaled.
const SCALING: &str = "rope_scaling.";

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldDiff {
    /// Its name; names of nested objects are joined by dots.
    pub field: String,
    /// What A says; `None` if it says nothing.
    pub a: Option<String>,
    /// What B says.
    pub b: Option<String>,
    /// Whether it is a mere record, without effect on what is computed; also true of what only one of them says, since
    /// that may be the default of the other.
    pub record: bool,
}

/// Scalar fields of two `config.json` that differ; those that change what is computed come first. Different spellings
/// of the same thing are not a difference. `both` leaves out what only one of them says.
pub(super) fn of_models(a: &ModelConfig, b: &ModelConfig, both: bool) -> Vec<FieldDiff> {
    let mut fields = Vec::new();
    objects(&normal(&a.json), &normal(&b.json), "", &mut fields);
    fields.sort_by_key(|f| f.record);
    fields.retain(|f| !both || f.a.is_some() && f.b.is_some());
    fields
}

fn objects(a: &Value, b: &Value, prefix: &str, fields: &mut Vec<FieldDiff>) {
    let keys = |v: &Value| v.as_object().map_or_else(Vec::new, |map| map.keys().cloned().collect());
    let mut names: Vec<String> = keys(a);
    names.extend(keys(b));
    names.sort();
    names.dedup();
    for name in names {
        let (x, y) = (&a[name.as_str()], &b[name.as_str()]);
        let field = format!("{prefix}{name}");
        let object = |v: &Value| v.is_object() || v.is_null();
        // How weights are packed shows in the tensors.
        if name == "quantization_config" {
            continue;
        } else if !alike(x, y) && object(x) && object(y) {
            objects(x, y, &format!("{field}."), fields);
        } else if !alike(x, y) && ![x, y].iter().any(|v| v.is_array() || v.is_object()) {
            let (a, b) = (scalar(x), scalar(y));
            let unsaid = (a.is_none() || b.is_none()) && !field.contains(SCALING);
            let record = unsaid || RECORDS.contains(&name.as_str());
            fields.push(FieldDiff { field, a, b, record });
        }
    }
}

/// Whether two scalars say the same; GGUF keeps numbers as f32.
fn alike(a: &Value, b: &Value) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(x), Some(y)) if x as f32 == y as f32)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The differences between two adapters' configurations that matter to a reader. All of them are records, since the
/// deltas themselves are compared; and formats without a configuration say little.
pub(super) fn of_adapters(a: &AdapterConfig, b: &AdapterConfig) -> Vec<FieldDiff> {
    let mut fields = Vec::new();
    let mut field = |name: &str, a: Option<String>, b: Option<String>| {
        if a != b {
            fields.push(FieldDiff { field: name.into(), a, b, record: true });
        }
    };
    if let (Some(x), Some(y)) = (&a.base_model, &b.base_model) {
        field("base_model", Some(x.clone()), Some(y.clone()));
    }
    if let (Some(x), Some(y)) = (a.r, b.r) {
        field("r", Some(x.to_string()), Some(y.to_string()));
    }
    if let (Some(x), Some(y)) = (a.alpha, b.alpha) {
        field("lora_alpha", Some(x.to_string()), Some(y.to_string()));
    }
    if a.raw.is_empty() || b.raw.is_empty() {
        return fields;
    }
    let patterns = [
        ("rank_pattern", &a.rank_pattern, &b.rank_pattern),
        ("alpha_pattern", &a.alpha_pattern, &b.alpha_pattern),
    ];
    for (name, x, y) in patterns.into_iter().filter(|(_, x, y)| x != y) {
        let other = if x.len() == y.len() { ", other values" } else { "" };
        field(name, modules(x, ""), modules(y, other));
    }
    let flags = [
        ("use_rslora", a.use_rslora, b.use_rslora),
        ("use_dora", a.use_dora, b.use_dora),
        ("lora_bias", a.lora_bias, b.lora_bias),
        ("fan_in_fan_out", a.fan_in_fan_out, b.fan_in_fan_out),
    ];
    for (name, x, y) in flags {
        field(name, Some(x.to_string()), Some(y.to_string()));
    }
    field("init_lora_weights", Some(a.init.clone()), Some(b.init.clone()));
    field("bias", Some(a.bias.clone()), Some(b.bias.clone()));
    let lists = [
        ("target_modules", &a.target_modules, &b.target_modules),
        ("target_parameters", &a.target_parameters, &b.target_parameters),
        ("modules_to_save", &a.modules_to_save, &b.modules_to_save),
    ];
    for (name, x, y) in lists {
        field(name, without(x, y), without(y, x));
    }
    fields
}

/// `12 modules`: the number of keys, since there may be one for each module.
fn modules(patterns: &Patterns, other: &str) -> Option<String> {
    let noun = if patterns.len() == 1 { "module" } else { "modules" };
    (!patterns.is_empty()).then(|| format!("{} {noun}{other}", patterns.len()))
}

/// What a list has and the other lacks.
fn without(list: &[String], other: &[String]) -> Option<String> {
    let other: HashSet<&str> = other.iter().map(String::as_str).collect();
    let mut more: Vec<&str> = list.iter().map(String::as_str).filter(|x| !other.contains(x)).collect();
    more.sort_unstable();
    (!more.is_empty()).then(|| format!("+ {}", more.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_that_differ() {
        let a = json!({
            "rope_theta": 1e4, "eps": 1e-5, "l": [1], "n": null, "text": {"h": 4}, "torch_dtype": "x",
            "rope_scaling": {"type": "linear", "factor": 8}, "quantization_config": {"bits": 4},
        });
        let b = json!({
            "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "eps": 1e-5f32, "l": [2], "m": true,
            "text": {"h": 5}, "dtype": "y",
        });
        let (a, b) = (ModelConfig { json: a }, ModelConfig { json: b });
        let found: Vec<String> = of_models(&a, &b, false)
            .iter()
            .map(|f| format!("{} {:?} {:?} {}", f.field, f.a.as_deref(), f.b.as_deref(), f.record))
            .collect();
        let expected = [
            "rope_scaling.factor Some(\"8\") None false",
            "rope_scaling.rope_type Some(\"linear\") None false",
            "rope_theta Some(\"10000.0\") Some(\"500000.0\") false",
            "text.h Some(\"4\") Some(\"5\") false",
            "dtype Some(\"x\") Some(\"y\") true",
            "m None Some(\"true\") true",
        ];
        assert_eq!(found, expected);
        assert_eq!(of_models(&a, &b, true).len(), 3);
    }
}
