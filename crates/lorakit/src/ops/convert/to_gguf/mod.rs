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
mod params;
mod rope;
mod tensors;
mod tokenizer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lorakit_tensor::{DType, Format, ReadMode};

pub use files::Lookup;
pub use metadata::{MetadataSources, file_type, metadata};
pub use tensors::{gguf_tensors, is_f32, with_dtype};

use super::{Convert, natural_dtype};
use crate::plan::{Container, OutputTensor, Plan, Target};
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
    /// How inputs are read.
    pub mode: ReadMode,
}

/// Plans the conversion of a Hugging Face folder to a GGUF file.
///
/// # Errors
/// What [`gguf_tensors`] and [`metadata`] refuse; [`ErrorKind::Usage`] if the source is no folder of a model that
/// is not quantised.
pub fn hf_to_gguf(options: &ToGgufOptions) -> Result<Convert> {
    let model = Model::open(&options.source, options.mode)?;
    if model.checkpoint().format() == Format::Gguf {
        let message = "is a GGUF model already, and `--to gguf` converts Hugging Face models";
        return Err(Error::new(ErrorKind::Usage, message).at(&options.source));
    }
    let place = |e: Error| e.at(&options.source);
    let Some(config) = &model.config else {
        let message =
            "has no `config.json`, which says what kind of model it is; a Hugging Face folder is needed";
        return Err(place(Error::new(ErrorKind::Unsupported, message)));
    };
    if let Some(method) = config.quantization() {
        let message = format!("is quantised ({method}), and only models of 16 or 32 bits can be converted");
        return Err(place(Error::new(ErrorKind::Unsupported, message)));
    }
    let dtype = options.dtype.unwrap_or_else(|| natural_dtype(model.tensors()));
    if lorakit_quant::encoder(dtype).is_none() {
        let message = format!("cannot be written as {dtype}: there is no encoder for it");
        return Err(place(Error::new(ErrorKind::Unsupported, message)));
    }
    let mut from = BTreeMap::new();
    for info in model.tensors() {
        *from.entry(info.dtype).or_default() += 1;
    }
    let copies = (0..model.tensors().len()).map(|i| OutputTensor::copy(model.tensor(i))).collect();
    let tensors = with_dtype(gguf_tensors(config, copies).map_err(place)?, dtype);
    let files = |name: &str| read(&model.folder().join(name));
    let sources = MetadataSources {
        name: &folder_name(model.folder()),
        config,
        files: &files,
        tensors: &tensors,
        dtype,
        pre: options.pre.as_deref(),
    };
    let container = Container::Gguf(metadata(&sources).map_err(place)?);
    let target = Target::File(options.output.clone());
    let plan = Plan::new(target, options.replace, &model.inputs(), &container, tensors, Vec::new())?;
    Ok(Convert { plan, dtype, from })
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
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(lorakit_tensor::Error::io("read", path, e).into()),
    }
}
