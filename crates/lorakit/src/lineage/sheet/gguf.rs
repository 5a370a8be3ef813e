//! What a GGUF file says in its header of what other models say in their cards.

use lorakit_tensor::format::gguf::{Array, Metadata, Value as Gguf};

use super::super::identity::is_id;
use crate::card::{Card, Value};

const HUB: &str = "https://huggingface.co/";

/// A card of what the header says, and the model's id on the hub.
pub(in crate::lineage) fn card_of(metadata: &Metadata) -> (Card, Option<String>) {
    let text = |key: &str| match metadata.get(&format!("general.{key}")) {
        Some(Gguf::String(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    let list = |key: &str| match metadata.get(&format!("general.{key}")) {
        Some(Gguf::Array(Array::String(items))) => items.clone(),
        _ => Vec::new(),
    };
    let id = |key: &str| text(key)?.strip_prefix(HUB).map(str::to_string).filter(|id| is_id(id));
    let mut card = Card::default();
    let mut put = |key: &str, items: Vec<String>| {
        let value = match items.as_slice() {
            [] => return,
            [one] if key != "tags" => Value::text(one.clone()),
            _ => Value::List(items),
        };
        let _ = card.complete(key, &value);
    };
    for (key, in_header) in
        [("license", "license"), ("license_name", "license.name"), ("license_link", "license.link")]
    {
        put(key, text(in_header).into_iter().collect());
    }
    put("language", list("languages"));
    let parents = (0..16).map_while(|i| id(&format!("base_model.{i}.repo_url")));
    put("base_model", parents.collect());
    put("tags", list("tags"));
    (card, id("source.repo_url").or_else(|| id("repo_url")))
}
