//! A GGUF model as a base, with its metadata as the `config.json` that adapters need. Unlike converting the model,
//! this does not need the tokenizer, and works for families whose models cannot be turned back.

use lorakit_tensor::format::gguf::{Metadata, Value};
use lorakit_tensor::{Checkpoint, TensorInfo, TensorSource};
use serde_json::{Map, json};

use crate::arch::{self, Architecture, Match};
use crate::model::gguf::Problem;
use crate::{Error, ModelConfig, Result};

/// Entries of `config.json`, and the matching GGUF keys without the family's prefix.
const NUMBERS: &[(&str, &str)] = &[
    ("num_hidden_layers", "block_count"),
    ("num_attention_heads", "attention.head_count"),
    ("num_key_value_heads", "attention.head_count_kv"),
    ("hidden_size", "embedding_length"),
    ("intermediate_size", "feed_forward_length"),
    ("num_experts", "expert_count"),
    ("num_local_experts", "expert_count"),
];

/// Reads the configuration and the tensors; the latter have Hugging Face names, with each expert by itself.
///
/// # Errors
/// `WrongRole` for an adapter, `Unsupported` for an unknown family.
pub(in crate::model) fn read(gguf: &Checkpoint) -> Result<(ModelConfig, Vec<TensorInfo>)> {
    let place = |problem: Problem| Error::from(problem).at(gguf.path());
    let metadata = metadata(gguf)?;
    let text = |key: &str| metadata.get(key).and_then(Value::as_str);
    if text("general.type") == Some("adapter") {
        return Err(place(Problem::Adapter));
    }
    let name = text("general.architecture").unwrap_or("no name");
    let family = arch::by_gguf(name).ok_or_else(|| {
        let known = arch::architectures().iter().map(Architecture::gguf).collect();
        place(Problem::UnknownFamily { family: name.escape_debug().to_string(), known })
    })?;
    let tensors = tensors(family, gguf.tensors());
    Ok((ModelConfig { json: config(family, metadata, gguf).into() }, tensors))
}

fn config(family: &Architecture, metadata: &Metadata, gguf: &Checkpoint) -> Map<String, serde_json::Value> {
    let key = |key: &str| metadata.get(&format!("{}.{key}", family.gguf()));
    let mut config = Map::new();
    let is = |when: &Option<String>| when.as_deref().is_none_or(|when| key(when).is_some());
    if let Some(class) = family.hf_classes().iter().rfind(|class| is(&class.when)) {
        config.insert("architectures".into(), json!([class.architecture]));
        config.insert("model_type".into(), json!(class.model_type));
    }
    for (entry, name) in NUMBERS {
        if let Some(number) = key(name).and_then(Value::as_u64) {
            config.insert((*entry).into(), number.into());
        }
    }
    if let Some(index) = gguf.find("token_embd.weight") {
        config.insert("vocab_size".into(), gguf.tensors()[index].rows_cols().0.into());
    }
    config.insert("tie_word_embeddings".into(), gguf.find("output.weight").is_none().into());
    config
}

fn tensors(family: &Architecture, stored: &[TensorInfo]) -> Vec<TensorInfo> {
    let mut tensors = Vec::with_capacity(stored.len());
    for info in stored {
        let Some(found) = family.match_gguf(&info.name) else { continue };
        let (experts, shape) = match (found.rule.is_stacked(), info.shape.as_slice()) {
            (true, [experts, shape @ ..]) => (*experts, shape),
            (_, shape) => (1, shape),
        };
        let named = |expert: usize| {
            let found = Match { expert: found.rule.is_stacked().then_some(expert), ..found };
            Some(TensorInfo { name: found.hf_name()?, dtype: info.dtype, shape: shape.to_vec() })
        };
        tensors.extend((0..experts).filter_map(named));
    }
    tensors
}

/// The metadata of a GGUF file.
pub(super) fn metadata(gguf: &Checkpoint) -> Result<&Metadata> {
    gguf.gguf().ok_or_else(|| Error::from(Problem::NoMetadata).at(gguf.path()))
}
