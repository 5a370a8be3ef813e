//! A GGUF model seen as the Hugging Face checkpoint from which it was made.

mod base;
mod config;
mod files;
pub(in crate::model) mod keys;
mod known;
mod rope;
pub(in crate::model) mod tensors;
mod view;

use std::sync::Arc;

use lorakit_tensor::{Checkpoint, DType, TensorSource};

use base::metadata;
pub(in crate::model) use base::read as base_of;
pub(in crate::model) use keys::Keys;

use super::Problem;
use crate::model::{ModelConfig, natural_dtype};
use crate::plan::{Content, SideFile};
use crate::{Error, Result, TensorRef};

/// A GGUF checkpoint in the form of a Hugging Face one.
pub(in crate::model) struct View {
    /// Its tensors, under the names and in the shapes of Hugging Face.
    pub(in crate::model) source: Arc<dyn TensorSource>,
    /// Its metadata in the form of a `config.json`.
    pub(in crate::model) config: ModelConfig,
    /// The dtype that `config.json` names.
    pub(in crate::model) dtype: DType,
}

/// Views `gguf` as a Hugging Face checkpoint; if it is only `computed` with, also one of a family that has no such
/// checkpoints, whose norms keep what GGUF files add to them. The tokenizer is not read.
pub(in crate::model) fn view(gguf: &Arc<Checkpoint>, dtype: Option<DType>, computed: bool) -> Result<View> {
    let place = |e: Error| e.at(gguf.path());
    let metadata = metadata(gguf)?;
    let adapter = metadata.get("general.type").and_then(|v| v.as_str()) == Some("adapter");
    if adapter {
        return Err(place(Problem::Adapter.into()));
    }
    let keys = if computed { Keys::new(metadata) } else { Keys::reversible(metadata) }.map_err(place)?;
    let mapped = tensors::hf_tensors(keys.architecture, metadata, gguf.tensors()).map_err(place)?;
    let source = Arc::new(view::HfView::new(Arc::clone(gguf), mapped));
    let dtype = dtype.unwrap_or_else(|| natural_dtype(source.tensors()));
    if let Some(index) = gguf.find(rope::ROPE_FACTORS) {
        TensorRef::new(gguf.clone(), index).check_finite()?;
    }
    let json = files::config_without_tokens(keys, gguf.as_ref(), dtype).map_err(place)?;
    Ok(View { source, config: ModelConfig { json }, dtype })
}

/// The files of a Hugging Face folder that are rebuilt from the metadata of `gguf`.
pub(in crate::model) fn files(gguf: &Checkpoint, dtype: DType) -> Result<Vec<SideFile>> {
    let files = files::hf_files(metadata(gguf)?, gguf, dtype).map_err(|e| e.at(gguf.path()))?;
    let side_file =
        |(name, bytes): (String, _)| SideFile { name: name.into(), content: Content::bytes(bytes) };
    Ok(files.into_iter().map(side_file).collect())
}
