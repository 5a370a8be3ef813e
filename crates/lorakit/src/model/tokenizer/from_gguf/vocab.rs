//! The vocabulary and the special tokens, from `tokenizer.ggml.*`.

use std::collections::HashMap;

use lorakit_tensor::format::gguf::{Array, Metadata, Value};

use crate::Result;
use crate::model::gguf::read::keys::{get, integer, missing, strings, truth};
use crate::model::tokenizer::Problem;

/// The kind of a token: `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// The tokens of a model, in the order of their ids.
#[derive(Debug)]
pub(in crate::model) struct Vocab<'a> {
    tokens: &'a [String],
    kinds: Vec<Kind>,
    ids: HashMap<&'a str, usize>,
}

impl<'a> Vocab<'a> {
    /// # Errors
    /// `Corrupt` if a token appears twice, or if there is not one kind per token.
    pub(in crate::model) fn read(metadata: &'a Metadata) -> Result<Self> {
        let tokens = strings(metadata, "tokenizer.ggml.tokens")?;
        let tokens = tokens.ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
        let kinds = get(metadata, "tokenizer.ggml.token_type", "an array of i32 from 1 to 6", kinds)?;
        let kinds = kinds.unwrap_or_else(|| vec![Kind::Normal; tokens.len()]);
        per_token("tokenizer.ggml.token_type", kinds.len(), tokens.len())?;

        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            if let Some(first) = ids.insert(token.as_str(), id) {
                let token = token.escape_debug().to_string();
                return Err(Problem::RepeatedToken { token, first, second: id }.into());
            }
        }
        Ok(Vocab { tokens, kinds, ids })
    }

    /// Number of tokens.
    pub(in crate::model) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The texts of all tokens.
    pub(in crate::model) fn tokens(&self) -> &'a [String] {
        self.tokens
    }

    /// The text of token `id`.
    pub(in crate::model) fn token(&self, id: usize) -> Option<&'a str> {
        self.tokens.get(id).map(String::as_str)
    }

    /// The id of `token`, whatever its kind.
    pub(in crate::model) fn id(&self, token: &str) -> Option<usize> {
        self.ids.get(token).copied()
    }

    /// The id of `token` if it takes part in merges.
    pub(in crate::model) fn normal_id(&self, token: &str) -> Option<usize> {
        self.id(token).filter(|&id| self.kinds.get(id) == Some(&Kind::Normal))
    }

    /// Every token that text or a model can produce: all except fillers such as `[PAD17]`, with which converters give
    /// every row of the embeddings a token.
    pub(in crate::model) fn iter(&self) -> impl Iterator<Item = (usize, &'a str, Kind)> {
        let tokens = self.tokens.iter().zip(&self.kinds).enumerate();
        tokens
            .map(|(id, (token, kind))| (id, token.as_str(), *kind))
            .filter(|(id, token, kind)| *kind != Kind::Unused || *token != format!("[PAD{id}]"))
    }
}

fn kinds(value: &Value) -> Option<Vec<Kind>> {
    let kind = |number: u32| match number {
        1 => Some(Kind::Normal),
        2 => Some(Kind::Unknown),
        3 => Some(Kind::Control),
        4 => Some(Kind::UserDefined),
        5 => Some(Kind::Unused),
        6 => Some(Kind::Byte),
        _ => None,
    };
    match value {
        Value::Array(Array::I32(numbers)) => numbers.iter().map(|&n| kind(u32::try_from(n).ok()?)).collect(),
        Value::Array(Array::U32(numbers)) => numbers.iter().map(|&n| kind(n)).collect(),
        _ => None,
    }
}

/// # Errors
/// `Corrupt` if the array `key` does not have one value per token.
pub(in crate::model) fn per_token(key: &'static str, values: usize, tokens: usize) -> Result<()> {
    if values == tokens { Ok(()) } else { Err(Problem::Values { key, values, tokens }.into()) }
}

/// Ids of the tokens with a special meaning.
#[derive(Debug, Default)]
pub(in crate::model) struct SpecialIds {
    pub(in crate::model) bos: Option<u64>,
    pub(in crate::model) eos: Option<u64>,
    pub(in crate::model) unknown: Option<u64>,
    pub(in crate::model) pad: Option<u64>,
    /// Every token after which generation ends: eos, end of turn, end of message.
    pub(in crate::model) ends: Vec<u64>,
}

impl SpecialIds {
    /// # Errors
    /// `Corrupt` if an id is beyond the vocabulary.
    pub(in crate::model) fn read(
        metadata: &Metadata,
        vocab: &Vocab<'_>,
        defaults: SpecialIds,
    ) -> Result<Self> {
        let id = |name: &str| -> Result<Option<u64>> {
            let key = format!("tokenizer.ggml.{name}_token_id");
            let id = integer(metadata, &key)?;
            match id {
                Some(id) if id >= vocab.len() as u64 => {
                    Err(Problem::Id { key, id, tokens: vocab.len() }.into())
                }
                id => Ok(id),
            }
        };
        let eos = id("eos")?.or(defaults.eos);
        let mut ends: Vec<u64> = Vec::new();
        for end in [eos, id("eot")?, id("eom")?].into_iter().flatten() {
            if !ends.contains(&end) {
                ends.push(end);
            }
        }
        Ok(SpecialIds {
            bos: id("bos")?.or(defaults.bos),
            eos,
            unknown: id("unknown")?.or(defaults.unknown),
            pad: id("padding")?,
            ends,
        })
    }
}

/// The tokens that frame an encoded text.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct Frame<'a> {
    /// The token before the text.
    pub(in crate::model) bos: Option<(u64, &'a str)>,
    /// The token after the text.
    pub(in crate::model) eos: Option<(u64, &'a str)>,
}

impl<'a> Frame<'a> {
    /// # Errors
    /// `Incomplete` if a token should be added but there is none.
    pub(in crate::model) fn read(
        metadata: &Metadata,
        vocab: &Vocab<'a>,
        ids: &SpecialIds,
        add_bos_by_default: bool,
    ) -> Result<Self> {
        let token = |name: &str, id: Option<u64>, add_by_default: bool| {
            if !truth(metadata, &format!("tokenizer.ggml.add_{name}_token"))?.unwrap_or(add_by_default) {
                return Ok(None);
            }
            let token = id.and_then(|id| Some((id, vocab.token(usize::try_from(id).ok()?)?)));
            token.map(Some).ok_or_else(|| missing(&format!("tokenizer.ggml.{name}_token_id")))
        };
        Ok(Frame { bos: token("bos", ids.bos, add_bos_by_default)?, eos: token("eos", ids.eos, false)? })
    }
}
