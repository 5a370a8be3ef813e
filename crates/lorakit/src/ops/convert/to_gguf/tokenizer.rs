//! `tokenizer.*`: the kind of tokenizer, its tokens, the special ones and the chat template.

use lorakit_tensor::format::gguf::{Array, Metadata, Value};
use serde_json::Value as Json;

use super::{bpe, chat, sentencepiece, side, special};
use crate::adapter::Finding;
use crate::model::ModelConfig;
use crate::{Error, ErrorKind, Model, Result};

/// What a token is for: `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// A token of a vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) kind: Kind,
    /// How early two neighbours are merged to it, which only SentencePiece asks for.
    pub(super) score: f32,
}

impl Token {
    /// The token of row `id` of the embeddings that no text gives.
    pub(super) fn filler(id: usize) -> Token {
        Token { text: format!("[PAD{id}]"), kind: Kind::Unused, score: -10_000.0 }
    }
}

/// The families of size 49152 are Granite and SmolLM, whose texts begin without bos whatever their files say.
const WITHOUT_BOS: usize = 49152;

/// Sets `tokenizer.*` for embeddings of `rows` rows.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a tokenizer that GGUF has no name for, and [`ErrorKind::Shape`] for one with more
/// tokens than `rows`; whatever reading the files turns up.
pub(super) fn set(
    metadata: &mut Metadata,
    model: &Model,
    config: &ModelConfig,
    rows: usize,
    pre: Option<&str>,
    notes: &mut Vec<Finding>,
) -> Result<()> {
    let tokenizer = side::json(model, "tokenizer.json")?.unwrap_or_default();
    let tokenizer_config = side::json(model, "tokenizer_config.json")?;
    let sentencepiece_model = side::bytes(model, "tokenizer.model")?;
    let family = metadata.get("general.architecture").and_then(Value::as_str);
    let is_llama = family == Some("llama");
    let place = |name: &'static str| move |e: Error| e.at(&side::path(model, name));

    let space_prefix = tokenizer_config.as_ref().and_then(|config| config["add_prefix_space"].as_bool());
    if let (true, Some(add)) = (is_llama, space_prefix) {
        metadata.set("tokenizer.ggml.add_space_prefix", Value::Bool(add));
    }
    if let Some(bytes) = sentencepiece_model {
        let mut tokens = sentencepiece::of_model(&bytes, rows).map_err(place("tokenizer.model"))?;
        let added_tokens = side::json(model, "added_tokens.json")?.unwrap_or_default();
        sentencepiece::add(&mut tokens, &added_tokens, tokenizer_config.as_ref().unwrap_or(&Json::Null));
        set_tokens(metadata, "llama", "default", tokens, true);
    } else if tokenizer["model"]["type"] != "BPE" {
        let message = match &tokenizer["model"]["type"] {
            Json::String(kind) => {
                format!("is a tokenizer of kind {}; GGUF files of the family hold BPE", kind.escape_debug())
            }
            _ if tokenizer.is_null() => {
                "is not there, and neither is `tokenizer.model`; a GGUF file holds its tokenizer".into()
            }
            _ => "does not say what kind of tokenizer it is".into(),
        };
        return Err(Error::new(ErrorKind::Unsupported, message).at(&side::path(model, "tokenizer.json")));
    } else if tokenizer["model"]["byte_fallback"] == true {
        let tokens = sentencepiece::of_json(&tokenizer, rows).map_err(place("tokenizer.json"))?;
        set_tokens(metadata, "llama", "default", tokens, true);
        if space_prefix.is_none() && !sentencepiece::has_space_prefix(&tokenizer) {
            metadata.set("tokenizer.ggml.add_space_prefix", Value::Bool(false));
        }
    } else {
        let bpe = bpe::read(&tokenizer, tokenizer_config.as_ref(), rows, pre, notes);
        let bpe = bpe.map_err(place("tokenizer.json"))?;
        set_tokens(metadata, "gpt2", &bpe.pre, bpe.tokens, false);
        metadata.set("tokenizer.ggml.merges", Value::Array(Array::String(bpe.merges)));
    }
    special::set(metadata, &tokenizer, tokenizer_config.as_ref(), &config.json, rows);
    if let Some(tokenizer_config) = &tokenizer_config {
        chat::set(metadata, model, tokenizer_config)?;
    }
    if is_llama && rows == WITHOUT_BOS {
        metadata.set("tokenizer.ggml.add_bos_token", Value::Bool(false));
    }
    Ok(())
}

fn set_tokens(metadata: &mut Metadata, kind: &str, pre: &str, tokens: Vec<Token>, with_scores: bool) {
    metadata.set("tokenizer.ggml.model", Value::String(kind.into()));
    metadata.set("tokenizer.ggml.pre", Value::String(pre.into()));
    let kinds = tokens.iter().map(|token| token.kind as i32).collect();
    let scores = tokens.iter().map(|token| token.score).collect();
    let texts = tokens.into_iter().map(|token| token.text).collect();
    metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(texts)));
    if with_scores {
        metadata.set("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    }
    metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)));
}

/// Whether a token that is not marked as special is one all the same, by its looks.
pub(super) fn looks_special(text: &str) -> bool {
    const SPECIAL: &[&str] = &["<pad>", "<mask>", "<2mass>", "[@BOS@]"];
    const FRAMES: &[(&str, &str)] = &[("<|", "|>"), ("<\u{ff5c}", "\u{ff5c}>"), ("<unused", ">")];
    SPECIAL.contains(&text)
        || FRAMES.iter().any(|(begin, end)| text.starts_with(begin) && text.ends_with(end))
}

/// The error for token `id`, which has no row.
pub(super) fn beyond(text: &str, id: u64, rows: usize) -> Error {
    let text = text.escape_debug();
    let message = format!("has the token `{text}` as number {id}, and the embeddings have {rows} rows");
    Error::new(ErrorKind::Shape, message)
}
