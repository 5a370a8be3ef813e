//! A vocabulary in the form of GGUF files, and its sources.

use serde_json::Value;

use crate::model::gguf::write::files::Files;
use crate::model::tokenizer::Problem;
use crate::{Error, Result};

/// The kind of a token, with its number in GGUF files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// A vocabulary in the form of GGUF files.
#[derive(Debug)]
pub(super) struct Vocab {
    /// `tokenizer.ggml.model`.
    pub(super) model: &'static str,
    /// `tokenizer.ggml.pre`.
    pub(super) pre: String,
    pub(super) tokens: Vec<(String, Kind)>,
    /// One score per token, in SentencePiece vocabularies.
    pub(super) scores: Option<Vec<f32>>,
    /// Pairs of tokens that become one, in byte-level BPE.
    pub(super) merges: Option<Vec<String>>,
}

/// The sources of a vocabulary.
pub(super) struct Sources<'a> {
    pub(super) files: Files<'a>,
    /// `tokenizer.json`.
    pub(super) tokenizer: Option<(Vec<u8>, Value)>,
    /// `tokenizer_config.json`.
    pub(super) config: Option<Value>,
    /// The total number of tokens that the configuration gives, fillers included.
    pub(super) size: Option<usize>,
    /// The number of rows in the embeddings, the limit of every vocabulary, whatever numbers a file holds.
    pub(super) rows: usize,
    pub(super) pre: Option<&'a str>,
}

impl Sources<'_> {
    /// The total number of tokens, of which `known` are known.
    ///
    /// # Errors
    /// `File` if there are more tokens than rows for them.
    pub(super) fn size(&self, known: usize) -> Result<usize> {
        match self.size {
            Some(size) if known > size => Err(Problem::Size { tokens: known, size }.into()),
            size => self.fitting(size.unwrap_or(known)),
        }
    }

    /// Returns `size`, if the embeddings have a row for each of that many tokens.
    ///
    /// # Errors
    /// `File` if not.
    pub(super) fn fitting(&self, size: usize) -> Result<usize> {
        if size <= self.rows { Ok(size) } else { Err(other_rows(self.rows, size)) }
    }
}

/// The error for a vocabulary that does not match the embeddings.
pub(in crate::model) fn other_rows(rows: usize, tokens: usize) -> Error {
    Error::from(Problem::Rows { rows, tokens }).tensor("token_embd.weight")
}

/// The filler for a row of the embeddings that has no token.
pub(super) fn filler(id: usize) -> (String, Kind) {
    (format!("[PAD{id}]"), Kind::Unused)
}

/// Whether a token stands for a byte: `<0x0A>`.
pub(super) fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whether an added token is a control token although it is not marked as one, as in some models.
pub(super) fn looks_special(token: &str) -> bool {
    let framed = |start: &str, end: &str| token.starts_with(start) && token.ends_with(end);
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&token)
        || framed("<|", "|>")
        || framed("<\u{ff5c}", "\u{ff5c}>")
        || framed("<unused", ">")
}

/// A user-defined token, spelled as in text.
pub(super) fn user_defined(token: &str) -> (String, Kind) {
    (token.replace('\u{2581}', " "), Kind::UserDefined)
}
