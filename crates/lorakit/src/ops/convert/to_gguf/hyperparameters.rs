//! `config.json` to `{family}.*`.

use lorakit_tensor::format::gguf::{Metadata, Value};

use super::rope;
use crate::arch::{Architecture, Role};
use crate::model::ModelConfig;
use crate::{Error, ErrorKind, Model, Result};

/// Whole numbers that every family has: the key in `config.json` and in GGUF, after the family's name.
const SIZES: &[(&str, &str)] = &[
    ("num_hidden_layers", "block_count"),
    ("max_position_embeddings", "context_length"),
    ("hidden_size", "embedding_length"),
    ("intermediate_size", "feed_forward_length"),
    ("num_attention_heads", "attention.head_count"),
];

/// Sets `{family}.*` and `general.file_type`, which stands among them; `rows` is the size of the vocabulary.
///
/// # Errors
/// [`ErrorKind::Config`] if a number is missing or out of range; see also [`rope::set`].
pub(super) fn set(
    metadata: &mut Metadata,
    config: &ModelConfig,
    architecture: &Architecture,
    file_type: u32,
    rows: usize,
) -> Result<()> {
    let family = architecture.gguf();
    let mut set = |key: &str, number: u64| -> Result<()> {
        metadata.set(&format!("{family}.{key}"), Value::U32(to_u32(number)?));
        Ok(())
    };
    for (name, key) in SIZES {
        set(key, config.number(name).ok_or_else(|| missing(name))?)?;
    }
    let heads = config.number("num_attention_heads").ok_or_else(|| missing("num_attention_heads"))?;
    set("attention.head_count_kv", config.number("num_key_value_heads").unwrap_or(heads))?;
    rope::set(metadata, config, family)?;
    let epsilon = config.get("rms_norm_eps").as_f64().ok_or_else(|| missing("rms_norm_eps"))?;
    metadata.set(&format!("{family}.attention.layer_norm_rms_epsilon"), Value::F32(epsilon as f32));

    let head_dim = Value::U32(to_u32(rope::head_dim(config)?)?);
    // The class of Llama and Mistral computes the size of a head, that of Qwen2 has none.
    let is_llama = family == "llama";
    if is_llama || config.number("head_dim").is_some() {
        metadata.set(&format!("{family}.attention.key_length"), head_dim.clone());
        metadata.set(&format!("{family}.attention.value_length"), head_dim.clone());
    }
    metadata.set("general.file_type", Value::U32(file_type));
    if is_llama {
        metadata.set(&format!("{family}.vocab_size"), Value::U32(to_u32(rows as u64)?));
        metadata.set(&format!("{family}.rope.dimension_count"), head_dim);
    }
    Ok(())
}

/// The rows of the embeddings, each of which needs a token.
///
/// # Errors
/// [`ErrorKind::Unmatched`] if there are no embeddings.
pub(super) fn vocabulary(model: &Model, architecture: &Architecture) -> Result<usize> {
    let embeddings = model
        .tensors()
        .iter()
        .find(|info| architecture.match_hf(&info.name).is_some_and(|found| found.rule.role == Role::Embed));
    embeddings.and_then(|info| info.shape.first().copied()).ok_or_else(|| {
        let message =
            format!("has no embeddings by a name that the family `{}` has for them", architecture.gguf());
        Error::new(ErrorKind::Unmatched, message).at(&model.path)
    })
}

fn to_u32(number: u64) -> Result<u32> {
    u32::try_from(number).map_err(|_| {
        let message = format!("holds the size {number}; GGUF files hold at most {}", u32::MAX);
        Error::new(ErrorKind::Config, message)
    })
}

fn missing(name: &str) -> Error {
    Error::new(ErrorKind::Config, format!("lacks the number `{name}`"))
}
