//! What would crash the library that reads `tokenizer.json`, refused before it reads it.

use lorakit_tensor::problem::excerpt;
use serde_json::Value;

use super::merge::pair;
use super::problem::Problem;
use crate::Result;

/// Refuses a `tokenizer.json` that would crash the library which reads it. That the file is JSON must be known: the
/// library panics on a decoder that is not.
///
/// # Errors
/// `File` if a merge is longer than every token, or lacks the prefix of parts of words; `Unsupported` if text is
/// replaced by a compiled table.
pub fn check(tokenizer: &Value) -> Result<()> {
    if is_compiled(&tokenizer["normalizer"]) {
        return Err(Problem::Compiled.into());
    }
    merges(&tokenizer["model"])
}

/// Whether a table of SentencePiece is in `normalizer`: the library follows its offsets without looking where they
/// lead. The families that lorakit knows have none.
fn is_compiled(normalizer: &Value) -> bool {
    match normalizer {
        Value::Object(fields) => {
            fields.get("type").is_some_and(|kind| kind == "Precompiled") || fields.values().any(is_compiled)
        }
        Value::Array(several) => several.iter().any(is_compiled),
        _ => false,
    }
}

/// Refuses merges that would crash the library: it copies both tokens, the second without its subword prefix, to a
/// buffer of the size of the longest token before it checks whether they form a token.
fn merges(model: &Value) -> Result<()> {
    let longest =
        model["vocab"].as_object().and_then(|vocab| vocab.keys().map(String::len).max()).unwrap_or(0);
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
    let fits = |left: &str, right: &str| {
        right.strip_prefix(prefix).is_some_and(|rest| left.len() + rest.len() <= longest)
    };
    // What is not two texts, the library refuses by itself.
    let crashes = |merge: &&Value| match merge {
        Value::String(merge) => merge.split_once(' ').is_some_and(|(left, right)| !fits(left, right)),
        Value::Array(sides) => match &sides[..] {
            [Value::String(left), Value::String(right)] => !fits(left, right),
            _ => false,
        },
        _ => false,
    };
    match model["merges"].as_array().into_iter().flatten().find(crashes) {
        Some(merge) => Err(Problem::Merge {
            merge: excerpt(&pair(merge).unwrap_or_default()).escape_debug().to_string(),
        }
        .into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::check;

    /// The library would subtract with overflow, or write behind its buffer.
    #[test]
    fn merges_that_would_crash_the_library_are_refused() {
        let vocab = json!({"a": 0, "b": 1, "ab": 2, "\u{2581}b": 3, "aaa": 4});
        let check = |prefix: &serde_json::Value, merge: &serde_json::Value| {
            let model = json!({"continuing_subword_prefix": prefix, "vocab": vocab, "merges": [merge]});
            check(&json!({ "model": model }))
        };
        for (prefix, merge) in [
            (json!(null), json!("a b")),
            (json!(""), json!(["a", "b"])),
            (json!("\u{2581}"), json!(["a", "\u{2581}b"])),
            (json!(null), json!(7)),
        ] {
            assert!(check(&prefix, &merge).is_ok(), "{prefix} {merge}");
        }
        for (prefix, merge) in [
            (json!("long"), json!("a b")),
            (json!(null), json!(["aaa", "ab"])),
            (json!(null), json!("ab \u{2581}b")),
        ] {
            let error = check(&prefix, &merge).expect_err("it would crash");
            assert!(error.to_string().contains("is not two tokens that form a third"), "{error}");
        }
        assert!(check(&json!(null), &json!(null)).is_ok());
    }

    /// The library would panic on one that is damaged, when it reads it or when it uses it.
    #[test]
    fn compiled_tables_are_refused() {
        let compiled = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"});
        let lower = json!({"type": "Lowercase"});
        for normalizer in [compiled.clone(), json!({"type": "Sequence", "normalizers": [lower, compiled]})] {
            assert!(check(&json!({ "normalizer": normalizer })).is_err());
        }
        assert!(check(&json!({ "normalizer": lower })).is_ok());
    }
}
