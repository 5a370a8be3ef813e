//! The GGUF form of a model: its metadata, its tensors, a type for each.

use lorakit_tensor::format::gguf::Metadata;

use super::imatrix::Imatrix;
use super::metadata;
use super::mix::{self, Mix};
use crate::model::gguf::write;
use crate::plan::{Chosen, OutputTensor};
use crate::{Finding, Model, Result};

/// Metadata, tensors in the order of the file, and what became of each.
pub(crate) type GgufModel = (Metadata, Vec<OutputTensor>, Vec<Chosen>);

/// The tensors of a GGUF model, as they are named there.
pub(super) fn of_gguf(
    model: &Model,
    tensors: Vec<OutputTensor>,
    mix: &Mix,
    imatrix: Option<&Imatrix>,
    notes: &mut Vec<Finding>,
) -> Result<GgufModel> {
    let source = model.checkpoint().gguf().cloned().unwrap_or_default();
    with_types(source, tensors, mix, imatrix, notes)
}

/// `tensors`, named as in Hugging Face files: those of such a folder, or of a GGUF file that was opened as one.
pub(crate) fn of_hugging_face(
    model: &Model,
    tensors: Vec<OutputTensor>,
    mix: &Mix,
    imatrix: Option<&Imatrix>,
    pre: Option<&str>,
    notes: &mut Vec<Finding>,
) -> Result<GgufModel> {
    let (metadata, tensors) = write::model(model, tensors, pre)?;
    if let (false, Some(config)) = (model.is_gguf(), &model.config) {
        notes.extend(write::unheld(config)?);
    }
    with_types(metadata, tensors, mix, imatrix, notes)
}

fn with_types(
    metadata: Metadata,
    tensors: Vec<OutputTensor>,
    mix: &Mix,
    imatrix: Option<&Imatrix>,
    notes: &mut Vec<Finding>,
) -> Result<GgufModel> {
    let (mut tensors, chosen) = mix::apply(mix, &metadata, imatrix, tensors, notes)?;
    if mix.file_type.is_some() {
        tensors.iter_mut().for_each(|tensor| drop_ones(&mut tensor.info.shape));
    }
    let metadata = match mix.file_type {
        Some(file_type) => metadata::metadata(&metadata, file_type, imatrix),
        None => metadata,
    };
    Ok((metadata, tensors, chosen))
}

/// ggml does not count outer dimensions of 1, so the tool does not write them.
fn drop_ones(shape: &mut Vec<usize>) {
    let ones = shape.iter().take_while(|&&size| size == 1).count();
    shape.drain(..ones.min(shape.len().saturating_sub(1)));
}
