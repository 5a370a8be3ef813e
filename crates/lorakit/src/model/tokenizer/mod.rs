//! Tokenizers: from GGUF metadata to the files of a Hugging Face folder, and back.

mod check;
pub(in crate::model) mod from_gguf;
mod merge;
mod problem;
pub(in crate::model) mod to_gguf;

pub use check::check;
pub(crate) use problem::Problem;
pub(crate) use to_gguf::is_sentence_piece;
