//! `tokenizer.model`: a protocol buffer; only its pieces are read.
//!
//! ```text
//!  ModelProto     1: SentencePiece ...          wire format: a key (field << 3 | type), then by type
//!  SentencePiece  1: text   2: score   3: type   0 varint · 1 eight bytes · 2 length, bytes · 5 four bytes
//! ```

use serde_json::Value;

use super::vocab::{Kind, Sources, Vocab, filler, looks_special, user_defined};
use crate::Result;
use crate::model::tokenizer::Problem;

/// Scores of added tokens and of fillers, the same as in converters.
const ADDED: f32 = -1000.0;
const FILLER: f32 = -10_000.0;

/// The vocabulary, if there is a `tokenizer.model`.
pub(in crate::model) fn vocab(sources: &Sources<'_>) -> Result<Option<Vocab>> {
    let Some(mut pieces) = Pieces::read(sources)? else { return Ok(None) };
    pieces.add_listed(sources)?;
    for (id, token) in decoder(sources) {
        let Some(content) = token["content"].as_str() else { continue };
        let control = token["special"] == true || looks_special(content);
        pieces.set(id, if control { (content.to_string(), Kind::Control) } else { user_defined(content) });
    }
    Ok(Some(pieces.into_vocab()))
}

/// The vocabulary of a Phi 3: only tokens that are marked special are control tokens, and `tokenizer.json` overrides
/// the other files.
pub(in crate::model) fn phi_vocab(sources: &Sources<'_>) -> Result<Option<Vocab>> {
    let Some(mut pieces) = Pieces::read(sources)? else { return Ok(None) };
    pieces.add_listed(sources)?;
    let json = sources.tokenizer.as_ref().and_then(|(_, json)| json["added_tokens"].as_array());
    let added = json.into_iter().flatten().filter_map(|token| Some((token["id"].as_u64()?, token)));
    for (id, token) in decoder(sources).chain(added) {
        let Some(content) = token["content"].as_str() else { continue };
        let kind = if token["special"] == true { Kind::Control } else { Kind::UserDefined };
        pieces.set(id, (content.to_string(), kind));
    }
    Ok(Some(pieces.into_vocab()))
}

/// `added_tokens_decoder` of `tokenizer_config.json`: tokens by their ids.
fn decoder<'a>(sources: &'a Sources<'_>) -> impl Iterator<Item = (u64, &'a Value)> {
    let decoder = sources.config.as_ref().and_then(|config| config["added_tokens_decoder"].as_object());
    decoder.into_iter().flatten().filter_map(|(id, token)| Some((id.parse().ok()?, token)))
}

/// Tokens with their scores, fillers included.
struct Pieces(Vec<((String, Kind), f32)>);

impl Pieces {
    fn read(sources: &Sources<'_>) -> Result<Option<Self>> {
        let Some(bytes) = sources.files.bytes("tokenizer.model")? else { return Ok(None) };
        let pieces = pieces(&bytes).ok_or(Problem::SentencePiece)?;
        let size = sources.fitting(sources.size.unwrap_or(pieces.len()))?;
        let mut listed: Vec<_> = pieces.into_iter().take(size).collect();
        listed.extend((listed.len()..size).map(|id| (filler(id), FILLER)));
        Ok(Some(Pieces(listed)))
    }

    /// Adds the tokens of `added_tokens.json`.
    fn add_listed(&mut self, sources: &Sources<'_>) -> Result<()> {
        let added = sources.files.json("added_tokens.json")?.unwrap_or(Value::Null);
        for (token, id) in added.as_object().into_iter().flatten() {
            if let Some(id) = id.as_u64() {
                self.set(id, (token.clone(), Kind::UserDefined));
            }
        }
        Ok(())
    }

    /// Puts an added token in its place; a token beyond the embeddings is dropped.
    fn set(&mut self, id: u64, token: (String, Kind)) {
        if let Some(place) = usize::try_from(id).ok().and_then(|id| self.0.get_mut(id)) {
            *place = (token, ADDED);
        }
    }

    fn into_vocab(self) -> Vocab {
        let (tokens, scores) = self.0.into_iter().unzip();
        Vocab { model: "llama", pre: "default".into(), tokens, scores: Some(scores), merges: None }
    }
}

/// Whether these are the bytes of a SentencePiece model.
pub(crate) fn is_sentence_piece(bytes: &[u8]) -> bool {
    pieces(bytes).is_some()
}

/// The pieces of a `ModelProto`.
fn pieces(bytes: &[u8]) -> Option<Vec<((String, Kind), f32)>> {
    let mut pieces = Vec::new();
    for field in fields(bytes) {
        if let (1, Field::Bytes(piece)) = field? {
            pieces.push(self::piece(piece)?);
        }
    }
    (!pieces.is_empty()).then_some(pieces)
}

fn piece(bytes: &[u8]) -> Option<((String, Kind), f32)> {
    let (mut text, mut score, mut kind) = (String::new(), 0.0, Kind::Normal);
    for field in fields(bytes) {
        match field? {
            (1, Field::Bytes(bytes)) => text = str::from_utf8(bytes).ok()?.to_string(),
            (2, Field::Four(bytes)) => score = f32::from_le_bytes(bytes),
            (3, Field::Varint(number)) => {
                kind = match number {
                    2 => Kind::Unknown,
                    3 => Kind::Control,
                    5 => Kind::Unused,
                    6 => Kind::Byte,
                    // Normal tokens, and those that users defined for training: merging finds both.
                    _ => Kind::Normal,
                }
            }
            _ => {}
        }
    }
    Some(((text, kind), score))
}

/// The value of a field.
enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Four([u8; 4]),
    /// Eight bytes, which none of the fields in use has.
    Eight,
}

/// The numbers and values of a message's fields. At damage, it yields `None` and ends.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Option<(u64, Field<'_>)>> {
    let mut more = !bytes.is_empty();
    let mut next = move || {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Field::Varint(varint(&mut bytes)?),
            1 => bytes.split_off(..8).map(|_| Field::Eight)?,
            2 => {
                let len = usize::try_from(varint(&mut bytes)?).ok()?;
                Field::Bytes(bytes.split_off(..len)?)
            }
            5 => Field::Four(bytes.split_off(..4)?.try_into().ok()?),
            _ => return None,
        };
        Some(((key >> 3, value), bytes.is_empty()))
    };
    std::iter::from_fn(move || {
        if !more {
            return None;
        }
        let field = next();
        more = field.as_ref().is_some_and(|(_, last)| !last);
        Some(field.map(|(field, _)| field))
    })
}

/// Reads a number with seven bits per byte, the lowest first.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_every_type() {
        // piece "ab" with score 1.0 and type 6, an unknown field of eight bytes, a number of two bytes.
        let piece: &[u8] = &[0x0a, 2, b'a', b'b', 0x15, 0, 0, 0x80, 0x3f, 0x18, 6];
        let proto = [&[0x0a, 11], piece, &[0x11, 0, 0, 0, 0, 0, 0, 0, 0], &[0x18, 0xac, 0x02]].concat();
        assert_eq!(pieces(&proto), Some(vec![(("ab".into(), Kind::Byte), 1.0)]));
        let numbers = fields(&proto).flatten().filter_map(|(_, field)| match field {
            Field::Varint(number) => Some(number),
            _ => None,
        });
        assert_eq!(numbers.collect::<Vec<_>>(), [300]);
    }

    #[test]
    fn what_is_cut_or_strange_is_no_model() {
        let proto: &[u8] = &[0x0a, 4, 0x0a, 2, b'a', b'b', 0x0a, 4, 0x0a, 2, b'c', b'd'];
        assert_eq!(pieces(proto).unwrap().len(), 2);
        for len in (0..proto.len()).filter(|len| *len != 6) {
            assert!(pieces(&proto[..len]).is_none(), "{len} bytes");
        }
        for strange in [
            &[0x0a, 3, 0x0a, 1, 0xff][..],
            &[0x0c, 0],
            &[0x08; 12],
            b"version https://git-lfs",
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert!(pieces(strange).is_none(), "{strange:?}");
        }
    }
}
