//! The model card, `README.md`: licence, ancestors, tags and languages, from the block of YAML at its head.
//!
//! Of YAML only what cards are written in is read: `key: text`, `key: [text, text]`, and `key:` above `- text` lines.

use lorakit_tensor::format::gguf::{Array, Metadata, Value};

use super::{name, side};
use crate::{Model, Result};

/// Lists of models or datasets: what cards call them, and the prefix of their keys.
const ANCESTORS: &[(&[&str], &str)] = &[
    (&["base_model", "base_models", "base_model_sources"], "general.base_model"),
    (&["datasets", "dataset", "dataset_sources"], "general.dataset"),
];

/// Lists of words: what cards call them, all of which count, and the key.
const WORDS: &[(&[&str], &str)] =
    &[(&["tags", "pipeline_tag"], "general.tags"), (&["languages", "language"], "general.languages")];

const LICENSE: &[(&str, &str)] = &[
    ("license", "general.license"),
    ("license_name", "general.license.name"),
    ("license_link", "general.license.link"),
];

/// Where hub ids lead.
const HUB: &str = "https://huggingface.co/";

/// Sets what the card of `model` says, if it has one; `parameters` is the size of the model.
pub(super) fn set(metadata: &mut Metadata, model: &Model, parameters: u64) -> Result<()> {
    let Some(text) = side::text(model, "README.md")? else { return Ok(()) };
    let card = entries(&text);
    let values = |key: &str| card.iter().find(|(k, _)| *k == key).map(|(_, values)| values.as_slice());
    for (name, key) in LICENSE {
        if let Some(license) = values(name).filter(|values| !values.is_empty()) {
            metadata.set(key, Value::String(license.join(",")));
        }
    }
    for (names, prefix) in ANCESTORS {
        let Some(ids) = names.iter().find_map(|name| values(name)) else { continue };
        metadata.set(&format!("{prefix}.count"), Value::U32(ids.len() as u32));
        for (i, id) in ids.iter().enumerate() {
            set_ancestor(metadata, &format!("{prefix}.{i}"), id, parameters);
        }
    }
    for (names, key) in WORDS {
        let words: Vec<_> =
            names.iter().filter_map(|name| values(name)).flatten().map(ToString::to_string).collect();
        if !words.is_empty() {
            metadata.set(key, Value::Array(Array::String(words)));
        }
    }
    Ok(())
}

/// Sets what the id or address of a model or dataset says of it.
fn set_ancestor(metadata: &mut Metadata, prefix: &str, id: &str, parameters: u64) {
    let mut set =
        |key: &str, text: &str| metadata.set(&format!("{prefix}.{key}"), Value::String(text.into()));
    let is_address = ["http://", "https://", "ssh://"].iter().any(|scheme| id.starts_with(scheme));
    let on_hub = match is_address {
        true => id.strip_prefix(HUB).filter(|id| id.matches('/').count() == 1),
        false => Some(id),
    };
    let mut address = is_address.then(|| id.to_string());
    if let Some(id) = on_hub {
        let (organization, model) = name::split_id(id);
        set("name", &name::title(model));
        if let Some(version) = name::components(model, parameters).version {
            set("version", &version);
        }
        if let Some(organization) = organization {
            set("organization", &name::title(organization));
            address.get_or_insert_with(|| format!("{HUB}{organization}/{model}"));
        }
    }
    if let Some(address) = address {
        set("repo_url", &address);
    }
}

/// Keys and texts of the block between two lines of `---`.
fn entries(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut lines = text.lines();
    let mut entries: Vec<(&str, Vec<&str>)> = Vec::new();
    if lines.next() != Some("---") {
        return entries;
    }
    for line in lines.take_while(|line| *line != "---") {
        let trimmed = line.trim();
        if let Some(item) = trimmed.strip_prefix("- ") {
            if let Some((_, values)) = entries.last_mut()
                && (item.starts_with(['"', '\'']) || !item.contains(": "))
            {
                values.extend(scalar(item));
            }
        } else if let Some((key, value)) = trimmed.split_once(':')
            && !line.starts_with([' ', '\t', '#'])
        {
            let list = value.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let values = match list {
                Some(list) => list.split(',').filter_map(scalar).collect(),
                None => scalar(value).into_iter().collect(),
            };
            entries.push((key.trim(), values));
        }
    }
    entries
}

/// A text without its quotes or the comment after it; nothing if there is none.
fn scalar(text: &str) -> Option<&str> {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some((quoted, _)) = text.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return Some(quoted);
        }
    }
    let text = text.split_once(" #").map_or(text, |(text, _)| text.trim_end());
    (!text.is_empty() && !text.starts_with(['#', '|', '>'])).then_some(text)
}
