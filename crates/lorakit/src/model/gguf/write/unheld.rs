//! What a configuration says and a GGUF file of its family has no key for: llama.cpp computes as if it said otherwise.

use serde_json::Value;

use crate::model::Params;
use crate::{Finding, ModelConfig, Result, Severity};

/// The code of these findings.
const CODE: &str = "gguf-cannot-say";

/// A warning for each entry of `config` that changes what the model computes and gets lost.
///
/// # Errors
/// For a class that is not known.
pub(crate) fn unheld(config: &ModelConfig) -> Result<Vec<Finding>> {
    let params = Params::new(config)?;
    let family = params.architecture.gguf();
    let mut lost = Vec::new();
    for (name, fixed) in params.architecture.config() {
        let said = params.get(name).or_else(|| params.class.defaults.get(name));
        if let Some(said) = said.filter(|said| !means(said, fixed)) {
            lost.push((name.as_str(), said.to_string(), format!("it were {fixed}")));
        }
    }
    for name in &params.class.unsaid {
        if let Some(said) = params.get(name) {
            lost.push((name.as_str(), said.to_string(), "it were null".into()));
        }
    }
    if let Some(every) = params.architecture.unrotated_every() {
        let usual = format!("every layer but each {every}th rotated positions");
        match (params.get("no_rope_layers"), params.get("no_rope_layer_interval")) {
            (Some(layers), _) if !is_every(layers, every) => {
                lost.push(("no_rope_layers", layers.to_string(), usual));
            }
            (None, Some(interval)) if interval.as_u64() != Some(every) => {
                lost.push(("no_rope_layer_interval", interval.to_string(), usual));
            }
            _ => {}
        }
    }
    let scaling = ["rope_scaling.rope_type", "rope_scaling.type", "rope_parameters.rope_type"];
    if let Some(dynamic) =
        scaling.into_iter().find_map(|name| params.get(name).filter(|kind| *kind == "dynamic"))
    {
        lost.push((
            "rope_scaling",
            dynamic.to_string(),
            "positions beyond the trained context were not scaled".into(),
        ));
    }
    let warning = |(name, said, usual): (&str, String, String)| {
        let message = format!(
            "`{name}` of `config.json` is {said}, which a GGUF file of the family `{family}` cannot say: llama.cpp \
             computes as if {usual}"
        );
        Finding::new(Severity::Warning, CODE, "", message)
    };
    Ok(lost.into_iter().map(warning).collect())
}

/// Whether two values of an entry are the same: one activation has two names.
fn means(said: &Value, fixed: &Value) -> bool {
    said == fixed || (said == "swish" && fixed == "silu")
}

/// Whether a list has 0 for each `every`th layer and 1 for the others.
fn is_every(layers: &Value, every: u64) -> bool {
    let usual =
        |(layer, rotated): (u64, &Value)| rotated.as_u64() == Some(u64::from(!layer.is_multiple_of(every)));
    layers.as_array().is_some_and(|layers| (1..).zip(layers).all(usual))
}
