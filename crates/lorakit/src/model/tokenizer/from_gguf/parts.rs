//! The parts in which kinds of tokenizers differ.

use serde_json::{Map, Value, json};

use super::vocab::Frame;

/// The members of `tokenizer.json` in which kinds of tokenizers differ.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) normalizer: Value,
    pub(super) pre_tokenizer: Value,
    pub(super) post_processor: Value,
    pub(super) decoder: Value,
    pub(super) model: Value,
}

/// The post-processor that frames a text and each of a pair of texts; null if nothing is added.
pub(super) fn template(frame: Frame<'_>) -> Value {
    if frame.bos.is_none() && frame.eos.is_none() {
        return Value::Null;
    }
    let framed = |sequence: &str, type_id: u8| -> Vec<Value> {
        let special = |(_, token): (u64, &str)| json!({"SpecialToken": {"id": token, "type_id": type_id}});
        let text = json!({"Sequence": {"id": sequence, "type_id": type_id}});
        frame.bos.map(special).into_iter().chain([text]).chain(frame.eos.map(special)).collect()
    };
    let tokens: Map<String, Value> = [frame.bos, frame.eos]
        .into_iter()
        .flatten()
        .map(|(id, token)| (token.to_string(), json!({"id": token, "ids": [id], "tokens": [token]})))
        .collect();
    let pair = [framed("A", 0), framed("B", 1)].concat();
    json!({
        "type": "TemplateProcessing",
        "single": framed("A", 0),
        "pair": pair,
        "special_tokens": tokens,
    })
}
