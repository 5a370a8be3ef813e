//! `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`.

mod bpe;
mod parts;
mod split;
mod spm;
mod vocab;

use lorakit_tensor::format::gguf::Metadata;
use serde_json::{Map, Value, json};

use crate::Result;
use crate::model::gguf::read::keys::{missing, text};
use crate::model::tokenizer::Problem;
pub(in crate::model) use split::Split;
pub(in crate::model) use vocab::SpecialIds;
use vocab::{Frame, Kind, Vocab};

/// The tokenizer of a model as Hugging Face files.
#[derive(Debug)]
pub(in crate::model) struct Tokenizer {
    /// `tokenizer.json`.
    pub(in crate::model) tokenizer: Value,
    /// `tokenizer_config.json`.
    pub(in crate::model) config: Value,
    /// `special_tokens_map.json`.
    pub(in crate::model) special_tokens: Value,
    /// Ids for `config.json`.
    pub(in crate::model) ids: SpecialIds,
    /// Number of tokens, fillers included: the rows of the embeddings.
    pub(in crate::model) vocab_size: usize,
}

/// Rebuilds the tokenizer from `tokenizer.*`; `max_length` is the longest text in tokens.
///
/// # Errors
/// `Unsupported` if the kind of tokenizer, or its rule for cutting text, is unknown.
pub(in crate::model) fn tokenizer(metadata: &Metadata, max_length: u64) -> Result<Tokenizer> {
    let model = text(metadata, "tokenizer.ggml.model")?.ok_or_else(|| missing("tokenizer.ggml.model"))?;
    let vocab = Vocab::read(metadata)?;
    let (ids, (parts, frame)) = match model {
        "gpt2" => {
            let ids = SpecialIds::read(metadata, &vocab, SpecialIds::default())?;
            let parts = bpe::bpe(metadata, &vocab, &ids)?;
            (ids, parts)
        }
        "llama" => {
            let ids = SpecialIds::read(metadata, &vocab, spm::DEFAULT_IDS)?;
            let parts = spm::spm(metadata, &vocab, &ids)?;
            (ids, parts)
        }
        other => return Err(Problem::Kind { kind: other.escape_debug().to_string() }.into()),
    };
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(&vocab),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": parts.post_processor,
        "decoder": parts.decoder,
        "model": parts.model,
    });
    let special_tokens = special_tokens(&vocab, &ids);
    Ok(Tokenizer {
        tokenizer,
        config: config(metadata, frame, &special_tokens, max_length)?,
        special_tokens: special_tokens.into(),
        ids,
        vocab_size: vocab.len(),
    })
}

/// Tokens that are matched in the text before it is cut and merged.
fn added_tokens(vocab: &Vocab<'_>) -> Vec<Value> {
    let added = |(id, content, kind): (usize, &str, Kind)| {
        let special = match kind {
            Kind::Control | Kind::Unknown => true,
            Kind::UserDefined => false,
            Kind::Normal | Kind::Unused | Kind::Byte => return None,
        };
        Some(json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": special
        }))
    };
    vocab.iter().filter_map(added).collect()
}

fn special_tokens(vocab: &Vocab<'_>, ids: &SpecialIds) -> Map<String, Value> {
    let named =
        [("bos_token", ids.bos), ("eos_token", ids.eos), ("pad_token", ids.pad), ("unk_token", ids.unknown)];
    named
        .into_iter()
        .filter_map(|(name, id)| Some((name.to_string(), vocab.token(usize::try_from(id?).ok()?)?.into())))
        .collect()
}

/// `tokenizer_config.json`. `PreTrainedTokenizerFast` is the only class that every version of transformers loads from
/// `tokenizer.json` unchanged; the classes of families rebuild parts of it by their own rules.
fn config(
    metadata: &Metadata,
    frame: Frame<'_>,
    special_tokens: &Map<String, Value>,
    max_length: u64,
) -> Result<Value> {
    let mut config = special_tokens.clone();
    let mut set = |key: &str, value: Value| config.insert(key.to_string(), value);
    set("add_bos_token", frame.bos.is_some().into());
    set("add_eos_token", frame.eos.is_some().into());
    set("clean_up_tokenization_spaces", false.into());
    set("model_max_length", max_length.into());
    set("tokenizer_class", "PreTrainedTokenizerFast".into());
    if let Some(template) = chat_template(metadata)? {
        set("chat_template", template);
    }
    Ok(config.into())
}

/// The chat template, or a list if the model has several.
fn chat_template(metadata: &Metadata) -> Result<Option<Value>> {
    const KEY: &str = "tokenizer.chat_template";
    let default = text(metadata, KEY)?;
    let mut named = Vec::new();
    for (key, value) in metadata.iter() {
        if let (Some(name), Some(template)) =
            (key.strip_prefix(KEY).and_then(|rest| rest.strip_prefix('.')), value.as_str())
        {
            named.push(json!({"name": name, "template": template}));
        }
    }
    if named.is_empty() {
        return Ok(default.map(Value::from));
    }
    named.splice(0..0, default.map(|template| json!({"name": "default", "template": template})));
    Ok(Some(named.into()))
}

#[cfg(test)]
mod tests;
