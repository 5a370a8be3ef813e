//! The files of an adapter while they are edited.

use std::collections::{BTreeMap, HashSet};

use lorakit_tensor::format::gguf;
use lorakit_tensor::json::MAX_JSON_BYTES;
use lorakit_tensor::{DType, TensorSource};
use serde::Serialize;
use serde_json::{Map, Value};

use super::options::Edits;
use super::text::Text;
use crate::adapter::{Adapter, Files, carried};
use crate::{Finding, Result, Severity, TensorRef};

/// The place of [`Work::config`].
pub(super) use crate::plan::ADAPTER_CONFIG as CONFIG;

/// The files of an adapter, and what has been edited in them.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) files: &'a Files,
    pub(super) read: &'a Adapter,
    pub(super) edits: &'a Edits,
    /// Every tensor, in the order of the file.
    pub(super) tensors: Vec<Item>,
    pub(super) header: Header,
    pub(super) config: Option<Text>,
    pub(super) changes: Vec<Change>,
    pub(super) notes: Vec<Finding>,
    /// What the format has no place for, and why, a line for each.
    pub(super) refused: Vec<String>,
    /// Whether the header has places for digests of the new tensors.
    pub(super) hashed: bool,
}

/// The header of the tensor file, apart from its tensors.
#[derive(Debug, Clone)]
pub(super) enum Header {
    Safetensors(BTreeMap<String, String>),
    Gguf(gguf::Metadata),
}

/// A tensor, and what becomes of it.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) tensor: TensorRef,
    pub(super) name: String,
    /// What its values are multiplied by.
    pub(super) times: f64,
    pub(super) dtype: DType,
    /// A value that takes the place of the stored one: an alpha.
    pub(super) value: Option<f64>,
}

/// Something that says something else afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What it is: `base_model`, `revision`, `license`, `tags`, `alpha`, `scale`, `dtype`.
    pub what: &'static str,
    /// What was there, if anything.
    pub before: Option<String>,
    /// What is there now; `None` if it was removed.
    pub after: Option<String>,
    /// The file and the key.
    pub place: String,
}

impl<'a> Work<'a> {
    /// # Errors
    /// If the configuration cannot be read again.
    pub(super) fn new(files: &'a Files, read: &'a Adapter, edits: &'a Edits) -> Result<Self> {
        let item = |(index, info): (usize, &lorakit_tensor::TensorInfo)| Item {
            tensor: files.tensor(index),
            name: info.name.clone(),
            times: 1.0,
            dtype: info.dtype,
            value: None,
        };
        let header = match files.source.gguf() {
            Some(metadata) => Header::Gguf(metadata.clone()),
            None => Header::Safetensors(files.metadata().clone()),
        };
        let path = files.config_path();
        let config = match files.config {
            Some(_) => {
                let bytes = files.reader.bytes(&path, MAX_JSON_BYTES)?;
                Some(Text::parse(&bytes).map_err(|e| e.at(&path))?)
            }
            None => None,
        };
        Ok(Work {
            files,
            read,
            edits,
            tensors: files.source.tensors().iter().enumerate().map(item).collect(),
            header,
            config,
            changes: Vec::new(),
            notes: Vec::new(),
            refused: Vec::new(),
            hashed: false,
        })
    }

    /// Remembers an edit for which the format has no place.
    pub(super) fn refuse(&mut self, what: &str, why: &str) {
        self.refused.push(format!("{what}: {why}"));
    }

    pub(super) fn note(&mut self, code: &'static str, message: String) {
        self.notes.push(Finding::new(Severity::Note, code, "", message));
    }

    /// Remembers that `place` says something else.
    pub(super) fn changed(
        &mut self,
        what: &'static str,
        place: impl Into<String>,
        (before, after): (Option<String>, Option<String>),
    ) {
        self.changes.push(Change { what, before, after, place: place.into() });
    }

    /// Sets a key of `adapter_config.json`.
    ///
    /// # Errors
    /// As [`Text::set`].
    pub(super) fn set_config(&mut self, what: &'static str, key: &str, value: &Value) -> Result<()> {
        let path = self.files.config_path();
        let Some(config) = &mut self.config else { return Ok(()) };
        let before = shown(config.get(key));
        if config.set(key, value).map_err(|e| e.at(&path))? {
            self.changed(what, format!("{CONFIG}: {key}"), (before, shown(value)));
        }
        Ok(())
    }

    /// Sets a string of the header.
    pub(super) fn set_header(&mut self, what: &'static str, key: &str, text: &str) {
        let before = match &mut self.header {
            Header::Safetensors(metadata) => metadata.insert(key.to_string(), text.to_string()),
            Header::Gguf(metadata) => {
                let before = metadata.get(key).map(ToString::to_string);
                metadata.set(key, gguf::Value::String(text.to_string()));
                before
            }
        };
        if before.as_deref() != Some(text) {
            self.changed(what, key, (before, Some(text.to_string())));
        }
    }

    /// A string of the header.
    pub(super) fn header(&self, key: &str) -> Option<&str> {
        match &self.header {
            Header::Safetensors(metadata) => metadata.get(key).map(String::as_str),
            Header::Gguf(metadata) => metadata.get(key)?.as_str(),
        }
    }

    /// Names the base in a configuration that travels in the header, where conversions leave one.
    pub(super) fn rename_carried_base(&mut self, name: &str) {
        let travelling = self.header(carried::CONFIG_KEY).map(serde_json::from_str::<Map<String, Value>>);
        if let Some(Ok(mut config)) = travelling {
            config.insert("base_model_name_or_path".into(), name.into());
            let text = Value::from(config).to_string();
            match &mut self.header {
                Header::Safetensors(metadata) => drop(metadata.insert(carried::CONFIG_KEY.into(), text)),
                Header::Gguf(metadata) => metadata.set(carried::CONFIG_KEY, gguf::Value::String(text)),
            }
        }
    }

    /// Gives factors another dtype; tensors that are saved whole, and single numbers, keep theirs.
    pub(super) fn cast(&mut self, dtype: DType) {
        let whole = self.read.modules.iter().filter_map(|module| module.base_weight.as_ref());
        let saved = self.read.saved.iter().map(|saved| &saved.tensor);
        let rows = self.read.token_rows.iter().map(|rows| &rows.tensor);
        let deltas = self.read.deltas.iter().map(|delta| &delta.tensor);
        let all = whole.chain(saved).chain(rows).chain(deltas);
        let kept: HashSet<&str> = all.map(|t| t.info().name.as_str()).collect();
        let mut before: BTreeMap<DType, usize> = BTreeMap::new();
        let mut cast = 0;
        for item in &mut self.tensors {
            let info = item.tensor.info();
            let factor = !info.shape.is_empty() && is_float(info.dtype) && !kept.contains(info.name.as_str());
            if factor && info.elements() > 1 && info.dtype != dtype {
                *before.entry(info.dtype).or_default() += 1;
                item.dtype = dtype;
                cast += 1;
            }
        }
        if cast == 0 {
            return self.note("dtype", format!("every factor is {dtype} already"));
        }
        let before: Vec<String> = before.keys().map(ToString::to_string).collect();
        let place = super::problem::tensors(cast);
        self.changed("dtype", place, (Some(before.join(", ")), Some(dtype.to_string())));
    }
}

/// Whether values of the dtype are numbers that a factor may hold.
fn is_float(dtype: DType) -> bool {
    use DType::*;
    !matches!(dtype, I64 | U64 | I32 | U32 | I16 | U16 | I8 | U8 | BOOL | C64)
}

/// A value in words: text as it is, null as nothing.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
