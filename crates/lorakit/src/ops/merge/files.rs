//! The files that are taken along: configuration, tokenizer, templates, licences.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lorakit_tensor::{DType, Reader};
use serde_json::Value;

use super::tied::Untied;
use super::vocabulary::Growth;
use crate::adapter::Adapter;
use crate::model::folder::{config_among, doubts, set_config, side_files_of, travelling};
use crate::model::torch_name;
use crate::plan::{Content, OutputTensor, SideFile, TOKENIZER};
use crate::{Finding, Model, Result, Severity};

pub(super) fn side_files(
    base: &Model,
    adapters: &[(Adapter, f64)],
    tensors: &[OutputTensor],
    untied: &Untied,
    dtype: Option<DType>,
    quantization_config: Option<Value>,
    notes: &mut Vec<Finding>,
) -> Result<Vec<SideFile>> {
    let mut files = travelling(base)?;
    let grown = Growth::of(base, tensors).map(|growth| growth.rows);
    take_tokenizer(adapters, grown, base.reader(), &mut files, notes)?;
    if let Some(config) = config_among(&files, base)? {
        let mut json = config.clone();
        edit_config(&mut json, base, untied, dtype, grown);
        if let Some(packed) = quantization_config {
            json["quantization_config"] = packed;
        }
        if json != config {
            set_config(&mut files, &json);
        }
    }
    notes.extend(doubts(&files, base.reader())?);
    Ok(side_files_of(files))
}

/// A vocabulary that grew brings its own tokenizer; so does an adapter for a base that has none.
fn take_tokenizer(
    adapters: &[(Adapter, f64)],
    grown: Option<usize>,
    reader: &Reader,
    files: &mut BTreeMap<PathBuf, Content>,
    notes: &mut Vec<Finding>,
) -> Result<()> {
    let base_has_one =
        ["tokenizer.json", "tokenizer.model"].iter().any(|name| files.contains_key(Path::new(name)));
    for (adapter, _) in adapters {
        let mut own = Vec::new();
        for name in TOKENIZER {
            if reader.has(&adapter.folder().join(name))? {
                own.push(*name);
            }
        }
        if own.is_empty() {
            continue;
        }
        let subject = adapter.path.display().to_string();
        let message = if grown.is_some() || !base_has_one {
            for name in &own {
                files.insert(name.into(), Content::CopyOf(adapter.folder().join(name)));
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
    Ok(())
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
