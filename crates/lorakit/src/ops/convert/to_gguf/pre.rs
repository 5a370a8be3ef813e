//! `tokenizer.ggml.pre`: the name of the way to cut text that llama.cpp knows it by.
//!
//! llama.cpp's converter knows vocabularies by the digest of the ids that they give one text made to tell them apart. A
//! vocabulary of one's own has another digest; its way to cut text is then compared with those that are known.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use super::super::tokenizer::recognize;
use crate::adapter::{Finding, Severity};
use crate::{Error, ErrorKind, Result};

/// The text.
const CHECK: &str = include_str!("data/check.txt");

/// Digest and name of each vocabulary; a line that begins with `#` is a comment.
const KNOWN: &str = include_str!("data/pre_tokenizers.txt");

/// The name for a tokenizer, whose file holds `json`.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if there is no name for it.
pub(super) fn name(tokenizer: &Tokenizer, json: &Value, notes: &mut Vec<Finding>) -> Result<String> {
    let digest = digest(tokenizer)?;
    let known = KNOWN.lines().filter_map(|line| line.split_once(' ')).find(|(known, _)| *known == digest);
    if let Some((_, name)) = known {
        return Ok(name.to_string());
    }
    let ignore_merges = json["model"]["ignore_merges"].as_bool().unwrap_or(false);
    if let Some(name) = recognize(&json["pre_tokenizer"], ignore_merges) {
        let message = format!(
            "llama.cpp does not list the vocabulary; it cuts text as `{name}` does, and is called so"
        );
        notes.push(Finding::new(Severity::Note, "pre-tokenizer-by-rule", "", message));
        return Ok(name.to_string());
    }
    let message = format!(
        "cuts text in a way that llama.cpp has no name for (its check text gives {digest}); `--pre NAME` says which \
         of its ways is meant"
    );
    Err(Error::new(ErrorKind::Unsupported, message))
}

/// The digest of the ids of the check text, written as Python writes a list.
fn digest(tokenizer: &Tokenizer) -> Result<String> {
    let encoding = tokenizer.encode(CHECK, true).map_err(|e| {
        Error::new(ErrorKind::Unsupported, format!("cannot encode llama.cpp's check text: {e}"))
    })?;
    let digest = Sha256::digest(format!("{:?}", encoding.get_ids()));
    Ok(digest.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(json: &Value) -> Tokenizer {
        Tokenizer::from_bytes(json.to_string()).unwrap()
    }

    fn tiny(pre_tokenizer: Value) -> Value {
        serde_json::json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": pre_tokenizer,
            "post_processor": null, "decoder": null, "truncation": null, "padding": null,
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
        })
    }

    #[test]
    fn the_table_is_whole() {
        let lines: Vec<_> = KNOWN.lines().filter(|line| !line.starts_with('#')).collect();
        for (i, line) in lines.iter().enumerate() {
            let (digest, name) = line.split_once(' ').unwrap();
            assert!(digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()), "{line}");
            assert!(!name.is_empty() && !name.contains(char::is_whitespace), "{line}");
            assert!(lines[..i].iter().all(|other| !other.starts_with(digest)), "{line}");
        }
        assert_eq!(lines.len(), 95);
    }

    #[test]
    fn an_unknown_vocabulary_is_known_by_its_rule() {
        let json =
            tiny(serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true}));
        let mut notes = Vec::new();
        assert_eq!(name(&tokenizer(&json), &json, &mut notes).unwrap(), "gpt-2");
        assert_eq!(notes.len(), 1);
    }

    #[test]
    fn an_unknown_rule_is_refused() {
        for pre_tokenizer in [
            Value::Null,
            serde_json::json!({"type": "WhitespaceSplit"}),
            serde_json::json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        ] {
            let json = tiny(pre_tokenizer);
            let error = name(&tokenizer(&json), &json, &mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("--pre NAME"), "{error}");
        }
    }
}
