//! Converting models between formats: GGUF to a Hugging Face folder, and back.

pub mod adapter;
mod config;
mod files;
mod keys;
mod rope;
mod tensors;
pub mod to_gguf;
mod tokenizer;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use lorakit_tensor::{Checkpoint, DType, Format, ReadMode, Reader, TensorInfo, TensorSource};

pub(crate) use to_gguf::is_sentence_piece;
pub use to_gguf::{ToGgufOptions, hf_to_gguf};

use crate::plan::{Container, Content, OutputTensor, Plan, Progress, SideFile, Target, go_on};
use crate::{Error, ErrorKind, Model, Result, TensorRef};

/// What to convert, and how.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// The GGUF file, or the first part of a split one.
    pub source: PathBuf,
    /// The output folder.
    pub output: PathBuf,
    /// Replace an output that exists.
    pub replace: bool,
    /// Dtype of the output; [`natural_dtype`] by default.
    pub dtype: Option<DType>,
    /// Largest shard, in bytes.
    pub max_shard: u64,
    /// Search the tensors that are only copied for NaN and infinity too.
    pub check_finite: bool,
    /// How inputs are read.
    pub mode: ReadMode,
}

/// A conversion that is planned.
#[derive(Debug)]
pub struct Convert {
    /// The plan.
    pub plan: Plan,
    /// Dtype of the output's tensors.
    pub dtype: DType,
    /// Dtypes of the source, with the number of tensors of each.
    pub from: BTreeMap<DType, usize>,
}

/// Plans the conversion of a GGUF model to a Hugging Face folder: names translated, rows of q and k put back in
/// order, every block type decoded, configuration and tokenizer rebuilt from the metadata.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if the source is no GGUF model of a known family; whatever reading it turns up;
/// [`ErrorKind::Interrupted`] if `progress` asks to stop.
pub fn gguf_to_hf(options: &ConvertOptions, progress: &dyn Progress) -> Result<Convert> {
    let model = Model::open_as_hf(&options.source, &Reader::new(options.mode), options.dtype)?;
    if model.checkpoint().format() != Format::Gguf {
        let found = model.checkpoint().format().name();
        let message = format!("is a {found} checkpoint already, and `--to hf` converts GGUF models");
        return Err(Error::new(ErrorKind::Usage, message).at(&options.source));
    }
    if let Some(other @ ("safetensors" | "gguf" | "bin")) =
        options.output.extension().and_then(|e| e.to_str())
    {
        let message = format!("names a `.{other}` file, and a Hugging Face model is a folder");
        return Err(Error::new(ErrorKind::Usage, message).at(&options.output));
    }
    let dtype = options.dtype.unwrap_or_else(|| natural_dtype(model.tensors()));
    go_on(progress, "anything was written")?;
    let from = count_dtypes(model.tensors());
    let tensors = model.refs().map(|tensor| OutputTensor::cast(tensor, dtype)).collect();
    for info in model.tensors() {
        if lorakit_quant::codec(info.dtype).is_none() {
            let message = format!("is stored as {}, for which there is no decoder yet", info.dtype);
            return Err(Error::new(ErrorKind::Unsupported, message).tensor(&info.name).at(&options.source));
        }
    }
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    let container = Container::Safetensors { stem: "model", metadata, max_shard: options.max_shard };
    let side_files = model.rebuilt_files().to_vec();
    let target = Target::Folder(options.output.clone());
    let plan = Plan::new(target, options.replace, model.reader(), container, tensors, side_files)?;
    let plan = plan.checking_copies(options.check_finite)?;
    Ok(Convert { plan, dtype, from })
}

/// How many tensors have each dtype.
fn count_dtypes(tensors: &[TensorInfo]) -> BTreeMap<DType, usize> {
    let mut counts = BTreeMap::new();
    for info in tensors {
        *counts.entry(info.dtype).or_default() += 1;
    }
    counts
}

/// The dtype a decoded model is written in: the one most matrices have if it is F32, F16 or BF16, else BF16.
pub fn natural_dtype(tensors: &[TensorInfo]) -> DType {
    let mut values: BTreeMap<DType, u64> = BTreeMap::new();
    for info in tensors.iter().filter(|t| t.shape.len() > 1) {
        *values.entry(info.dtype).or_default() += info.elements();
    }
    let most = values.into_iter().max_by_key(|(_, n)| *n).map(|(dtype, _)| dtype);
    most.filter(|d| matches!(d, DType::F32 | DType::F16 | DType::BF16)).unwrap_or(DType::BF16)
}

/// A GGUF checkpoint as a Hugging Face one, with the files that are rebuilt from its metadata.
pub(crate) fn view(
    gguf: &Arc<Checkpoint>,
    dtype: Option<DType>,
) -> Result<(Arc<dyn TensorSource>, Vec<SideFile>)> {
    let place = |e: lorakit_tensor::Error| e.at(gguf.path());
    let no_metadata = || Error::new(ErrorKind::Unsupported, "has no GGUF metadata").at(gguf.path());
    let metadata = gguf.gguf().ok_or_else(no_metadata)?;
    let adapter = metadata.get("general.type").and_then(|v| v.as_str()) == Some("adapter");
    if adapter {
        let message = "is a GGUF adapter, and a full model is needed";
        return Err(Error::new(ErrorKind::WrongRole, message).at(gguf.path()));
    }
    let keys = keys::Keys::new(metadata).map_err(place)?;
    let mapped = tensors::hf_tensors(keys.architecture, metadata, gguf.tensors()).map_err(place)?;
    let view = Arc::new(view::HfView::new(Arc::clone(gguf), mapped));
    let dtype = dtype.unwrap_or_else(|| natural_dtype(view.tensors()));
    if let Some(index) = gguf.find(files::ROPE_FACTORS) {
        TensorRef::new(gguf.clone(), index).check_finite()?;
    }
    let files = files::hf_files(metadata, gguf.as_ref(), dtype).map_err(place)?;
    let side_file =
        |(name, bytes): (String, _)| SideFile { name: name.into(), content: Content::Bytes(bytes) };
    Ok((view, files.into_iter().map(side_file).collect()))
}
