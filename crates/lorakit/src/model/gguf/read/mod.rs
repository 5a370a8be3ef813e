//! A GGUF model seen as the Hugging Face checkpoint it was made from.

mod base;
mod config;
mod files;
pub(in crate::model) mod keys;
mod rope;
pub(in crate::model) mod tensors;
mod view;

use std::sync::Arc;

use lorakit_tensor::{Checkpoint, DType, TensorSource};

pub(in crate::model) use base::read as base_of;
pub(in crate::model) use keys::Keys;

use crate::model::natural_dtype;
use crate::plan::{Content, SideFile};
use crate::{Error, ErrorKind, Result, TensorRef};

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
