//! SentencePiece BPE, which GGUF calls `llama`.
//!
//! The model does not hold merges: the two neighbours that form the token with the highest score are merged first.
//! `tokenizer.json` needs a list, so every way to cut a token into two tokens becomes a merge, ordered by the score of
//! the result. Bytes that no token covers become byte tokens.

use std::cmp::Reverse;

use lorakit_tensor::format::gguf::{Array, Metadata, Value as GgufValue};
use serde_json::{Map, Value, json};

use super::parts::{Parts, template};
use super::vocab::{Frame, SpecialIds, Vocab, per_token};
use crate::Result;
use crate::model::gguf::read::keys::{get, missing, truth};
use crate::model::tokenizer::Problem;

/// The longest token that is searched for merges, in bytes; tokens of published models have at most a few hundred.
const MAX_TOKEN_BYTES: usize = 4096;

/// Ids to use if the file does not give any.
pub(in crate::model) const DEFAULT_IDS: SpecialIds =
    SpecialIds { bos: Some(1), eos: Some(2), unknown: Some(0), pad: None, ends: Vec::new() };

/// The parts of the tokenizer, and the tokens that frame a text.
///
/// # Errors
/// `Incomplete` if tokens have no scores.
pub(in crate::model) fn spm<'a>(
    metadata: &'a Metadata,
    vocab: &Vocab<'a>,
    ids: &SpecialIds,
) -> Result<(Parts, Frame<'a>)> {
    let frame = Frame::read(metadata, vocab, ids, true)?;
    let scores = get(metadata, "tokenizer.ggml.scores", "an array of f32", scores)?;
    let scores = scores.ok_or_else(|| missing("tokenizer.ggml.scores"))?;
    per_token("tokenizer.ggml.scores", scores.len(), vocab.len())?;
    let unknown = ids.unknown.and_then(|id| vocab.token(usize::try_from(id).ok()?));

    let space = "\u{2581}";
    let mut normalizers = vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": space})];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": space}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if truth(metadata, "tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": space}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": unknown,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": true,
        "byte_fallback": true,
        "ignore_merges": false,
        "vocab": vocab.iter().map(|(id, token, _)| (token.to_string(), id.into())).collect::<Map<_, _>>(),
        "merges": merges(vocab, scores)?,
    });
    let parts = Parts {
        normalizer: json!({"type": "Sequence", "normalizers": normalizers}),
        pre_tokenizer: Value::Null,
        post_processor: template(frame),
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        model,
    };
    Ok((parts, frame))
}

fn scores(value: &GgufValue) -> Option<&[f32]> {
    match value {
        GgufValue::Array(Array::F32(scores)) => Some(scores),
        _ => None,
    }
}

/// Every pair of tokens that forms a token, best result first. Pairs with the same result, and results with the same
/// score, are in the order of transformers: longer left side first, then longer right side.
fn merges(vocab: &Vocab<'_>, scores: &[f32]) -> Result<Vec<String>> {
    struct Merge<'a> {
        score: f32,
        lengths: (usize, usize),
        sides: (&'a str, &'a str),
    }
    let mut merges: Vec<Merge<'_>> = Vec::new();
    for (id, (token, &score)) in vocab.tokens().iter().zip(scores).enumerate() {
        // Text never contains spaces when it is merged; control tokens and byte tokens are not merged.
        if vocab.normal_id(token) != Some(id) || token.contains(' ') {
            continue;
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Problem::LongToken { id, bytes: token.len(), limit: MAX_TOKEN_BYTES }.into());
        }
        let length = token.chars().count();
        let first = merges.len();
        for (left_length, (cut, _)) in token.char_indices().enumerate().skip(1) {
            let sides = token.split_at(cut);
            if vocab.normal_id(sides.0).is_some() && vocab.normal_id(sides.1).is_some() {
                merges.push(Merge { score, lengths: (left_length, length - left_length), sides });
            }
        }
        if let Some(of_token) = merges.get_mut(first..) {
            of_token.sort_by_key(|merge| (vocab.id(merge.sides.0), vocab.id(merge.sides.1)));
        }
    }
    merges.sort_by(|a, b| {
        b.score.total_cmp(&a.score).then_with(|| Reverse(a.lengths).cmp(&Reverse(b.lengths)))
    });
    Ok(merges.iter().map(|merge| format!("{} {}", merge.sides.0, merge.sides.1)).collect())
}
