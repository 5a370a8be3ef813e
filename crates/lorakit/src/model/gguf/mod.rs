//! GGUF models: read as Hugging Face checkpoints, and written as llama.cpp's converter writes them.

mod problem;
pub(in crate::model) mod read;
pub(crate) mod write;

pub(crate) use problem::Problem;

/// The version that ggml gives its quantised types.
pub(crate) const QUANTIZATION_VERSION: u32 = 2;
