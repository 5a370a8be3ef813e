//! Special tokens, the tokens that are added to a text, and the chat template.

use lorakit_tensor::format::gguf::{Array, Metadata, Value as GgufValue};
use serde_json::{Map, Value, json};

use super::vocab::{Sources, Vocab};
use crate::Result;

/// Tokens with a special meaning: the name in `tokenizer_config.json`, and the name in GGUF if there is one.
const ROLES: &[(&str, Option<&str>)] = &[
    ("bos", Some("bos")),
    ("eos", Some("eos")),
    ("unk", Some("unknown")),
    ("sep", Some("seperator")),
    ("pad", Some("padding")),
    ("cls", None),
    ("mask", Some("mask")),
    // Roles for tokens that a template moves aside.
    ("eot", Some("eot")),
    ("eom", Some("eom")),
];

/// Everything about a tokenizer except its vocabulary.
#[derive(Debug, Default)]
pub(in crate::model) struct Special {
    ids: Vec<(&'static str, u32)>,
    /// Whether the token of each role is added to a text, in the order of discovery.
    add: Vec<(&'static str, bool)>,
    template: Option<Value>,
    lowercase: Option<bool>,
    strip_accents: Option<bool>,
}

/// The text of a token, which is given as text or as an object with its properties.
pub(in crate::model) fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token["content"].as_str())
}

/// The token in an item of a template, if the item is a token.
fn special_token(item: &Value) -> Option<&str> {
    item["SpecialToken"]["id"].as_str()
}

impl Special {
    pub(in crate::model) fn read(sources: &Sources<'_>, vocab: &Vocab) -> Result<Self> {
        let mut special = Special::default();
        let json = sources.tokenizer.as_ref().map_or(&Value::Null, |(_, json)| json);
        // The template may name tokens that the configuration does not.
        let mut config = sources.config.as_ref().and_then(Value::as_object).cloned();
        special.normalizer(&json["normalizer"]);
        special.post_processor(&json["post_processor"], config.as_mut());
        if let Some(config) = &config {
            special.template = template(sources, config)?;
            special.tokens(config, &json["added_tokens"]);
        }
        special.model_ids(sources)?;
        // SentencePiece vocabularies are cut at the rows of the embeddings.
        if vocab.scores.is_some() {
            special.ids.retain(|(_, id)| (*id as usize) < vocab.tokens.len());
        }
        Ok(special)
    }

    fn set_id(&mut self, role: &'static str, id: Option<u64>) {
        if let Some(id) = id.and_then(|id| u32::try_from(id).ok())
            && !self.ids.iter().any(|(known, _)| *known == role)
        {
            self.ids.push((role, id));
        }
    }

    fn set_add(&mut self, role: &'static str, add: bool) {
        match self.add.iter_mut().find(|(known, _)| *known == role) {
            Some((_, old)) => *old = add,
            None => self.add.push((role, add)),
        }
    }

    fn normalizer(&mut self, normalizer: &Value) {
        match normalizer["type"].as_str() {
            Some("Lowercase") => self.lowercase = Some(true),
            Some("StripAccents") => self.strip_accents = Some(true),
            Some("BertNormalizer") => {
                self.lowercase = normalizer["lowercase"].as_bool().or(self.lowercase);
                self.strip_accents = normalizer["strip_accents"].as_bool().or(self.strip_accents);
            }
            Some("Sequence") => {
                for step in normalizer["normalizers"].as_array().into_iter().flatten() {
                    self.normalizer(step);
                }
            }
            _ => {}
        }
    }

    /// Reads the tokens that the post-processor adds to a text, for the simple templates that models have.
    fn post_processor(&mut self, post_processor: &Value, mut config: Option<&mut Map<String, Value>>) {
        let steps = match &post_processor["processors"] {
            Value::Array(steps) => steps.as_slice(),
            _ => std::slice::from_ref(post_processor),
        };
        for step in steps {
            match step["type"].as_str() {
                Some("ByteLevel") => {
                    for role in ["bos", "eos"] {
                        if !self.add.iter().any(|(known, _)| *known == role) {
                            self.add.push((role, false));
                        }
                    }
                }
                Some("RobertaProcessing") => {
                    ["bos", "eos", "sep"].into_iter().for_each(|role| self.set_add(role, true));
                }
                Some("TemplateProcessing") => self.frame(step, config.as_deref_mut()),
                _ => {}
            }
        }
    }

    fn frame(&mut self, step: &Value, config: Option<&mut Map<String, Value>>) {
        let mut none = Map::new();
        let known = config.is_some();
        let config = config.unwrap_or(&mut none);
        let named =
            |config: &Map<String, Value>, key: &str| config.get(key).and_then(content).map(str::to_string);
        let single = step["single"].as_array().filter(|single| single.len() > 1);
        let first = single.and_then(|single| special_token(single.first()?));
        let last = single.and_then(|single| special_token(single.last()?));
        if let Some(first) = first {
            for key in ["bos_token", "cls_token"] {
                let either = [named(config, "bos_token"), named(config, "cls_token")];
                if known
                    && !either.iter().flatten().any(|token| token == first)
                    && named(config, key).is_none()
                {
                    config.insert(key.into(), first.into());
                }
            }
            let either = [named(config, "bos_token"), named(config, "cls_token")];
            self.set_add("bos", !known || either.iter().flatten().any(|token| token == first));
        }
        if let Some(last) = last {
            let eos = named(config, "eos_token");
            if known && eos.as_deref() != Some(last) {
                // The token that the configuration calls the end of a text becomes the end of a turn.
                let free = ["eot_token", "eom_token"].into_iter().find(|key| !config.contains_key(*key));
                if let Some((key, eos)) = free.zip(eos) {
                    config.insert(key.into(), eos.into());
                }
                config.insert("eos_token".into(), last.into());
            }
            self.set_add("eos", true);
        }
        // The items between the two texts of a pair.
        let mut pair = step["pair"].as_array().map_or(&[][..], Vec::as_slice);
        if first.is_some() && pair.first().and_then(special_token) == first {
            pair = &pair[1..];
        }
        if last.is_some() && pair.last().and_then(special_token) == last {
            pair = &pair[..pair.len() - 1];
        }
        if let [a, between @ .., b] = pair
            && (a["Sequence"]["id"].as_str(), b["Sequence"]["id"].as_str()) == (Some("A"), Some("B"))
            && !between.is_empty()
        {
            let (sep, eos) = (named(config, "sep_token"), named(config, "eos_token"));
            let ends = |token: &str| [&sep, &eos].into_iter().flatten().any(|end| end == token);
            let separated = special_token(&between[0]).is_some_and(|token| ends(token) && last.is_none())
                || between.len() == 2 && special_token(&between[1]).is_some_and(ends);
            if let (true, None, Some(eos)) = (separated, &sep, eos.clone()) {
                config.insert("sep_token".into(), eos.into());
            }
            self.set_add("sep", separated);
        }
    }

    /// Reads the ids of the tokens that the configuration names.
    fn tokens(&mut self, config: &Map<String, Value>, added: &Value) {
        let id = |token: &str| {
            let added = added.as_array().into_iter().flatten();
            added.clone().find(|entry| entry["content"] == token).and_then(|entry| entry["id"].as_u64())
        };
        for (role, _) in ROLES {
            if let Some(add) = config.get(&format!("add_{role}_token")).and_then(Value::as_bool)
                && !self.add.iter().any(|(known, _)| known == role)
            {
                self.add.push((role, add));
            }
            let token = config.get(&format!("{role}_token")).and_then(content);
            self.set_id(role, token.and_then(id));
        }
    }

    /// Reads the ids that only `config.json` has.
    fn model_ids(&mut self, sources: &Sources<'_>) -> Result<()> {
        let config = sources.files.json("config.json")?.unwrap_or(Value::Null);
        for (role, _) in ROLES.iter().filter(|(role, _)| !["eot", "eom"].contains(role)) {
            let name = format!("{role}_token_id");
            let id = [&config[&name], &config["text_config"][&name]].into_iter().find(|id| !id.is_null());
            self.set_id(role, id.and_then(Value::as_u64));
        }
        Ok(())
    }

    /// Sets the keys.
    pub(in crate::model) fn set(self, metadata: &mut Metadata) {
        let mut set = |key: &str, value| metadata.set(&format!("tokenizer.{key}"), value);
        for (role, id) in self.ids {
            if let Some((_, Some(name))) = ROLES.iter().find(|(known, _)| *known == role) {
                set(&format!("ggml.{name}_token_id"), GgufValue::U32(id));
            }
        }
        for (role, add) in self.add.into_iter().filter(|(role, _)| ["bos", "eos", "sep"].contains(role)) {
            set(&format!("ggml.add_{role}_token"), GgufValue::Bool(add));
        }
        match self.template {
            Some(Value::String(template)) => set("chat_template", GgufValue::String(template)),
            Some(Value::Array(templates)) => set_templates(&templates, set),
            _ => {}
        }
        let mut flag = |key: &str, value: Option<bool>| {
            if let Some(value) = value {
                metadata.set(&format!("tokenizer.ggml.normalizer.{key}"), GgufValue::Bool(value));
            }
        };
        flag("lowercase", self.lowercase);
        flag("strip_accents", self.strip_accents);
    }
}

/// Sets several templates, each under its name, with the default last.
fn set_templates(templates: &[Value], mut set: impl FnMut(&str, GgufValue)) {
    let mut names: Vec<String> = Vec::new();
    let mut default = None;
    for entry in templates {
        let (Some(name), Some(template)) = (entry["name"].as_str(), entry["template"].as_str()) else {
            continue;
        };
        let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = name.chars().map(safe).collect();
        if name == "default" {
            default = Some(template);
        } else if !name.is_empty() {
            set(&format!("chat_template.{name}"), GgufValue::String(template.into()));
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    if !names.is_empty() {
        set("chat_templates", GgufValue::Array(Array::String(names)));
    }
    if let Some(template) = default {
        set("chat_template", GgufValue::String(template.into()));
    }
}

/// The chat template, from `tokenizer_config.json` or else from a separate file.
fn template(sources: &Sources<'_>, config: &Map<String, Value>) -> Result<Option<Value>> {
    if let Some(template) = config.get("chat_template") {
        return Ok(Some(template.clone()).filter(|template| template.is_string() || template.is_array()));
    }
    if let Some(template) = sources.files.text("chat_template.jinja")? {
        let more = additional(sources)?;
        if more.is_empty() {
            return Ok(Some(template.into()));
        }
        let default = json!({ "name": "default", "template": template });
        return Ok(Some(std::iter::once(default).chain(more).collect()));
    }
    let json = sources.files.json("chat_template.json")?;
    Ok(json.map(|json| json["chat_template"].clone()).filter(Value::is_string))
}

/// The templates beside `chat_template.jinja`, by the names of their files.
fn additional(sources: &Sources<'_>) -> Result<Vec<Value>> {
    const FOLDER: &str = "additional_chat_templates";
    let mut templates = Vec::new();
    for file in (sources.files.names)(FOLDER)? {
        if let Some(name) = file.strip_suffix(".jinja")
            && let Some(template) = sources.files.text(&format!("{FOLDER}/{file}"))?
        {
            templates.push(json!({ "name": name, "template": template }));
        }
    }
    Ok(templates)
}
