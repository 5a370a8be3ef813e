//! Byte-level BPE, which GGUF calls `gpt2`.

use std::collections::{HashMap, HashSet};

use lorakit_tensor::problem::excerpt;
use serde_json::Value;
use tokenizers::Tokenizer;

use super::pre::{self, unreadable};
use super::vocab::{Kind, Sources, Vocab, filler, looks_special, user_defined};
use crate::model::tokenizer::merge::pair;
use crate::model::tokenizer::{self, Problem};
use crate::{Error, Result};

/// The vocabulary, if `tokenizer.json` has this kind of tokenizer.
pub(in crate::model) fn vocab(sources: &Sources<'_>) -> Result<Option<Vocab>> {
    let Some((bytes, json)) = &sources.tokenizer else { return Ok(None) };
    if json["model"]["type"] != "BPE" || json["model"]["byte_fallback"] == true {
        return Ok(None);
    }
    check(json)?;
    let tokenizer = Tokenizer::from_bytes(bytes).map_err(unreadable)?;
    let mut tokens = tokens(&tokenizer, sources).map_err(unreadable)?;
    let known = tokens.keys().max().map_or(0, |&id| id as usize + 1);
    let size = sources.size(known)?;
    let listed = (0..size).map(|id| tokens.remove(&(id as u32)).unwrap_or_else(|| filler(id)));
    Ok(Some(Vocab {
        model: "gpt2",
        pre: pre::name(sources.pre, &tokenizer, json)?,
        tokens: listed.collect(),
        scores: None,
        merges: Some(merges(&json["model"]["merges"], sources)?),
    }))
}

/// Refuses models that GGUF files cannot represent, and those that would crash the library.
fn check(json: &Value) -> Result<()> {
    let prefix = json["model"]["continuing_subword_prefix"].as_str();
    if let Some(prefix) = prefix.filter(|prefix| !prefix.is_empty()) {
        return Err(Problem::Prefix { prefix: excerpt(prefix).escape_debug().to_string() }.into());
    }
    tokenizer::check(json)
}

/// Every token by its id.
fn tokens(tokenizer: &Tokenizer, sources: &Sources<'_>) -> tokenizers::Result<HashMap<u32, (String, Kind)>> {
    let added = tokenizer.get_added_tokens_decoder();
    let named = special_tokens(sources.config.as_ref());
    let entry = |(token, id): (String, u32)| {
        let (normalized, special) = match added.get(&id) {
            Some(added) => (added.normalized, added.special || named.contains(token.as_str())),
            None if named.contains(token.as_str()) => (false, true),
            None => return Ok((id, (token, Kind::Normal))),
        };
        // llama.cpp looks for the token in normalised text.
        let token = if normalized {
            token
        } else {
            tokenizer.decode(tokenizer.encode(token.as_str(), false)?.get_ids(), false)?
        };
        let control = special || looks_special(&token);
        Ok((id, if control { (token, Kind::Control) } else { user_defined(&token) }))
    };
    tokenizer.get_vocab(true).into_iter().map(entry).collect()
}

/// The tokens to which `tokenizer_config.json` gives a meaning.
pub(in crate::model) fn special_tokens(config: Option<&Value>) -> HashSet<&str> {
    const NAMES: &[&str] =
        &["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    let Some(config) = config else { return HashSet::new() };
    let lists = ["additional_special_tokens", "extra_special_tokens"].map(|name| config[name].as_array());
    let listed = lists.into_iter().flatten().flatten();
    NAMES.iter().map(|name| &config[*name]).chain(listed).filter_map(super::special::content).collect()
}

/// `merges` of `tokenizer.json`, or the lines of `merges.txt`.
fn merges(json: &Value, sources: &Sources<'_>) -> Result<Vec<String>> {
    let wrong = || Error::from(Problem::Merges);
    match json.as_array().filter(|merges| !merges.is_empty()) {
        Some(merges) => merges.iter().map(|merge| pair(merge).ok_or_else(wrong)).collect(),
        None => {
            let text = sources.files.text("merges.txt")?.unwrap_or_default();
            let pairs = text.lines().enumerate().filter(|(i, line)| *i > 0 || !line.starts_with('#'));
            let pair = |(_, line): (usize, &str)| match line.split_whitespace().collect::<Vec<_>>()[..] {
                [left, right] => Some(format!("{left} {right}")),
                _ => None,
            };
            Ok(pairs.filter_map(pair).collect())
        }
    }
}
