//! SentencePiece BPE, which GGUF calls `llama`: tokens with scores, the highest of which is merged first.
//!
//! `tokenizer.model` is a protobuf message; what matters of it:
//!
//! ```text
//! ModelProto     1: SentencePiece, repeated
//! SentencePiece  1: string piece   2: float score   3: enum type (absent: 1 normal)
//! ```
//!
//! `tokenizer.json` has merges instead of scores. The earlier a token is put together, the higher its score must be, so it
//! is the negative rank of the first merge that gives it. llama.cpp's converter gives every token the same score, by which
//! text is cut in other tokens than the model was trained on.

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

/// `tokens` with those that `tokenizer_config.json` adds or replaces; ids beyond `tokens` are not taken.
pub(super) fn with_added(
    mut tokens: Vec<Token>,
    tokenizer_config: Option<&Value>,
    rows: usize,
) -> Vec<Token> {
    let added = tokenizer_config.and_then(|config| config["added_tokens_decoder"].as_object());
    for (id, entry) in added.into_iter().flatten() {
        let slot = id.parse::<usize>().ok().filter(|&id| id < rows).and_then(|id| tokens.get_mut(id));
        if let (Some(slot), Some(text)) = (slot, entry["content"].as_str()) {
            *slot = added_token(text, entry["special"] == true);
        }
    }
    tokens
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
pub(super) fn of_json(json: &Value, tokenizer_config: Option<&Value>, rows: usize) -> Result<Vec<Token>> {
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
    Ok(with_added_special(tokens, tokenizer_config))
}

/// `tokens`, of which `tokenizer_config.json` may call more special than the tokenizer itself.
fn with_added_special(mut tokens: Vec<Token>, tokenizer_config: Option<&Value>) -> Vec<Token> {
    for key in ["bos_token", "eos_token", "pad_token"] {
        let entry = tokenizer_config.map_or(&Value::Null, |config| &config[key]);
        let content = entry.as_str().or_else(|| entry["content"].as_str());
        for token in tokens.iter_mut().filter(|token| Some(token.text.as_str()) == content) {
            if token.kind == Kind::Normal {
                token.kind = Kind::Control;
            }
        }
    }
    tokens
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
