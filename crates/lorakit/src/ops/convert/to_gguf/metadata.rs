//! Metadata of a GGUF file from a model folder: the keys, the order and the types of llama.cpp's converter.

use lorakit_quant::mix::FileType;
use lorakit_tensor::DType;
use lorakit_tensor::format::gguf::{Metadata, Value};

use super::super::natural_dtype;
use super::{card, hyperparameters, name, rope, side, tokenizer};
use crate::adapter::Finding;
use crate::arch::Architecture;
use crate::model::ModelConfig;
use crate::{Error, ErrorKind, Model, Result};

/// The version of the block types.
const QUANTIZATION_VERSION: u32 = 2;

/// How generation samples, in `generation_config.json` and in GGUF; counts are whole numbers.
const SAMPLING: &[(&[&str], &str, Number)] = &[
    (&["top_k"], "top_k", Number::Count),
    (&["top_p"], "top_p", Number::Real),
    (&["min_p"], "min_p", Number::Real),
    (&["xtc_probability"], "xtc_probability", Number::Real),
    (&["xtc_threshold"], "xtc_threshold", Number::Real),
    (&["temperature"], "temp", Number::Real),
    (&["penalty_last_n"], "penalty_last_n", Number::Count),
    (&["penalty_repeat", "repetition_penalty"], "penalty_repeat", Number::Real),
    (&["mirostat"], "mirostat", Number::Count),
    (&["mirostat_tau"], "mirostat_tau", Number::Real),
    (&["mirostat_eta"], "mirostat_eta", Number::Real),
];

#[derive(Clone, Copy)]
enum Number {
    Count,
    Real,
}

/// Metadata of the GGUF form of `model`, a Hugging Face model of the family `architecture`, for weights that stay of
/// their type; `pre` names the pre-tokenizer where it cannot be found out. A model that was a GGUF file before has them
/// already.
///
/// # Errors
/// [`ErrorKind::Config`] if `config.json` lacks a number that the family needs; [`ErrorKind::Unsupported`] for a
/// tokenizer or a scaling of positions that GGUF has no name for; whatever reading the files turns up.
pub(crate) fn of(
    model: &Model,
    architecture: &Architecture,
    pre: Option<&str>,
    notes: &mut Vec<Finding>,
) -> Result<Metadata> {
    if let Some(source) = model.checkpoint().gguf() {
        let mut metadata = source.clone();
        metadata.retain(|key| !key.starts_with("split."));
        metadata.set("general.file_type", Value::U32(file_type(model)));
        return Ok(metadata);
    }
    let config = model.config.as_ref().ok_or_else(|| {
        let message = "is not there, and without it the shape of the model is unknown";
        Error::new(ErrorKind::Config, message).at(&side::path(model, "config.json"))
    })?;
    let rows = hyperparameters::vocabulary(model, architecture)?;
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Value::String(architecture.gguf().into()));
    metadata.set("general.type", Value::String("model".into()));
    sampling(&mut metadata, model)?;
    let parameters = parameters(model, architecture, config)?;
    naming(&mut metadata, model, config, parameters)?;
    card::set(&mut metadata, model, parameters)?;
    hyperparameters::set(&mut metadata, config, architecture, file_type(model), rows)
        .map_err(|e| e.at(&side::path(model, "config.json")))?;
    metadata.set("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    tokenizer::set(&mut metadata, model, config, rows, pre, notes)?;
    Ok(metadata)
}

/// The number of `general.file_type` for the type that most weights have.
fn file_type(model: &Model) -> u32 {
    let file_type = match natural_dtype(model.tensors()) {
        DType::F32 => FileType::F32,
        DType::F16 => FileType::F16,
        _ => FileType::BF16,
    };
    file_type.id()
}

/// Values of all tensors of the GGUF file.
fn parameters(model: &Model, architecture: &Architecture, config: &ModelConfig) -> Result<u64> {
    let of_family = model.tensors().iter().filter(|info| architecture.match_hf(&info.name).is_some());
    let factors = rope::factors(config)?.map_or(0, |factors| factors.len() as u64);
    Ok(of_family.map(|info| info.elements()).sum::<u64>() + factors)
}

fn sampling(metadata: &mut Metadata, model: &Model) -> Result<()> {
    let Some(config) = side::json(model, "generation_config.json")? else { return Ok(()) };
    for (names, key, number) in SAMPLING {
        let Some(value) = names.iter().map(|name| &config[*name]).find(|value| value.is_number()) else {
            continue;
        };
        let value = match number {
            Number::Count => value.as_i64().and_then(|n| i32::try_from(n).ok()).map(Value::I32),
            Number::Real => value.as_f64().map(|n| Value::F32(n as f32)),
        };
        if let Some(value) = value {
            metadata.set(&format!("general.sampling.{key}"), value);
        }
    }
    Ok(())
}

/// `general.name` and what else a name says: that of the hub where the configuration has one, else the folder's.
fn naming(metadata: &mut Metadata, model: &Model, config: &ModelConfig, parameters: u64) -> Result<()> {
    let folder = folder_name(model)?;
    let hub = config.json["_name_or_path"].as_str().filter(|id| id.matches('/').count() <= 1);
    let (organization, hub_name) = match hub.map(name::split_id) {
        Some((organization, name)) => (organization, Some(name)),
        None => (None, None),
    };
    let of_folder = name::components(&folder, parameters);
    let of_hub = hub_name.map(|id| name::components(id, parameters)).unwrap_or_default();
    let texts = [
        ("general.name", Some(name::title(hub_name.unwrap_or(&folder)))),
        ("general.version", of_hub.version.or(of_folder.version)),
        ("general.organization", organization.map(name::title)),
        ("general.finetune", of_hub.finetune.or(of_folder.finetune)),
        ("general.basename", of_hub.basename.or(of_folder.basename)),
        (
            "general.size_label",
            of_hub.size_label.or(of_folder.size_label).or_else(|| Some(name::rounded(parameters))),
        ),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            metadata.set(key, Value::String(text));
        }
    }
    Ok(())
}

/// The last part of the folder's path.
fn folder_name(model: &Model) -> Result<String> {
    let folder = model.folder();
    let absolute =
        std::path::absolute(folder.join(".")).map_err(|e| lorakit_tensor::Error::io("find", folder, e))?;
    Ok(absolute.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
}

#[cfg(test)]
mod tests;
