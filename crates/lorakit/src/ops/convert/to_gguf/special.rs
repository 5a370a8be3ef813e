//! Special tokens and the tokens that frame a text, from `tokenizer.json`, `tokenizer_config.json` and `config.json`.
//!
//! What the files say twice or not at all is decided as gguf-py's `SpecialVocab` decides it.

use lorakit_tensor::format::gguf::{Metadata, Value};
use serde_json::Value as Json;

/// Roles of tokens: in the keys of Hugging Face files (`bos_token`) and in `tokenizer.ggml.{}_token_id`, which
/// llama.cpp misspells for the separator. The last two are named only if a text ends by another token than eos.
const ROLES: &[(&str, Option<&str>)] = &[
    ("bos", Some("bos")),
    ("eos", Some("eos")),
    ("unk", Some("unknown")),
    ("sep", Some("seperator")),
    ("pad", Some("padding")),
    ("cls", None),
    ("mask", Some("mask")),
    ("eot", Some("eot")),
    ("eom", Some("eom")),
];

/// The roles that every model can have.
const USUAL_ROLES: usize = 7;

/// The roles whose token GGUF files can say to be added to a text.
const ADDED: &[&str] = &["bos", "eos", "sep"];

/// What is found in the files.
#[derive(Debug, Default)]
struct Special {
    /// Contents of tokens by role: `tokenizer_config.json`, and what the post-processor corrects.
    contents: Vec<(&'static str, String)>,
    /// Whether the token of a role is added to a text, in the order of discovery.
    added: Vec<(&'static str, bool)>,
    /// How many of [`ROLES`] are looked up.
    roles: usize,
    /// Whether `tokenizer_config.json` is there; without it the post-processor's tokens are bos and eos.
    configured: bool,
}

impl Special {
    fn content(&self, role: &str) -> Option<&str> {
        self.contents
            .iter()
            .find(|(r, _)| *r == role)
            .map(|(_, content)| content.as_str())
            .filter(|c| !c.is_empty())
    }

    fn set_content(&mut self, role: &'static str, content: &str) {
        self.contents.retain(|(r, _)| *r != role);
        self.contents.push((role, content.to_string()));
    }

    fn set_added(&mut self, role: &'static str, added: bool) {
        match self.added.iter_mut().find(|(r, _)| *r == role) {
            Some((_, old)) => *old = added,
            None => self.added.push((role, added)),
        }
    }

    /// As [`Self::set_added`], unless something is known.
    fn suppose_added(&mut self, role: &'static str, added: bool) {
        if !self.added.iter().any(|(r, _)| *r == role) {
            self.added.push((role, added));
        }
    }

    fn read_tokenizer_config(&mut self, config: &Json) {
        self.configured = true;
        for (role, _) in ROLES {
            let entry = &config[format!("{role}_token")];
            if let Some(content) = entry.as_str().or_else(|| entry["content"].as_str()) {
                self.set_content(role, content);
            }
        }
        for (role, instead) in [("bos", "cls"), ("eos", "sep")] {
            if let (None, Some(content)) = (self.content(role), self.content(instead).map(str::to_string)) {
                self.set_content(role, &content);
            }
        }
    }

    fn read_post_processor(&mut self, post_processor: &Json) {
        let whole = std::slice::from_ref(post_processor);
        for processor in post_processor["processors"].as_array().map_or(whole, Vec::as_slice) {
            match processor["type"].as_str() {
                Some("ByteLevel") => {
                    self.suppose_added("bos", false);
                    self.suppose_added("eos", false);
                }
                Some("TemplateProcessing") => self.read_template(processor),
                _ => {}
            }
        }
    }

    /// The tokens at the ends of a template, and what stands between two texts.
    fn read_template(&mut self, processor: &Json) {
        let token = |piece: Option<&Json>| piece?["SpecialToken"]["id"].as_str().map(str::to_string);
        let sequence = |piece: Option<&Json>| piece?["Sequence"]["id"].as_str().map(str::to_string);
        let pieces = |name: &str| processor[name].as_array().map_or(&[][..], Vec::as_slice);
        let single = pieces("single");
        let (mut first, mut last) = (None, None);
        if single.len() > 1 {
            first = token(single.first());
            last = token(single.last());
        }
        if let Some(first) = &first {
            self.begins_with(first);
        }
        if let Some(last) = &last {
            self.ends_with(last);
        }
        let mut pair = pieces("pair");
        if let [begin, rest @ ..] = pair
            && first.is_some()
            && token(Some(begin)) == first
        {
            pair = rest;
        }
        if let [rest @ .., end] = pair
            && last.is_some()
            && token(Some(end)) == last
        {
            pair = rest;
        }
        let [a, between @ .., b] = pair else { return };
        if between.is_empty()
            || sequence(Some(a)).as_deref() != Some("A")
            || sequence(Some(b)).as_deref() != Some("B")
        {
            return;
        }
        let separates = |piece: Option<&Json>| {
            token(piece)
                .is_some_and(|t| [self.content("sep"), self.content("eos")].contains(&Some(t.as_str())))
        };
        let second = between.get(1).filter(|_| between.len() == 2);
        let added = (separates(between.first()) && last.is_none()) || separates(second);
        self.set_added("sep", added);
        if added && self.content("sep").is_none() && self.configured {
            let eos = self.content("eos").unwrap_or_default().to_string();
            self.set_content("sep", &eos);
        }
    }

    fn begins_with(&mut self, first: &str) {
        if !self.configured {
            self.set_content("bos", first);
        } else {
            let known = [self.content("bos"), self.content("cls")].contains(&Some(first));
            for role in ["bos", "cls"] {
                if !known && self.content(role).is_none() {
                    self.set_content(role, first);
                }
            }
        }
        let added = [self.content("bos"), self.content("cls")].contains(&Some(first));
        self.set_added("bos", added);
    }

    /// A text that ends by another token than eos ends by the true eos; the other one ends a turn.
    fn ends_with(&mut self, last: &str) {
        let turn = self.content("eos").filter(|eos| self.configured && *eos != last).map(str::to_string);
        if let (Some(turn), Some((role, _))) = (turn, ROLES.get(self.roles)) {
            self.roles += 1;
            self.set_content(role, &turn);
        }
        self.set_content("eos", last);
        self.set_added("eos", true);
    }
}

/// Sets the ids of special tokens, and whether they are added to a text. `tokenizer` is `tokenizer.json`, null without
/// one; ids of `rows` and above do not exist.
pub(super) fn set(
    metadata: &mut Metadata,
    tokenizer: &Json,
    tokenizer_config: Option<&Json>,
    config: &Json,
    rows: usize,
) {
    let mut special = Special { roles: USUAL_ROLES, ..Special::default() };
    if let Some(tokenizer_config) = tokenizer_config {
        special.read_tokenizer_config(tokenizer_config);
    }
    if !tokenizer.is_null() {
        special.read_post_processor(&tokenizer["post_processor"]);
    }
    let roles = ROLES.get(..special.roles).unwrap_or(ROLES);
    let added_tokens = tokenizer["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    let by_content = |role: &str| {
        let content = special.content(role).filter(|_| special.configured)?;
        added_tokens.iter().find(|token| token["content"] == content)?["id"].as_u64()
    };
    let by_config = |role: &str| {
        let key = format!("{role}_token_id");
        config[&key].as_u64().or_else(|| config["text_config"][&key].as_u64())
    };
    let exists = |id: &u64| *id < rows as u64;
    let mut ids: Vec<(&str, u64)> = Vec::new();
    for find in [&by_content as &dyn Fn(&str) -> Option<u64>, &by_config] {
        for (role, key) in roles {
            if let (Some(key), Some(id)) = (key, find(role).filter(exists))
                && !ids.iter().any(|(k, _)| k == key)
            {
                ids.push((key, id));
            }
        }
    }
    for (key, id) in ids {
        metadata.set(&format!("tokenizer.ggml.{key}_token_id"), Value::U32(id as u32));
    }
    if let Some(tokenizer_config) = tokenizer_config {
        for (role, _) in roles {
            if let Some(added) = tokenizer_config[format!("add_{role}_token")].as_bool() {
                special.suppose_added(role, added);
            }
        }
    }
    for (role, added) in special.added.iter().filter(|(role, _)| ADDED.contains(role)) {
        metadata.set(&format!("tokenizer.ggml.add_{role}_token"), Value::Bool(*added));
    }
}
