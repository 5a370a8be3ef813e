//! What a quantised model is written as.

use std::path::PathBuf;

use super::mix::Mix;
use crate::plan::Packer;

/// What a quantised model is written as.
#[derive(Debug, Clone)]
pub enum Quantization {
    /// A GGUF file.
    Gguf {
        /// How its types are chosen.
        mix: Mix,
        /// Importances of columns: a file that llama.cpp's `llama-imatrix` wrote.
        imatrix: Option<PathBuf>,
    },
    /// A Hugging Face folder.
    Packed {
        /// The scheme.
        packing: Packer,
        /// Whether the tensors that adapters change stay in 16 bits.
        promote: bool,
    },
}
