//! `tokenizer.chat_template` and its namesakes for other uses.

use lorakit_tensor::format::gguf::{Array, Metadata, Value};
use serde_json::Value as Json;

use super::side;
use crate::{Model, Result};

const KEY: &str = "tokenizer.chat_template";

/// Sets the templates of `tokenizer_config.json`, or of the files beside it.
pub(super) fn set(metadata: &mut Metadata, model: &Model, tokenizer_config: &Json) -> Result<()> {
    let templates = match tokenizer_config.get("chat_template") {
        Some(templates) => templates.clone(),
        None => beside(model)?,
    };
    match &templates {
        Json::String(template) => metadata.set(KEY, Value::String(template.clone())),
        Json::Array(templates) => set_named(metadata, templates),
        _ => {}
    }
    Ok(())
}

/// `chat_template.jinja`, or `chat_template.json`.
fn beside(model: &Model) -> Result<Json> {
    if let Some(template) = side::text(model, "chat_template.jinja")? {
        return Ok(template.into());
    }
    let mut file = side::json(model, "chat_template.json")?.unwrap_or_default();
    Ok(file["chat_template"].take())
}

/// Every named template under its key, then the list of names, then the default.
fn set_named(metadata: &mut Metadata, templates: &[Json]) {
    let mut names: Vec<String> = Vec::new();
    let mut default = None;
    for entry in templates {
        let (Some(name), Some(template)) = (entry["name"].as_str(), entry["template"].as_str()) else {
            continue;
        };
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if name == "default" {
            default = Some(template);
        } else if !name.is_empty() {
            metadata.set(&format!("{KEY}.{name}"), Value::String(template.into()));
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    if !names.is_empty() {
        metadata.set("tokenizer.chat_templates", Value::Array(Array::String(names)));
    }
    if let Some(template) = default {
        metadata.set(KEY, Value::String(template.into()));
    }
}
