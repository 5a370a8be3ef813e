//! Tokenizers: from GGUF metadata to the files of a Hugging Face folder, and back.

pub(in crate::model) mod from_gguf;
mod problem;
pub(in crate::model) mod to_gguf;

pub(crate) use problem::Problem;
pub(crate) use to_gguf::is_sentence_piece;
