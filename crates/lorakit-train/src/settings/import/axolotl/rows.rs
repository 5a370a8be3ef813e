//! Rows, their files and formats, and what of them is trained.

use crate::data::Format;
use crate::settings::import::draft::{Draft, Noted};
use crate::settings::value::Value;

/// Rows, and what of them is trained.
pub(super) fn data(draft: &mut Draft) {
    sources(draft, "datasets", "data");
    if draft.is_on("test_datasets") {
        sources(draft, "test_datasets", "val");
    } else {
        draft.held("val_set_size");
    }
    let packs = draft.is_on("sample_packing");
    draft.default("packing", if packs { "true" } else { "false" });
    match draft.text("excess_length_strategy").as_deref() {
        None | Some("drop") => draft.default("too_long", "drop"),
        Some("truncate") => draft.default("too_long", "truncate"),
        Some("raise") => draft.default("too_long", "error"),
        Some(_) => draft.refuse("excess_length_strategy", "there are drop, truncate and raise"),
    }
    draft.default("train_on", if draft.is_on("train_on_inputs") { "all" } else { "auto" });
}

/// The files of a list of data sets.
fn sources(draft: &mut Draft, name: &str, ours: &str) {
    if draft.is_elsewhere(ours) {
        return;
    }
    let Some(Value::List(items)) = draft.get(name) else {
        return draft.refuse(name, "it must be a list of data sets");
    };
    let mut found = Vec::new();
    for item in items {
        match source(draft, name, &item) {
            Ok((paths, format)) => found.extend(paths.into_iter().map(|path| match format {
                Some(format) if ours == "data" => Value::Map(vec![
                    ("path".into(), Value::text(path)),
                    ("format".into(), Value::text(format.name())),
                ]),
                _ => Value::text(path),
            })),
            Err(why) => return draft.refuse(name, &why),
        }
    }
    draft.set(name, ours, Value::List(found));
}

/// The files of one data set, and what their rows mean, if that is said.
fn source(draft: &mut Draft, name: &str, item: &Value) -> Result<(Vec<String>, Option<Format>), String> {
    let Value::Map(members) = item else { return Err("a data set must be a map with `path`".into()) };
    let get = |key: &str| {
        let found = members.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value).filter(|value| **value != Value::Null)
    };
    let path = get("path").and_then(Value::as_text).unwrap_or_default().to_string();
    let files = match get("data_files") {
        Some(Value::List(files)) => files.iter().filter_map(Value::as_text).map(str::to_string).collect(),
        Some(file) => file.as_text().map(str::to_string).into_iter().collect(),
        None if is_file(&path) => vec![path.clone()],
        None => {
            return Err(format!(
                "`{}` is a data set of the hub, and nothing is fetched; save it as a file and name that by the key `data`",
                path.escape_debug()
            ));
        }
    };
    for (key, value) in members {
        let why = match key.as_str() {
            "path" | "data_files" | "type" | "ds_type" | "name" | "revision" | "trust_remote_code" => {
                continue;
            }
            "split" if value.as_text().is_none_or(|split| split == "train") => continue,
            "split" => "a part of a split is not taken; save it as a file of its own",
            "chat_template" if value.as_text().is_none_or(|name| name == "tokenizer_default") => continue,
            "chat_template" => {
                draft.note(name, Noted::Changed, TEMPLATE);
                continue;
            }
            "field_messages" if [Some("messages"), Some("conversations")].contains(&value.as_text()) => {
                continue;
            }
            "roles_to_train" if *value == Value::List(vec![Value::text("assistant")]) => continue,
            "train_on_eos" if value.as_text() == Some("turn") => continue,
            "message_field_role" if [Some("role"), Some("from")].contains(&value.as_text()) => continue,
            "message_field_content" if [Some("content"), Some("value")].contains(&value.as_text()) => {
                continue;
            }
            "message_property_mappings" if is_usual(value) => continue,
            "roles" if usual_roles(value) => continue,
            "field" if value.as_text() == Some("text") => continue,
            _ if *value == Value::Null => continue,
            _ => {
                "rows have the fields of their format; rename them, or name rows of another format by the key `data`"
            }
        };
        return Err(format!("`{}` of a data set: {why}", key.escape_debug()));
    }
    let kind = get("type");
    let format = match kind.map(Value::as_text) {
        None | Some(Some("chat_template")) => None,
        Some(Some("alpaca")) => {
            draft.note(
                name,
                Noted::Changed,
                "axolotl's `alpaca` writes a prompt of its own; here such rows go through the model's chat template",
            );
            Some(Format::Alpaca)
        }
        Some(Some("completion")) => {
            draft.note(
                name,
                Noted::Changed,
                "axolotl cuts long texts of `completion` into parts; here `too_long: split` does",
            );
            Some(Format::Text)
        }
        Some(Some(text)) if text.starts_with("sharegpt") => Some(Format::ShareGpt),
        _ => {
            return Err(
                "of the types of rows there are `chat_template`, `alpaca` and `completion`; name rows of another by the key `data`"
                    .into(),
            );
        }
    };
    Ok((files, format))
}

pub(super) const TEMPLATE: &str =
    "rows go through the model's own template; `chat_template` names a file with another";

/// Whether a path is one of the file system, and not of the hub.
fn is_file(path: &str) -> bool {
    let endings = ["json", "jsonl", "csv", "tsv", "txt", "parquet", "arrow", "gz", "zst"];
    let ending = path.rsplit_once('.').map(|(_, ending)| ending);
    path.starts_with(['.', '/', '~']) || ending.is_some_and(|ending| endings.contains(&ending))
}

/// Whether fields of messages are renamed as the formats have them anyway.
fn is_usual(mapping: &Value) -> bool {
    let Value::Map(members) = mapping else { return false };
    let pairs: Vec<(&str, Option<&str>)> =
        members.iter().map(|(key, value)| (key.as_str(), value.as_text())).collect();
    let of_messages = [("role", Some("role")), ("content", Some("content"))];
    let of_sharegpt = [("role", Some("from")), ("content", Some("value"))];
    pairs.iter().all(|pair| of_messages.contains(pair)) || pairs.iter().all(|pair| of_sharegpt.contains(pair))
}

/// Whether roles are called as rows call them anyway.
fn usual_roles(roles: &Value) -> bool {
    let usual = |role: &str, name: &str| match role {
        "user" => ["user", "human"].contains(&name),
        "assistant" => ["assistant", "gpt"].contains(&name),
        "system" | "tool" => role == name,
        _ => false,
    };
    let Value::Map(members) = roles else { return false };
    members.iter().all(|(role, names)| match names {
        Value::List(names) => names.iter().all(|name| name.as_text().is_some_and(|name| usual(role, name))),
        _ => false,
    })
}
