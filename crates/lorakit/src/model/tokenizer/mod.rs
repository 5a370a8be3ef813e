//! Tokenizers: from GGUF metadata to the files of a Hugging Face folder, and back.

pub(in crate::model) mod from_gguf;
mod problem;
pub(in crate::model) mod to_gguf;

pub(crate) use problem::Problem;
pub(crate) use to_gguf::is_sentence_piece;

/// Refuses a `tokenizer.json` that would crash the library which reads it.
///
/// # Errors
/// `File` if a merge is longer than every token, or lacks the prefix of parts of words.
pub fn check(bytes: &[u8]) -> crate::Result<()> {
    // The library says of itself what is not JSON.
    let json: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    to_gguf::check_merges(&json["model"])
}

#[cfg(test)]
mod tests {
    use super::check;

    /// The library would subtract with overflow, or write behind its buffer.
    #[test]
    fn merges_that_would_crash_the_library_are_refused() {
        let model = |prefix: &str, merges: &str| {
            let vocab = r#"{"a": 0, "b": 1, "ab": 2, "\u2581b": 3, "aaa": 4}"#;
            format!(
                r#"{{"model": {{"continuing_subword_prefix": {prefix}, "vocab": {vocab}, "merges": [{merges}]}}}}"#
            )
        };
        for (prefix, merges) in [
            ("null", r#""a b""#),
            ("\"\"", r#"["a", "b"]"#),
            ("\"\u{2581}\"", r#"["a", "\u2581b"]"#),
            ("null", "7"),
        ] {
            assert!(check(model(prefix, merges).as_bytes()).is_ok(), "{prefix} {merges}");
        }
        for (prefix, merges) in
            [("\"long\"", r#""a b""#), ("null", r#"["aaa", "ab"]"#), ("null", r#""ab \u2581b""#)]
        {
            let error = check(model(prefix, merges).as_bytes()).expect_err(merges);
            assert!(error.to_string().contains("is not two tokens that form a third"), "{error}");
        }
        assert!(check(b"not JSON").is_ok());
    }
}
