//! Byte-level BPE, which GGUF calls `gpt2`: tokens, merges and the name of the pre-tokenizer.

use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer};

use super::pre;
use super::tokenizer::{Kind, Token, beyond, looks_special};
use crate::adapter::Finding;
use crate::{Error, ErrorKind, Result};

/// What GGUF files hold of a byte-level tokenizer.
#[derive(Debug)]
pub(super) struct Bpe {
    pub(super) pre: String,
    pub(super) tokens: Vec<Token>,
    pub(super) merges: Vec<String>,
}

/// Keys of `tokenizer_config.json` that name special tokens.
const SPECIAL: &[&str] =
    &["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Reads `tokenizer.json` for embeddings of `rows` rows.
///
/// # Errors
/// [`ErrorKind::Config`] if it is no tokenizer; [`ErrorKind::Shape`] if it has more tokens than `rows`; see also
/// [`pre::name`].
pub(super) fn read(
    json: &Value,
    config: Option<&Value>,
    rows: usize,
    pre: Option<&str>,
    notes: &mut Vec<Finding>,
) -> Result<Bpe> {
    let no_tokenizer = |e| Error::new(ErrorKind::Config, format!("is no tokenizer: {e}"));
    check_templates(&json["post_processor"])?;
    let mut tokenizer = Tokenizer::from_bytes(json.to_string()).map_err(no_tokenizer)?;
    add_special(&mut tokenizer, config).map_err(no_tokenizer)?;
    let tokens = tokens(&tokenizer, rows)?;
    let merges = merges(&json["model"]["merges"])?;
    let pre = match pre {
        Some(name) => name.to_string(),
        None => pre::name(&tokenizer, json, notes)?,
    };
    Ok(Bpe { pre, tokens, merges })
}

/// Every token of a template must be explained in it, or the library would panic.
fn check_templates(post_processor: &Value) -> Result<()> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for processor in list(&post_processor["processors"]) {
        check_templates(&processor)?;
    }
    for piece in [list(&post_processor["single"]), list(&post_processor["pair"])].concat() {
        if let Some(token) = piece["SpecialToken"]["id"].as_str()
            && post_processor["special_tokens"].get(token).is_none()
        {
            let token = token.escape_debug();
            let message = format!("frames texts by the token `{token}`, whose ids it does not give");
            return Err(Error::new(ErrorKind::Config, message));
        }
    }
    Ok(())
}

/// Adds the special tokens that only `tokenizer_config.json` calls so, as transformers does.
fn add_special(tokenizer: &mut Tokenizer, config: Option<&Value>) -> tokenizers::Result<()> {
    for key in SPECIAL {
        let entry = config.map_or(&Value::Null, |config| &config[*key]);
        let content = entry.as_str().or_else(|| entry["content"].as_str());
        let known = tokenizer.get_added_tokens_decoder();
        if let Some(content) = content.filter(|c| !known.values().any(|token| token.content == **c)) {
            tokenizer.add_special_tokens([AddedToken::from(content, true)])?;
        }
    }
    Ok(())
}

/// A token for every row.
fn tokens(tokenizer: &Tokenizer, rows: usize) -> Result<Vec<Token>> {
    let mut tokens: Vec<Option<Token>> = vec![None; rows];
    let added = tokenizer.get_added_tokens_decoder();
    let mut vocabulary: Vec<_> = tokenizer.get_vocab(true).into_iter().collect();
    vocabulary.sort_unstable_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    for (text, id) in vocabulary {
        let slot = tokens.get_mut(id as usize).ok_or_else(|| beyond(&text, id.into(), rows))?;
        let token = match added.get(&id) {
            Some(token) => added_token(tokenizer, token)?,
            None => Token { text, kind: Kind::Normal, score: 0.0 },
        };
        *slot = Some(token);
    }
    let filled = tokens.into_iter().enumerate().map(|(id, token)| token.unwrap_or_else(|| Token::filler(id)));
    Ok(filled.collect())
}

/// llama.cpp looks for added tokens in the text as it stands, so they are stored as they come out of the decoder.
fn added_token(tokenizer: &Tokenizer, added: &AddedToken) -> Result<Token> {
    let mut text = added.content.clone();
    if !added.normalized {
        let decoded = tokenizer
            .encode(text.as_str(), false)
            .and_then(|encoding| tokenizer.decode(encoding.get_ids(), false));
        text = decoded.map_err(|e| {
            let message = format!("cannot encode and decode its token `{}`: {e}", text.escape_debug());
            Error::new(ErrorKind::Config, message)
        })?;
    }
    if added.special || looks_special(&text) {
        return Ok(Token { text, kind: Kind::Control, score: 0.0 });
    }
    Ok(Token { text: text.replace('\u{2581}', " "), kind: Kind::UserDefined, score: 0.0 })
}

/// Merges as pairs or as strings. In pairs, a space is of a part, and GGUF writes it as byte-level tokens do.
fn merges(merges: &Value) -> Result<Vec<String>> {
    let merge = |merge: &Value| match (merge, merge[0].as_str(), merge[1].as_str()) {
        (Value::String(text), ..) => Some(text.clone()),
        (_, Some(left), Some(right)) => {
            Some(format!("{} {}", left.replace(' ', "\u{120}"), right.replace(' ', "\u{120}")))
        }
        _ => None,
    };
    let merges = merges.as_array().and_then(|merges| merges.iter().map(merge).collect::<Option<Vec<_>>>());
    merges.ok_or_else(|| Error::new(ErrorKind::Config, "has no list of merges in its model"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tokenizer() -> Value {
        let added = |id: u32, content: &str, special: bool, normalized: bool| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": normalized, "special": special})
        };
        json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "added_tokens": [
                added(3, "<s>", true, false),
                added(4, "<|tool|>", false, false),
                added(5, "\u{2581}\u{2581}", false, true),
            ],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
        })
    }

    fn types(bpe: &Bpe) -> Vec<(&str, Kind)> {
        bpe.tokens.iter().map(|token| (token.text.as_str(), token.kind)).collect()
    }

    #[test]
    fn every_row_has_a_token() {
        let config = json!({"eos_token": "b", "pad_token": {"content": "<s>"}});
        let bpe = read(&tokenizer(), Some(&config), 8, Some("name"), &mut Vec::new()).unwrap();
        let expected = [
            ("a", Kind::Normal),
            ("b", Kind::Control),
            ("ab", Kind::Normal),
            ("<s>", Kind::Control),
            ("<|tool|>", Kind::Control),
            ("  ", Kind::UserDefined),
            ("[PAD6]", Kind::Unused),
            ("[PAD7]", Kind::Unused),
        ];
        assert_eq!(types(&bpe), expected);
        assert_eq!((bpe.pre.as_str(), bpe.merges.as_slice()), ("name", &["a b".to_string()][..]));
    }

    #[test]
    fn a_token_without_a_row_is_refused() {
        let error = read(&tokenizer(), None, 5, None, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert!(error.to_string().contains("as number 5, and the embeddings have 5 rows"), "{error}");
    }

    #[test]
    fn a_template_of_unknown_tokens_is_refused() {
        let mut json = tokenizer();
        let pieces =
            json!([{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]);
        let template =
            json!({"type": "TemplateProcessing", "single": pieces, "pair": [], "special_tokens": {}});
        json["post_processor"] = json!({"type": "Sequence", "processors": [template]});
        let error = read(&json, None, 8, None, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("`<s>`"), "{error}");
    }

    #[test]
    fn merges_are_pairs_or_strings() {
        assert_eq!(merges(&json!(["a b", "ab c"])).unwrap(), ["a b", "ab c"]);
        assert_eq!(merges(&json!([["a ", "b"]])).unwrap(), ["a\u{120} b"]);
        for bad in [Value::Null, json!([1]), json!([["a"]])] {
            assert_eq!(merges(&bad).unwrap_err().kind(), ErrorKind::Config, "{bad}");
        }
    }
}
