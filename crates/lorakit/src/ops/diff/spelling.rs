//! One spelling for what `config.json` can say in several.
//!
//! transformers 5 writes `dtype` and `rope_parameters`; older versions write `torch_dtype`, and `rope_theta`,
//! `partial_rotary_factor` and `rope_local_base_freq` next to a `rope_scaling` that is null if nothing is scaled
//! (`modeling_rope_utils.py`, `standardize_rope_params`). The older spelling is easier to read and is used here.

use serde_json::{Map, Value};

/// Fields of rotary embeddings that are next to `rope_scaling`.
const BESIDE: &[&str] = &["rope_theta", "partial_rotary_factor", "original_max_position_embeddings"];

/// `config` and all objects in it in the older spelling; defaults of rotary embeddings are left out.
pub(super) fn normal(config: &Value) -> Value {
    let Some(map) = config.as_object() else { return config.clone() };
    let mut map: Map<String, Value> = map.iter().map(|(name, value)| (name.clone(), normal(value))).collect();
    if let Some(old) = map.remove("torch_dtype") {
        said(&mut map, "dtype").or_insert(old);
    }
    rope(&mut map);
    Value::Object(map)
}

/// The entry `name`; it is vacant if it is null, too.
fn said<'a>(map: &'a mut Map<String, Value>, name: &str) -> serde_json::map::Entry<'a> {
    if map.get(name).is_some_and(Value::is_null) {
        map.remove(name);
    }
    map.entry(name)
}

fn rope(map: &mut Map<String, Value>) {
    let object = |value: Option<Value>| match value {
        Some(Value::Object(entries)) => entries,
        _ => Map::new(),
    };
    let mut scaling = object(map.remove("rope_scaling"));
    let mut new = object(map.remove("rope_parameters"));
    // Families with two kinds of attention have parameters for each.
    if new.get("full_attention").is_some_and(Value::is_object) {
        let mut window = object(new.remove("sliding_attention"));
        if let Some(theta) = window.remove("rope_theta") {
            map.insert("rope_local_base_freq".into(), theta);
        }
        plain(&mut window);
        if !window.is_empty() {
            scaling.insert("sliding_attention".into(), Value::Object(window));
        }
        new = object(new.remove("full_attention"));
    }
    scaling.extend(new);
    for name in BESIDE {
        if let Some(value) = scaling.remove(*name).filter(|value| !value.is_null()) {
            map.insert((*name).into(), value);
        }
    }
    plain(&mut scaling);
    if !scaling.is_empty() {
        map.insert("rope_scaling".into(), Value::Object(scaling));
    }
}

/// Renames the kind of scaling to `rope_type`, and leaves it out if nothing is scaled.
fn plain(scaling: &mut Map<String, Value>) {
    if let Some(old) = scaling.remove("type") {
        said(scaling, "rope_type").or_insert(old);
    }
    // `mrope` is an older word for the default in three sections.
    if matches!(scaling.get("rope_type").and_then(Value::as_str), None | Some("default" | "mrope")) {
        scaling.remove("rope_type");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn two_spellings_are_one() {
        for (old, new) in [
            (
                json!({"rope_theta": 1e5, "rope_scaling": null, "torch_dtype": "bfloat16"}),
                json!({"rope_parameters": {"rope_theta": 1e5, "rope_type": "default"}, "dtype": "bfloat16"}),
            ),
            (
                json!({"rope_theta": 5e5, "rope_scaling": {"type": "llama3", "factor": 8.0,
                    "original_max_position_embeddings": 8192}}),
                json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0,
                    "original_max_position_embeddings": 8192}}),
            ),
            (
                json!({"text_config": {"rope_theta": 1e6, "rope_local_base_freq": 1e4,
                    "rope_scaling": {"rope_type": "linear", "factor": 8.0}}}),
                json!({"text_config": {"rope_parameters": {
                    "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
                    "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"}}}}),
            ),
            (
                json!({"partial_rotary_factor": 0.5, "rope_theta": 1e4}),
                json!({"rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 1e4}, "rope_theta": null}),
            ),
        ] {
            assert_eq!(normal(&old), normal(&new));
        }
    }

    #[test]
    fn what_is_scaled_stays() {
        let yarn = json!({"rope_theta": 1e4, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}});
        assert_eq!(normal(&yarn), yarn);
        assert_ne!(normal(&yarn), normal(&json!({"rope_theta": 1e4})));
    }
}
