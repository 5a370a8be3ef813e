//! `config.json` and `generation_config.json`.

use lorakit_tensor::{DType, TensorInfo};
use serde_json::{Map, Value, json};

use super::keys::Keys;
use super::known;
use super::rope::rope_scaling;
use super::tensors::{flags, heads};
use crate::model::gguf::Problem;
use crate::model::tokenizer::from_gguf::SpecialIds;
use crate::model::torch_name;
use crate::{Error, Result};

/// Integers that every family has: the entry of `config.json`, and the GGUF key without the family's prefix.
const SIZES: &[(&str, &str)] = &[
    ("hidden_size", "embedding_length"),
    ("intermediate_size", "feed_forward_length"),
    ("num_hidden_layers", "block_count"),
    ("num_attention_heads", "attention.head_count"),
];

/// The base of rotary frequencies if the file has no `rope.freq_base`.
const DEFAULT_THETA: f64 = 10_000.0;

/// `config.json` for weights of type `dtype`. `rope_factors` are the values of `rope_freqs.weight`, if present; `ids`
/// are the tokenizer's, if it was read.
///
/// Transformers 4 and 5 read the same model from it: both know the spellings `rope_theta` and `rope_scaling`, and the
/// type is there under its old and its new name.
///
/// # Errors
/// If a key that the family needs is missing (`Incomplete`) or makes no sense.
pub(in crate::model) fn config(
    keys: Keys<'_>,
    tensors: &[TensorInfo],
    rope_factors: Option<&[f32]>,
    ids: Option<&SpecialIds>,
    dtype: DType,
) -> Result<Value> {
    let classes = keys.architecture.hf_classes();
    let has_key = |when: &Option<String>| when.as_deref().is_none_or(|key| keys.has(key));
    let class = classes.iter().rfind(|class| has_key(&class.when));
    let class = class.ok_or(Problem::NoClass)?;

    let mut config = Map::new();
    let mut set = |key: &str, value: Value| config.insert(key.to_string(), value);
    set("architectures", json!([class.architecture]));
    set("model_type", json!(class.model_type));
    for (key, gguf) in SIZES {
        set(key, keys.required_integer(gguf)?.into());
    }
    for (name, key) in class.entries.iter().filter_map(|(name, key)| Some((name, key.as_str()?))) {
        set(name, keys.required_integer(key)?.into());
    }
    set("num_key_value_heads", heads(keys)?.key_value.into());
    set("head_dim", head_dim(keys)?.into());
    set("vocab_size", vocab_size(tensors)?.into());
    set("max_position_embeddings", keys.required_integer("context_length")?.into());
    set("rms_norm_eps", keys.required_float("attention.layer_norm_rms_epsilon")?.into());
    let theta = keys.float("rope.freq_base")?.unwrap_or(DEFAULT_THETA);
    set("rope_theta", theta.into());
    set("rope_scaling", rope_scaling(keys, theta, rope_factors)?.unwrap_or(Value::Null));
    if let Some(window) = keys.integer("attention.sliding_window")? {
        set("sliding_window", window.into());
    }
    for (key, value) in keys.architecture.config() {
        set(key, value.clone());
    }
    known::add(keys, head_dim(keys)?, &mut config)?;
    let mut set = |key: &str, value: Value| config.insert(key.to_string(), value);
    for (flag, value) in flags(keys, tensors)? {
        set(flag, value.into());
    }
    set("tie_word_embeddings", (!tensors.iter().any(|t| t.name == "output.weight")).into());
    if let Some(ids) = ids {
        for (key, id) in [("bos_token_id", ids.bos), ("eos_token_id", ids.eos), ("pad_token_id", ids.pad)] {
            if let Some(id) = id {
                set(key, id.into());
            }
        }
    }
    let dtype = weight_type(dtype)?;
    set("torch_dtype", dtype.into());
    set("dtype", dtype.into());
    Ok(config.into())
}

/// `generation_config.json`: the tokens with which generation begins and ends.
pub(in crate::model) fn generation_config(ids: &SpecialIds) -> Value {
    let mut config = Map::new();
    if let Some(bos) = ids.bos {
        config.insert("bos_token_id".into(), bos.into());
    }
    match ids.ends.as_slice() {
        [] => {}
        [eos] => drop(config.insert("eos_token_id".into(), json!(eos))),
        many => drop(config.insert("eos_token_id".into(), json!(many))),
    }
    if let Some(pad) = ids.pad {
        config.insert("pad_token_id".into(), pad.into());
    }
    config.into()
}

/// The number of rows in a head; keys and values must have the same number.
fn head_dim(keys: Keys<'_>) -> Result<u64> {
    let (hidden, heads) =
        (keys.required_integer("embedding_length")?, keys.required_integer("attention.head_count")?);
    let head_dim = match keys.integer("attention.key_length")? {
        Some(length) => length,
        None => hidden.checked_div(heads).unwrap_or(0),
    };
    let values = keys.integer("attention.value_length")?.unwrap_or(head_dim);
    let rotated = keys.integer("rope.dimension_count")?.unwrap_or(head_dim);
    if head_dim == 0 || values != head_dim || rotated != head_dim {
        return Err(Problem::UnequalHeads { keys: head_dim, values, rotated }.into());
    }
    Ok(head_dim)
}

pub(in crate::model) fn vocab_size(tensors: &[TensorInfo]) -> Result<usize> {
    let name = "token_embd.weight";
    let problem =
        match tensors.iter().find(|tensor| tensor.name == name).map(|tensor| tensor.shape.as_slice()) {
            Some([rows, _]) => return Ok(*rows),
            Some(shape) => Problem::Embeddings { shape: shape.to_vec() },
            None => Problem::MissingTensor,
        };
    Err(Error::from(problem).tensor(name))
}

/// The name of the weights' type in `config.json`.
fn weight_type(dtype: DType) -> Result<&'static str> {
    let name = torch_name(dtype).filter(|_| dtype != DType::F64);
    Ok(name.ok_or(Problem::WeightType { dtype })?)
}
