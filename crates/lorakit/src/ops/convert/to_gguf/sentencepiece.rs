//! SentencePiece BPE, which GGUF calls `llama`: tokens with scores, the highest of which is merged first.
//!
//! `tokenizer.model` is a protobuf message; what matters of it:
//!
//! ```text
//! ModelProto     1: SentencePiece, repeated
//! SentencePiece  1: string piece   2: float score   3: enum type (absent: 1 normal)
//! ```
//!
//! `tokenizer.json` has merges instead of scores. The earlier a token is put together, the higher its score must be,
//! so it is the negative rank of the first merge that gives it. llama.cpp's converter gives every token the same
//! score, by which text is cut in other tokens than the model was trained on.

use std::collections::HashMap;

use serde_json::Value;

use super::tokenizer::{Kind, Token, beyond, looks_special};
use crate::{Error, ErrorKind, Result};

/// The score of added tokens, which are found before anything is merged.
const ADDED_SCORE: f32 = -1000.0;

/// The tokens of `tokenizer.model`, filled up to `rows`.
///
/// # Errors
/// [`ErrorKind::Config`] if it is no such message; [`ErrorKind::Shape`] if it has more pieces than `rows`.
pub(super) fn of_model(bytes: &[u8], rows: usize) -> Result<Vec<Token>> {
    let no_model = || Error::new(ErrorKind::Config, "is no SentencePiece model");
    let mut tokens = Vec::with_capacity(rows);
    let mut message = Message(bytes);
    while !message.0.is_empty() {
        if let (1, Field::Bytes(piece)) = message.field().ok_or_else(no_model)? {
            let token = token(piece).ok_or_else(no_model)?;
            if tokens.len() == rows {
                return Err(beyond(&token.text, rows as u64, rows));
            }
            tokens.push(token);
        }
    }
    if tokens.is_empty() {
        return Err(no_model());
    }
    tokens.extend((tokens.len()..rows).map(Token::filler));
    Ok(tokens)
}

/// The token of one `SentencePiece`.
fn token(piece: &[u8]) -> Option<Token> {
    let mut token = Token { text: String::new(), kind: Kind::Normal, score: 0.0 };
    let mut message = Message(piece);
    while !message.0.is_empty() {
        match message.field()? {
            (1, Field::Bytes(text)) => token.text = String::from_utf8(text.to_vec()).ok()?,
            (2, Field::Fixed32(bits)) => token.score = f32::from_bits(bits),
            (3, Field::Varint(kind)) => {
                token.kind = match kind {
                    2 => Kind::Unknown,
                    3 => Kind::Control,
                    5 => Kind::Unused,
                    6 => Kind::Byte,
                    // The converter leaves user-defined pieces to `added_tokens_decoder`.
                    _ => Kind::Normal,
                }
            }
            _ => {}
        }
    }
    Some(token)
}

/// The rest of a protobuf message.
struct Message<'a>(&'a [u8]);

enum Field<'a> {
    Varint(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Message<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.take(1)? else { return None };
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// The number and the value of the next field.
    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => self.take(8).map(|_| Field::Other)?,
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(len)?)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((tag >> 3, field))
    }
}

/// Puts the tokens that `added_tokens.json` and `tokenizer_config.json` add into `tokens`; ids beyond are not taken.
pub(super) fn add(tokens: &mut [Token], added_tokens: &Value, tokenizer_config: &Value) {
    let mut put = |id: Option<u64>, token: Token| {
        let slot = id.and_then(|id| tokens.get_mut(usize::try_from(id).ok()?));
        if let Some(slot) = slot {
            *slot = token;
        }
    };
    for (text, id) in added_tokens.as_object().into_iter().flatten() {
        put(id.as_u64(), Token { text: text.clone(), kind: Kind::UserDefined, score: ADDED_SCORE });
    }
    for (id, entry) in tokenizer_config["added_tokens_decoder"].as_object().into_iter().flatten() {
        if let Some(text) = entry["content"].as_str() {
            put(id.parse().ok(), added_token(text, entry["special"] == true));
        }
    }
}

fn added_token(text: &str, special: bool) -> Token {
    if special || looks_special(text) {
        return Token { text: text.to_string(), kind: Kind::Control, score: ADDED_SCORE };
    }
    Token { text: text.replace('\u{2581}', " "), kind: Kind::UserDefined, score: ADDED_SCORE }
}

/// The tokens of `tokenizer.json`, filled up to `rows`.
///
/// # Errors
/// [`ErrorKind::Config`] if it has no vocabulary or no merges; [`ErrorKind::Shape`] if it has more tokens than `rows`.
pub(super) fn of_json(json: &Value, rows: usize) -> Result<Vec<Token>> {
    let model = &json["model"];
    let lacks = |what: &str| Error::new(ErrorKind::Config, format!("has no {what} in its model"));
    let vocab = model["vocab"].as_object().ok_or_else(|| lacks("vocabulary"))?;
    let ranks = ranks(&model["merges"]).ok_or_else(|| lacks("list of merges"))?;
    let unknown = model["unk_token"].as_str();
    let mut tokens: Vec<Token> = (0..rows).map(Token::filler).collect();
    let mut put = |id: &Value, token: Token| -> Result<()> {
        let id = id.as_u64().ok_or_else(|| lacks("vocabulary of whole numbers"))?;
        match usize::try_from(id).ok().and_then(|id| tokens.get_mut(id)) {
            Some(slot) => *slot = token,
            None => return Err(beyond(&token.text, id, rows)),
        }
        Ok(())
    };
    for (text, id) in vocab {
        let kind = if is_byte(text) { Kind::Byte } else { Kind::Normal };
        // Letters are not put together; they stand behind whatever is.
        let rank = ranks.get(text.as_str()).copied().unwrap_or(ranks.len());
        let score = if kind == Kind::Byte { 0.0 } else { -(rank as f32) };
        put(id, Token { text: text.clone(), kind, score })?;
    }
    for entry in json["added_tokens"].as_array().into_iter().flatten() {
        let text = entry["content"].as_str().unwrap_or_default();
        let mut token = added_token(text, entry["special"] == true);
        if Some(text) == unknown {
            token.kind = Kind::Unknown;
        }
        put(&entry["id"], token)?;
    }
    Ok(tokens)
}

/// Whether a space goes before the text, as `tokenizer.json` says.
pub(super) fn has_space_prefix(json: &Value) -> bool {
    let parts =
        |part: &Value, name: &str| part[name].as_array().cloned().unwrap_or_else(|| vec![part.clone()]);
    parts(&json["normalizer"], "normalizers").iter().any(|part| part["type"] == "Prepend")
        || parts(&json["pre_tokenizer"], "pretokenizers").iter().any(|part| {
            part["type"] == "Metaspace"
                && part["prepend_scheme"] != "never"
                && part["add_prefix_space"] != false
        })
}

/// The rank of each token among those that merges give.
fn ranks(merges: &Value) -> Option<HashMap<String, usize>> {
    let mut ranks = HashMap::new();
    for merge in merges.as_array()? {
        let text = match merge {
            Value::String(text) => text.split_once(' ').map(|(left, right)| format!("{left}{right}"))?,
            pair => format!("{}{}", pair[0].as_str()?, pair[1].as_str()?),
        };
        let next = ranks.len();
        ranks.entry(text).or_insert(next);
    }
    Some(ranks)
}

/// Whether the token stands for one byte: `<0x0A>`.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tokenizer() -> Value {
        json!({
            "added_tokens": [
                {"id": 0, "content": "<unk>", "special": true},
                {"id": 6, "content": "x\u{2581}", "special": false}
            ],
            "model": {
                "type": "BPE", "byte_fallback": true, "unk_token": "<unk>",
                "vocab": {"<unk>": 0, "<0x0A>": 1, "a": 2, "\u{2581}": 3, "\u{2581}a": 4, "aa": 5},
                "merges": ["a a", ["\u{2581}", "a"]]
            }
        })
    }

    #[test]
    fn scores_are_ranks_of_merges() {
        let tokens = of_json(&tokenizer(), 8).unwrap();
        let found: Vec<_> = tokens.iter().map(|t| (t.text.as_str(), t.kind, t.score)).collect();
        let expected = [
            ("<unk>", Kind::Unknown, -1000.0),
            ("<0x0A>", Kind::Byte, 0.0),
            ("a", Kind::Normal, -2.0),
            ("\u{2581}", Kind::Normal, -2.0),
            ("\u{2581}a", Kind::Normal, -1.0),
            ("aa", Kind::Normal, 0.0),
            ("x ", Kind::UserDefined, -1000.0),
            ("[PAD7]", Kind::Unused, -10_000.0),
        ];
        assert_eq!(found, expected);
    }

    /// Of a vocabulary that sentencepiece trained and transformers gave merges.
    #[test]
    fn scores_are_recovered_from_merges() {
        let spm = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tokenizer/spm.json"));
        let spm: Value = serde_json::from_str(spm).unwrap();
        let ranks = ranks(&spm["merges"]).unwrap();
        let tokens = spm["tokens"].as_array().unwrap().iter().zip(spm["scores"].as_array().unwrap());
        let merged = tokens.filter_map(|(token, score)| Some((ranks.get(token.as_str()?)?, score)));
        let mut count = 0;
        for (rank, score) in merged {
            assert_eq!(-(*rank as f64), score.as_f64().unwrap());
            count += 1;
        }
        assert_eq!(count, ranks.len());
    }

    #[test]
    fn json_without_its_parts_is_refused() {
        assert_eq!(of_json(&tokenizer(), 6).unwrap_err().kind(), ErrorKind::Shape);
        for part in ["vocab", "merges"] {
            let mut broken = tokenizer();
            broken["model"][part] = Value::Null;
            assert_eq!(of_json(&broken, 8).unwrap_err().kind(), ErrorKind::Config);
        }
    }

    #[test]
    fn the_space_before_a_text() {
        let prepend = json!({"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend"}]}});
        let metaspace =
            |scheme: &str| json!({"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": scheme}});
        assert!(has_space_prefix(&prepend) && has_space_prefix(&metaspace("first")));
        assert!(!has_space_prefix(&metaspace("never")) && !has_space_prefix(&json!({"normalizer": null})));
    }

    /// `piece "ab", score 1.5, type 3`, and a field of each other kind that is passed over.
    const MODEL: &[u8] = &[
        0x0a, 0x0b, 0x0a, 2, b'a', b'b', 0x15, 0, 0, 0xc0, 0x3f, 0x18, 3, 0x12, 1, 0, 0x21, 0, 0, 0, 0, 0, 0,
        0, 0, 0x28, 0x80, 1,
    ];

    #[test]
    fn a_model_is_read_in_part_or_refused() {
        let tokens = of_model(MODEL, 2).unwrap();
        assert_eq!(tokens, [Token { text: "ab".into(), kind: Kind::Control, score: 1.5 }, Token::filler(1)]);
        assert_eq!(of_model(MODEL, 0).unwrap_err().kind(), ErrorKind::Shape);
        for len in (0..MODEL.len()).filter(|len| ![13, 16, 25].contains(len)) {
            assert_eq!(of_model(&MODEL[..len], 2).unwrap_err().kind(), ErrorKind::Config, "{len}");
        }
        assert!(of_model(&[0xff; 20], 2).is_err());
    }
}
