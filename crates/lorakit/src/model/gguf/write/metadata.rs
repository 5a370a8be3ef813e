//! The metadata of a GGUF model, in the same order and with the same types as llama.cpp's converter.

use lorakit_quant::mix::FileType;
use lorakit_tensor::DType;
use lorakit_tensor::format::gguf::{Metadata, Value as GgufValue};

use super::files::Files;
use super::general;
use super::rope::Rope;
use crate::arch::{Entry, KeyRule, KeyType, Named, common};
use crate::model::gguf::QUANTIZATION_VERSION;
use crate::model::tokenizer::to_gguf as tokenizer;
use crate::model::{Params, missing};
use crate::plan::OutputTensor;
use crate::{ModelConfig, Result};

/// The sources of the metadata.
#[derive(Clone, Copy)]
pub(crate) struct MetadataSources<'a> {
    /// The name of the model, which is that of its folder.
    pub(crate) name: &'a str,
    /// `config.json`.
    pub(crate) config: &'a ModelConfig,
    /// The other files of the folder: tokenizer, chat template, `generation_config.json`, `README.md`.
    pub(crate) files: Files<'a>,
    /// The tensors of the file, as [`gguf_tensors`](super::gguf_tensors) returned them.
    pub(crate) tensors: &'a [OutputTensor],
    /// The dtype of most matrices, for `general.file_type`.
    pub(crate) dtype: DType,
    /// `tokenizer.ggml.pre`, if it should not be detected.
    pub(crate) pre: Option<&'a str>,
}

/// Returns every key and value.
///
/// # Errors
/// `Unsupported` for an unknown class or tokenizer; `File` for an entry of `config.json` that is missing or makes no
/// sense, and if the sizes of embeddings and vocabulary differ.
pub(crate) fn metadata(sources: &MetadataSources<'_>) -> Result<Metadata> {
    let params = Params::new(sources.config)?;
    let files = sources.files;
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", GgufValue::String(params.architecture.gguf().into()));
    for (key, value) in super::rope::early_keys(&params)? {
        metadata.set(&family_key(&params, key), value);
    }
    metadata.set("general.type", GgufValue::String("model".into()));
    general::set(&mut metadata, sources.name, files, sources.config, sources.tensors)?;
    set_entries(&mut metadata, &params, params.architecture.keys(), sources.dtype)?;
    metadata.set("general.quantization_version", GgufValue::U32(QUANTIZATION_VERSION));

    let embeddings = sources.tensors.iter().find(|tensor| tensor.info.name == "token_embd.weight");
    let rows = embeddings.and_then(|tensor| tensor.info.shape.first().copied()).unwrap_or(0);
    tokenizer::set(&mut metadata, &params, files, rows, sources.pre)?;
    let tokens = metadata.get("tokenizer.ggml.tokens").and_then(GgufValue::as_strings).map_or(0, <[_]>::len);
    if rows != tokens {
        return Err(tokenizer::other_rows(rows, tokens));
    }
    Ok(metadata)
}

/// `general.file_type` of a file whose matrices are of type `dtype`, if llama.cpp has a number for it.
fn file_type(dtype: DType) -> Option<u32> {
    FileType::from_name(dtype.name()).map(FileType::id)
}

fn family_key(params: &Params<'_>, key: &str) -> String {
    format!("{}.{key}", params.architecture.gguf())
}

fn set_entries(metadata: &mut Metadata, params: &Params<'_>, entries: &[Entry], dtype: DType) -> Result<()> {
    for entry in entries {
        let mut set = |key: &str, value| metadata.set(&family_key(params, key), value);
        match entry {
            Entry::Rule(rule) => {
                if let Some(value) = value(params, rule)? {
                    set(&rule.key, value);
                }
            }
            Entry::Named(Named::RopeScaling) => {
                Rope::new(params).keys()?.into_iter().for_each(|(key, value)| set(key, value));
            }
            Entry::Named(Named::RopeBase) => {
                let rope = Rope::new(params);
                for (key, base) in
                    [("rope.freq_base", rope.base()?), ("rope.freq_base_swa", rope.window_base()?)]
                {
                    if let Some(base) = base {
                        set(key, GgufValue::F32(base as f32));
                    }
                }
            }
            Entry::Named(Named::RotaryDimensions) => {
                let dimensions = Rope::new(params).dimensions()?;
                set("rope.dimension_count", GgufValue::U32(dimensions));
            }
            Entry::Named(Named::FileType) => {
                if let Some(number) = file_type(dtype) {
                    metadata.set("general.file_type", GgufValue::U32(number));
                }
            }
            Entry::Named(Named::Common) => set_entries(metadata, params, common(), dtype)?,
        }
    }
    Ok(())
}

fn value(params: &Params<'_>, rule: &KeyRule) -> Result<Option<GgufValue>> {
    for name in &rule.from {
        let value = match rule.kind {
            KeyType::U32 => params.integer(name)?.map(GgufValue::U32),
            KeyType::F32 => params.float(name)?.map(|value| GgufValue::F32(value as f32)),
        };
        if value.is_some() {
            return Ok(value);
        }
    }
    let otherwise = rule.otherwise.as_ref();
    let value = match rule.kind {
        KeyType::U32 => otherwise.and_then(serde_json::Value::as_u64).map(|n| GgufValue::U32(n as u32)),
        KeyType::F32 => otherwise.and_then(serde_json::Value::as_f64).map(|n| GgufValue::F32(n as f32)),
    };
    match value {
        None if rule.required => Err(missing(&rule.from.join("` or `"))),
        value => Ok(value),
    }
}
