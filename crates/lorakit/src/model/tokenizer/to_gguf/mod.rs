//! `tokenizer.*`: the vocabulary, its special tokens and the chat template, from the files of Hugging Face.

mod bpe;
mod llama_hf;
mod pre;
mod sentence_piece;
mod special;

use lorakit_tensor::format::gguf::{Array, Metadata, Value as GgufValue};
use serde_json::Value;

use crate::model::gguf::write::files::Files;
pub(crate) use sentence_piece::is_sentence_piece;

use crate::arch::TokenizerKind;
use crate::model::Params;
use crate::model::tokenizer::Problem;
use crate::{Error, Result};

/// What a token is for, with its number in GGUF files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// A vocabulary as GGUF files hold it.
#[derive(Debug)]
struct Vocab {
    /// `tokenizer.ggml.model`.
    model: &'static str,
    /// `tokenizer.ggml.pre`.
    pre: String,
    tokens: Vec<(String, Kind)>,
    /// One for each token, in SentencePiece vocabularies.
    scores: Option<Vec<f32>>,
    /// Pairs of tokens that become one, in byte-level BPE.
    merges: Option<Vec<String>>,
}

/// What vocabularies are read from.
struct Sources<'a> {
    files: Files<'a>,
    /// `tokenizer.json`.
    tokenizer: Option<(Vec<u8>, Value)>,
    /// `tokenizer_config.json`.
    config: Option<Value>,
    /// Tokens in all, fillers included: the rows of the embeddings.
    size: Option<usize>,
    /// Rows of the embeddings, which no vocabulary outgrows, whatever numbers a file holds.
    rows: usize,
    pre: Option<&'a str>,
}

impl Sources<'_> {
    /// The number of tokens in all, of which `known` are known.
    ///
    /// # Errors
    /// `File` if there are more than rows for them.
    fn size(&self, known: usize) -> Result<usize> {
        match self.size {
            Some(size) if known > size => Err(Problem::Size { tokens: known, size }.into()),
            size => self.fitting(size.unwrap_or(known)),
        }
    }

    /// `size`, if the embeddings have a row for each of so many tokens.
    ///
    /// # Errors
    /// `File` if not.
    fn fitting(&self, size: usize) -> Result<usize> {
        if size <= self.rows { Ok(size) } else { Err(other_rows(self.rows, size)) }
    }
}

/// The error for a vocabulary that is not that of the embeddings.
pub(in crate::model) fn other_rows(rows: usize, tokens: usize) -> Error {
    Error::from(Problem::Rows { rows, tokens }).tensor("token_embd.weight")
}

/// Sets every key of the tokenizer of a model whose embeddings have so many rows.
///
/// # Errors
/// `Unsupported` if there is no tokenizer of a kind that the family knows, or its way to cut text is
/// unknown; `File` if a file makes no sense.
pub(in crate::model) fn set(
    metadata: &mut Metadata,
    params: &Params<'_>,
    files: Files<'_>,
    rows: usize,
    pre: Option<&str>,
) -> Result<()> {
    let bytes = files.bytes("tokenizer.json")?;
    let sources = Sources {
        files,
        tokenizer: bytes.zip(files.json("tokenizer.json")?),
        config: files.json("tokenizer_config.json")?,
        size: params.integer("vocab_size")?.map(|size| size as usize),
        rows,
        pre,
    };
    let config = sources.config.as_ref();
    let prefix = config.and_then(|config| config["add_prefix_space"].as_bool());
    let looked_for = params.architecture.tokenizers();
    if params.architecture.gguf() == "llama"
        && let Some(prefix) = prefix
    {
        metadata.set("tokenizer.ggml.add_space_prefix", GgufValue::Bool(prefix));
    }
    let vocab = vocab(looked_for, &sources)?;
    let special = special::Special::read(&sources, &vocab)?;
    set_vocab(metadata, vocab);
    special.set(metadata);
    if let Some(prefix) = params.architecture.space_prefix()
        && metadata.get("tokenizer.ggml.scores").is_some()
    {
        metadata.set("tokenizer.ggml.add_space_prefix", GgufValue::Bool(prefix));
    }
    // llama.cpp's converter knows the small Granite models, whose tokenizer says nothing, by this number.
    if params.architecture.gguf() == "llama" && sources.size == Some(49_152) {
        metadata.set("tokenizer.ggml.add_bos_token", GgufValue::Bool(false));
    }
    Ok(())
}

/// The vocabulary of the first kind that is there.
fn vocab(kinds: &[TokenizerKind], sources: &Sources<'_>) -> Result<Vocab> {
    for kind in kinds {
        let found = match kind {
            TokenizerKind::SentencePiece => sentence_piece::vocab(sources)?,
            TokenizerKind::PhiSentencePiece => sentence_piece::phi_vocab(sources)?,
            TokenizerKind::LlamaHf => llama_hf::vocab(sources)?,
            TokenizerKind::Bpe => bpe::vocab(sources)?,
        };
        if let Some(vocab) = found {
            return Ok(vocab);
        }
    }
    let needed = |kind: &TokenizerKind| match kind {
        TokenizerKind::SentencePiece | TokenizerKind::PhiSentencePiece => "`tokenizer.model` (SentencePiece)",
        TokenizerKind::LlamaHf => "`tokenizer.json` with BPE that falls back to bytes",
        TokenizerKind::Bpe => "`tokenizer.json` with byte-level BPE",
    };
    Err(Problem::NoTokenizer { needed: kinds.iter().map(needed).collect() }.into())
}

fn set_vocab(metadata: &mut Metadata, vocab: Vocab) {
    let kinds = vocab.tokens.iter().map(|(_, kind)| *kind as i32).collect();
    let tokens = vocab.tokens.into_iter().map(|(token, _)| token).collect();
    let mut set = |name: &str, value| metadata.set(&format!("tokenizer.ggml.{name}"), value);
    set("model", GgufValue::String(vocab.model.into()));
    set("pre", GgufValue::String(vocab.pre));
    set("tokens", GgufValue::Array(Array::String(tokens)));
    if let Some(scores) = vocab.scores {
        set("scores", GgufValue::Array(Array::F32(scores)));
    }
    set("token_type", GgufValue::Array(Array::I32(kinds)));
    if let Some(merges) = vocab.merges.filter(|merges| !merges.is_empty()) {
        set("merges", GgufValue::Array(Array::String(merges)));
    }
}

/// What fills a row of the embeddings that no token has.
fn filler(id: usize) -> (String, Kind) {
    (format!("[PAD{id}]"), Kind::Unused)
}

/// Whether a token stands for a byte: `<0x0A>`.
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whether an added token is for control although it is not marked so, as some models have them.
fn looks_special(token: &str) -> bool {
    let framed = |start: &str, end: &str| token.starts_with(start) && token.ends_with(end);
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&token)
        || framed("<|", "|>")
        || framed("<\u{ff5c}", "\u{ff5c}>")
        || framed("<unused", ">")
}

/// A token that users added, as it stands in text.
fn user_defined(token: &str) -> (String, Kind) {
    (token.replace('\u{2581}', " "), Kind::UserDefined)
}
