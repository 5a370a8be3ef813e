//! A SentencePiece vocabulary that is stored only in `tokenizer.json`: BPE that falls back to bytes.

use std::collections::BTreeMap;

use super::bpe;
use super::vocab::{Kind, Sources, Vocab, filler, is_byte};
use crate::Result;

/// The score of every token, since `tokenizer.json` has no scores.
const SCORE: f32 = -1000.0;

/// The vocabulary, if `tokenizer.json` has this kind of tokenizer.
pub(in crate::model) fn vocab(sources: &Sources<'_>) -> Result<Option<Vocab>> {
    let Some((_, json)) = &sources.tokenizer else { return Ok(None) };
    let model = &json["model"];
    let falls_back = model["type"] == "BPE" && model["byte_fallback"] == true;
    let (true, Some("Sequence"), Some(own)) =
        (falls_back, json["decoder"]["type"].as_str(), model["vocab"].as_object())
    else {
        return Ok(None);
    };
    let named = bpe::special_tokens(sources.config.as_ref());
    let own = own.iter().filter_map(|(token, id)| Some((id.as_u64()?, token.as_str(), Kind::Normal)));
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let added = added.filter_map(|t| Some((t["id"].as_u64()?, t["content"].as_str()?, Kind::UserDefined)));
    let mut tokens: BTreeMap<u64, (String, Kind)> = BTreeMap::new();
    for (id, token, kind) in own.chain(added) {
        let kind = match kind {
            _ if is_byte(token) => Kind::Byte,
            _ if named.contains(token) => Kind::Control,
            kind => kind,
        };
        // If the model has an added token too, the model's entry counts.
        tokens.entry(id).or_insert_with(|| (token.to_string(), kind));
    }
    let largest = tokens.last_key_value().map_or(0, |(id, _)| (*id as usize).saturating_add(1));
    let size = sources.size(largest)?;
    let listed = (0..size as u64).map(|id| tokens.remove(&id).unwrap_or_else(|| filler(id as usize)));
    Ok(Some(Vocab {
        model: "llama",
        pre: "default".into(),
        tokens: listed.collect(),
        scores: Some(vec![SCORE; size]),
        merges: None,
    }))
}
