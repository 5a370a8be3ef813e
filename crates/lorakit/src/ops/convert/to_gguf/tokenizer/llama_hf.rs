//! A SentencePiece vocabulary that only `tokenizer.json` holds: BPE that falls back to bytes.

use std::collections::HashMap;

use super::{Kind, Sources, Vocab};
use crate::Result;

/// Converters give every token the same score, since `tokenizer.json` has none.
const SCORE: f32 = -1000.0;

/// The vocabulary, if `tokenizer.json` is of this kind.
pub(super) fn vocab(sources: &Sources<'_>) -> Result<Option<Vocab>> {
    let Some((_, json)) = &sources.tokenizer else { return Ok(None) };
    let model = &json["model"];
    let falls_back = model["type"] == "BPE" && model["byte_fallback"] == true;
    if !falls_back || json["decoder"]["type"] != "Sequence" {
        return Ok(None);
    }
    let added = json["added_tokens"].as_array();
    let added: HashMap<u64, &str> = added
        .into_iter()
        .flatten()
        .filter_map(|token| Some((token["id"].as_u64()?, token["content"].as_str()?)))
        .collect();
    let _ = added;
    Ok(None)
}
