//! Byte-level BPE, which GGUF calls `gpt2`: `tokenizer.json` with the vocabulary and merges as they are.

use lorakit_tensor::format::gguf::Metadata;
use serde_json::{Value, json};

use super::parts::{Parts, template};
use super::split::Split;
use super::vocab::{Frame, SpecialIds, Vocab};
use crate::Result;
use crate::model::gguf::read::keys::{missing, strings, text};
use crate::model::tokenizer::Problem;

/// The parts of the tokenizer, and the tokens that frame a text.
///
/// # Errors
/// `Unsupported` if the rule that cuts text into pieces is unknown.
pub(in crate::model) fn bpe<'a>(
    metadata: &'a Metadata,
    vocab: &Vocab<'a>,
    ids: &SpecialIds,
) -> Result<(Parts, Frame<'a>)> {
    let name = text(metadata, "tokenizer.ggml.pre")?.ok_or_else(|| missing("tokenizer.ggml.pre"))?;
    let split = Split::find(name)?;
    let frame = Frame::read(metadata, vocab, ids, split.add_bos)?;
    let merges = strings(metadata, "tokenizer.ggml.merges")?;
    let merges = merges.ok_or_else(|| missing("tokenizer.ggml.merges"))?;
    for merge in merges {
        check(merge, vocab)?;
    }
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": null,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": split.ignore_merges,
        "vocab": vocab.iter().map(|(id, token, _)| (token.to_string(), id.into())).collect::<serde_json::Map<_, _>>(),
        "merges": merges,
    });
    // This only affects offsets, which include the space before a word.
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true});
    let post_processor = match template(frame) {
        Value::Null => bytes,
        template => json!({"type": "Sequence", "processors": [bytes, template]}),
    };
    let parts = Parts {
        normalizer: split.normalizer(),
        pre_tokenizer: split.pre_tokenizer(),
        post_processor,
        decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        model,
    };
    Ok((parts, frame))
}

/// Checks that both sides of a merge and its result are tokens; otherwise no reader accepts the file.
fn check(merge: &str, vocab: &Vocab<'_>) -> Result<()> {
    let known = |token: &str| vocab.id(token).is_some();
    match merge.split_once(' ') {
        Some((left, right)) if known(left) && known(right) && known(&format!("{left}{right}")) => Ok(()),
        _ => Err(Problem::Merge { merge: merge.escape_debug().to_string() }.into()),
    }
}
