//! The files that travel along: configuration, tokenizer, templates, licences.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use lorakit_tensor::{DType, Error as FileError};
use serde_json::Value;

use super::tied::Untied;
use crate::adapter::{Adapter, Finding, Severity};
use crate::model::torch_name;
use crate::plan::{Content, OutputTensor, SideFile};
use crate::{Model, Result};

/// Endings of files that hold weights or describe how they are split.
const WEIGHTS: &[&str] = &[
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".h5",
    ".msgpack",
    ".onnx",
    ".onnx_data",
    ".npz",
    ".index.json",
    ".partial",
    ".lock",
];
/// Folders of a model repository that are other copies of the weights, or none of the output's business.
const FOREIGN_FOLDERS: &[&str] = &["original", "onnx", "runs", "logs", "openvino", "coreml", "flax", "metal"];
/// Files that a tokenizer consists of.
const TOKENIZER: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
];
/// How weights are quantised, which they no longer are.
const QUANTIZATION: &[&str] = &["hf_quant_config.json", "quant_config.json", "quantize_config.json"];
/// What travels when the base was named as a single file, whose folder may hold anything.
const COMPANIONS: &[&str] =
    &["config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"];

pub(super) fn side_files(
    base: &Model,
    adapters: &[(Adapter, f64)],
    tensors: &[OutputTensor],
    untied: &Untied,
    dtype: Option<DType>,
    notes: &mut Vec<Finding>,
) -> Result<Vec<SideFile>> {
    let mut files: BTreeMap<String, Content> = BTreeMap::new();
    if !base.rebuilt_files().is_empty() {
        files.extend(base.rebuilt_files().iter().map(|f| (f.name.clone(), f.content.clone())));
    } else if base.path.is_dir() {
        collect(&base.path, "", &mut files)?;
    } else {
        for name in COMPANIONS.iter().chain(TOKENIZER) {
            let path = base.folder().join(name);
            if base.config.is_some() && path.is_file() {
                files.insert((*name).to_string(), Content::CopyOf(path));
            }
        }
    }
    if base.packing.is_some() {
        files.retain(|name, _| !QUANTIZATION.contains(&name.as_str()));
    }
    let grown = grown_vocabulary(base, tensors);
    take_tokenizer(adapters, grown, &mut files, notes);
    if let Some(config) = &base.config {
        let mut json = config.json.clone();
        edit_config(&mut json, base, untied, dtype, grown);
        if json != config.json {
            let mut text = serde_json::to_vec_pretty(&json).unwrap_or_default();
            text.push(b'\n');
            files.insert("config.json".into(), Content::Bytes(text));
        }
    }
    Ok(files.into_iter().map(|(name, content)| SideFile { name, content }).collect())
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Content>) -> Result<()> {
    let fail = |e| FileError::io("list", folder, e);
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        entries.push(entry.map_err(fail)?.path());
    }
    entries.sort();
    for path in entries {
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        if name.starts_with('.') {
            continue;
        }
        let inside = if prefix.is_empty() { name.to_string() } else { format!("{prefix}/{name}") };
        if path.is_dir() {
            let model = path.join("config.json").is_file() || path.join("adapter_config.json").is_file();
            if !FOREIGN_FOLDERS.contains(&name) && !model && prefix.is_empty() {
                collect(&path, &inside, files)?;
            }
        } else if path.is_file() && !WEIGHTS.iter().any(|ending| name.ends_with(ending)) {
            files.insert(inside, Content::CopyOf(path));
        }
    }
    Ok(())
}

/// The number of rows of an embedding that has more than the base's.
fn grown_vocabulary(base: &Model, tensors: &[OutputTensor]) -> Option<usize> {
    let old: HashMap<&str, &[usize]> =
        base.tensors().iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    let vocabulary = base.config.as_ref().and_then(|c| c.number("vocab_size"));
    tensors.iter().find_map(|t| match (*old.get(t.info.name.as_str())?, t.info.shape.as_slice()) {
        ([v, d], [w, e]) if w > v && d == e && vocabulary.is_none_or(|n| n as usize == *v) => Some(*w),
        _ => None,
    })
}

/// A vocabulary that grew brings its own tokenizer; so does an adapter for a base that has none.
fn take_tokenizer(
    adapters: &[(Adapter, f64)],
    grown: Option<usize>,
    files: &mut BTreeMap<String, Content>,
    notes: &mut Vec<Finding>,
) {
    let base_has_one = files.contains_key("tokenizer.json") || files.contains_key("tokenizer.model");
    for (adapter, _) in adapters {
        let own: Vec<&str> =
            TOKENIZER.iter().copied().filter(|name| adapter.folder().join(name).is_file()).collect();
        if own.is_empty() {
            continue;
        }
        let subject = adapter.path.display().to_string();
        let message = if grown.is_some() || !base_has_one {
            for name in &own {
                files.insert((*name).to_string(), Content::CopyOf(adapter.folder().join(name)));
            }
            format!(
                "its tokenizer is used ({}), because {}",
                own.join(", "),
                match grown {
                    Some(rows) => format!("the vocabulary grew to {rows}"),
                    None => "the base has none".to_string(),
                }
            )
        } else {
            format!("has tokenizer files of its own ({}); the base's are kept", own.join(", "))
        };
        notes.push(Finding::new(Severity::Note, "tokenizer", &subject, message));
    }
}

fn edit_config(json: &mut Value, base: &Model, untied: &Untied, dtype: Option<DType>, grown: Option<usize>) {
    let everywhere = |json: &mut Value, key: &str, value: Value| {
        for section in ["text_config", "llm_config"] {
            if let Some(map) = json.get_mut(section).and_then(Value::as_object_mut)
                && map.contains_key(key)
            {
                map.insert(key.into(), value.clone());
            }
        }
        let nested = json.get("text_config").is_some() || json.get("llm_config").is_some();
        if let Some(map) = json.as_object_mut()
            && (!nested || map.contains_key(key) || key == "tie_word_embeddings")
        {
            map.insert(key.into(), value);
        }
    };
    if untied.untied {
        everywhere(json, "tie_word_embeddings", Value::Bool(false));
    }
    if let Some(rows) = grown {
        everywhere(json, "vocab_size", Value::from(rows));
    }
    if let Some(name) = dtype.and_then(torch_name) {
        let key = if json.get("torch_dtype").is_some() { "torch_dtype" } else { "dtype" };
        everywhere(json, key, Value::from(name));
    }
    // Left over from a time when the weights were quantised: every tensor is floating-point now.
    let float = |d: DType| matches!(d, DType::F64 | DType::F32 | DType::F16 | DType::BF16);
    if (base.packing.is_some() || base.tensors().iter().all(|t| float(t.dtype)))
        && let Some(map) = json.as_object_mut()
    {
        map.shift_remove("quantization_config");
    }
}
