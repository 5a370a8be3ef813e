//! `tokenizer.*`: the vocabulary, its special tokens and the chat template, from the files of Hugging Face.

mod bpe;
mod llama_hf;
mod pre;
mod sentence_piece;
mod special;
mod vocab;

use lorakit_tensor::format::gguf::{Array, Metadata, Value as GgufValue};

use crate::model::gguf::write::files::Files;
pub(crate) use sentence_piece::is_sentence_piece;
pub(in crate::model) use vocab::other_rows;
use vocab::{Sources, Vocab};

use crate::Result;
use crate::arch::TokenizerKind;
use crate::model::Params;
use crate::model::tokenizer::Problem;

/// Sets every key of the tokenizer of a model whose embeddings have `rows` rows.
///
/// # Errors
/// `Unsupported` if there is no tokenizer of a kind that the family knows, or if its rule for cutting text is
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
    // llama.cpp's converter recognises the small Granite models, whose tokenizer does not tell, by this number.
    if params.architecture.gguf() == "llama" && sources.size == Some(49_152) {
        metadata.set("tokenizer.ggml.add_bos_token", GgufValue::Bool(false));
    }
    Ok(())
}

/// The vocabulary of the first kind that is present.
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
