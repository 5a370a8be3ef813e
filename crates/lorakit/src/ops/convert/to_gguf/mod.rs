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
mod files;
mod general;
mod metadata;
mod name;
mod packed;
mod rope;
mod tensors;
mod tokenizer;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use lorakit_tensor::format::gguf::{Metadata, Value};
use lorakit_tensor::{DType, MAX_SIDE_BYTES, ReadMode, Reader};

pub use files::Lookup;
pub use metadata::{MetadataSources, file_type, metadata};
pub use tensors::{gguf_tensors, is_f32, with_dtype};

pub(crate) use tokenizer::is_sentence_piece;

use super::keys::Keys;
use super::{Convert, count_dtypes, natural_dtype};
use crate::model::ModelConfig;
use crate::plan::{Container, OutputTensor, Plan, Progress, Target, go_on};
use crate::{Error, ErrorKind, Model, Result};

/// What to convert, and how.
#[derive(Debug, Clone)]
pub struct ToGgufOptions {
    /// The model's folder.
    pub source: PathBuf,
    /// The output file.
    pub output: PathBuf,
    /// Replace an output that exists.
    pub replace: bool,
    /// Dtype of the matrices; that of the source's if it is a float of 16 or 32 bits by default.
    pub dtype: Option<DType>,
    /// `tokenizer.ggml.pre`, where it is not to be found out.
    pub pre: Option<String>,
    /// Search the tensors that are only copied for NaN and infinity too.
    pub check_finite: bool,
    /// How inputs are read.
    pub mode: ReadMode,
}

/// Plans the conversion of a Hugging Face folder to a GGUF file.
///
/// # Errors
/// What [`gguf_tensors`] and [`metadata`] refuse; [`ErrorKind::Usage`] if the source is no folder of a model that
/// is not quantised; [`ErrorKind::Interrupted`] if `progress` asks to stop.
pub fn hf_to_gguf(options: &ToGgufOptions, progress: &dyn Progress) -> Result<Convert> {
    crate::ops::quantize::require_name(&options.output, true)?;
    let model = Model::open(&options.source, &Reader::new(options.mode))?;
    if model.is_gguf() {
        let message = "is a GGUF model already; `lorakit quantize` changes its types";
        return Err(Error::new(ErrorKind::Usage, message).at(&options.source));
    }
    let model = model.into_hf(None)?;
    let dtype = options.dtype.unwrap_or_else(|| model.natural_dtype());
    go_on(progress, "anything was written")?;
    let from = count_dtypes(model.tensors());
    let copies = model.refs().map(OutputTensor::copy).collect();
    let (metadata, tensors) = forth(&model, copies, dtype, options.pre.as_deref())?;
    go_on(progress, "anything was written")?;
    let container = Container::Gguf(metadata);
    let target = Target::File(options.output.clone());
    let tensors = with_dtype(tensors, dtype);
    let plan = Plan::new(target, options.replace, model.reader(), container, tensors, Vec::new())?;
    let plan = plan.checking_copies(options.check_finite)?;
    Ok(Convert { plan, dtype, from })
}

/// The metadata of the GGUF file that holds `model`, and its tensors: `tensors`, which are named as in Hugging Face
/// files, in the names and row order of GGUF. `pre` names the pre-tokenizer where it cannot be found out.
///
/// A model that was read from a GGUF file keeps its metadata.
///
/// # Errors
/// What [`gguf_tensors`] and [`metadata`] refuse; [`ErrorKind::Shape`] for embeddings that the vocabulary of a GGUF
/// file does not fit.
pub(crate) fn model(
    model: &Model,
    tensors: Vec<OutputTensor>,
    pre: Option<&str>,
) -> Result<(Metadata, Vec<OutputTensor>)> {
    match model.is_gguf() {
        true => back(model, tensors),
        false => forth(model, tensors, natural_dtype(model.tensors()), pre),
    }
}

/// A model from a Hugging Face folder, whose metadata say that its matrices are `dtype`.
fn forth(
    model: &Model,
    tensors: Vec<OutputTensor>,
    dtype: DType,
    pre: Option<&str>,
) -> Result<(Metadata, Vec<OutputTensor>)> {
    let place = |e: Error| e.at(&model.path);
    let config = config_of(model)?;
    let tensors = gguf_tensors(config, tensors).map_err(place)?;
    let files = |name: &str| read(&model.folder().join(name), model.reader());
    let sources = MetadataSources {
        name: &folder_name(model.folder()),
        config,
        files: &files,
        tensors: &tensors,
        dtype,
        pre,
    };
    Ok((metadata(&sources).map_err(place)?, tensors))
}

/// A model that came from a GGUF file.
fn back(model: &Model, tensors: Vec<OutputTensor>) -> Result<(Metadata, Vec<OutputTensor>)> {
    let metadata = model.checkpoint().gguf().cloned().unwrap_or_default();
    let keys = Keys::new(&metadata).map_err(|e| e.at(&model.path))?;
    let mut written = gguf_tensors(config_of(model)?, tensors).map_err(|e| e.at(&model.path))?;
    let names: HashSet<String> = written.iter().map(|tensor| tensor.info.name.clone()).collect();
    // What Hugging Face files do not hold.
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
        let message = format!(
            "has a vocabulary of {tokens} tokens, and the merged embedding has {rows} rows: write a folder, and \
             convert that"
        );
        return Err(Error::new(ErrorKind::Shape, message).at(&model.path));
    }
    Ok((metadata, written))
}

fn config_of(model: &Model) -> Result<&ModelConfig> {
    let message =
        "has no `config.json`, which says what kind of model it is; a Hugging Face folder is needed";
    let error = || Error::new(ErrorKind::Unsupported, message).at(&model.path);
    model.config.as_ref().ok_or_else(error)
}

/// What a folder is called, `.` and links resolved where they have no name of their own.
pub fn folder_name(folder: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    name(folder).or_else(|| name(&std::path::absolute(folder).ok()?)).unwrap_or_default()
}

/// The content of a file, if it is there.
///
/// # Errors
/// If it cannot be read.
pub fn read(path: &Path, reader: &Reader) -> Result<Option<Vec<u8>>> {
    Ok(if reader.has(path)? { Some(reader.bytes(path, MAX_SIDE_BYTES)?) } else { None })
}
