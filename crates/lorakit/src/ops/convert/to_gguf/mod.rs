//! Hugging Face models as GGUF files: what llama.cpp's `convert_hf_to_gguf.py` does.

mod bpe;
mod card;
mod chat;
mod hyperparameters;
mod metadata;
mod name;
mod pre;
mod rope;
mod sentencepiece;
mod side;
mod special;
mod tokenizer;

use crate::adapter::Finding;
use crate::plan::OutputTensor;
use crate::{Model, Result};
use lorakit_tensor::format::gguf::Metadata;
pub(crate) fn model(
    _m: &Model,
    t: Vec<OutputTensor>,
    _pre: Option<&str>,
    _n: &mut Vec<Finding>,
) -> Result<(Metadata, Vec<OutputTensor>)> {
    Ok((Metadata::default(), t))
}
