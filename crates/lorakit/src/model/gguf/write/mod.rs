//! A Hugging Face model as a GGUF file, as llama.cpp's converter writes it.
//!
//! ```text
//!  config.json ─────────┬────────────────────► metadata ─┐
//!  tokenizer.json ...  ─┘                                ├─► one GGUF file
//!  *.safetensors ──► gguf_tensors: names, row order, ... ┘
//! ```
//!
//! [`gguf_tensors`] works on planned tensors, whether an adapter changes them or not, so that a merge can write
//! GGUF in the same pass.

mod card;
mod experts;
pub(in crate::model) mod files;
mod general;
mod metadata;
mod name;
mod rope;
mod tensors;
mod unheld;

use std::collections::HashSet;
use std::path::Path;

use lorakit_tensor::format::gguf::{Metadata, Value};
use lorakit_tensor::{DType, MAX_SIDE_BYTES, Reader};

pub(crate) use metadata::{MetadataSources, metadata};
pub use tensors::{gguf_tensors, with_dtype};
pub(crate) use unheld::unheld;

use super::Problem;
use super::read::Keys;
use crate::model::{ModelConfig, natural_dtype};
use crate::plan::OutputTensor;
use crate::{Error, Model, Result};
use files::Files;

/// The metadata of the GGUF file that holds `model`, and its tensors: `tensors`, which have Hugging Face names,
/// converted to GGUF's names and row order. `pre` names the pre-tokenizer if it cannot be detected.
///
/// A model that was read from a GGUF file keeps its metadata.
///
/// # Errors
/// The errors of [`gguf_tensors`] and [`metadata`]; `Shape` for embeddings that do not fit the vocabulary of a GGUF
/// file.
pub(crate) fn model(
    model: &Model,
    tensors: Vec<OutputTensor>,
    pre: Option<&str>,
) -> Result<(Metadata, Vec<OutputTensor>)> {
    if model.is_gguf() {
        back(model, tensors)
    } else {
        forth(model, tensors, natural_dtype(model.tensors()), pre)
    }
}

/// A model from a Hugging Face folder; its metadata say that its matrices are of type `dtype`.
pub(crate) fn forth(
    model: &Model,
    tensors: Vec<OutputTensor>,
    dtype: DType,
    pre: Option<&str>,
) -> Result<(Metadata, Vec<OutputTensor>)> {
    let place = |e: Error| e.at(&model.path);
    let config = config_of(model)?;
    let tensors = gguf_tensors(config, tensors).map_err(place)?;
    // Without this tensor, llama.cpp takes the embeddings in its place.
    if !config.tied() && !tensors.iter().any(|tensor| tensor.info.name == "output.weight") {
        return Err(place(Problem::NoHead.into()));
    }
    let content = |name: &str| read(&model.folder().join(name), model.reader());
    let names = |folder: &str| names_in(&model.folder().join(folder));
    let files = Files { content: &content, names: &names };
    let sources =
        MetadataSources { name: &folder_name(model.folder()), config, files, tensors: &tensors, dtype, pre };
    Ok((metadata(&sources).map_err(place)?, tensors))
}

/// A model that came from a GGUF file.
fn back(model: &Model, tensors: Vec<OutputTensor>) -> Result<(Metadata, Vec<OutputTensor>)> {
    let metadata = model.checkpoint().gguf().cloned().unwrap_or_default();
    let keys = Keys::new(&metadata).map_err(|e| e.at(&model.path))?;
    let mut written = gguf_tensors(config_of(model)?, tensors).map_err(|e| e.at(&model.path))?;
    let names: HashSet<String> = written.iter().map(|tensor| tensor.info.name.clone()).collect();
    // Tensors that Hugging Face files do not hold.
    for tensor in model.stored() {
        let name = &tensor.info().name;
        let dropped = keys.architecture.match_gguf(name).is_some_and(|f| f.hf_name().is_none());
        if dropped && !names.contains(name) {
            written.push(OutputTensor::copy(tensor));
        }
    }
    let rows = written.iter().find(|t| t.info.name == "token_embd.weight").map(|t| t.info.shape[0]);
    let tokens = metadata.get("tokenizer.ggml.tokens").and_then(Value::as_strings).map(<[String]>::len);
    if let (Some(rows), Some(tokens)) = (rows, tokens)
        && rows != tokens
    {
        return Err(Error::from(Problem::Vocabulary { tokens, rows }).at(&model.path));
    }
    Ok((metadata, written))
}

fn config_of(model: &Model) -> Result<&ModelConfig> {
    model.config.as_ref().ok_or_else(|| Error::from(Problem::NoConfig).at(&model.path))
}

/// The name of a folder; a path without a name, such as `.` or `a/..`, is made absolute first.
pub(crate) fn folder_name(folder: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    name(folder)
        .or_else(|| name(&std::path::absolute(folder).ok()?))
        .or_else(|| name(&folder.canonicalize().ok()?))
        .unwrap_or_default()
}

/// The content of a file, if it exists.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn read(path: &Path, reader: &Reader) -> Result<Option<Vec<u8>>> {
    Ok(if reader.has(path)? { Some(reader.bytes(path, MAX_SIDE_BYTES)?) } else { None })
}

/// The names of the files in a folder, in order; none if there is no such folder.
fn names_in(folder: &Path) -> Result<Vec<String>> {
    let failed = |e| Error::from(lorakit_tensor::Error::io("list", folder, e));
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_a_name_however_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("model/inner");
        std::fs::create_dir_all(&inner).unwrap();
        assert_eq!(folder_name(&inner), "inner");
        assert_eq!(folder_name(&inner.join("..")), "model");
        assert_eq!(folder_name(&inner.join("../inner/./")), "inner");
        let here = std::env::current_dir().unwrap();
        assert_eq!(Some(folder_name(Path::new(".")).as_ref()), here.file_name());
    }
}
