//! The name of the rule that cuts text before merging: `tokenizer.ggml.pre`.
//!
//! llama.cpp knows rules by name. To find the rule of a `tokenizer.json`, one text is encoded: the digest of the ids
//! names the rule (table and text are those of llama.cpp's converter, MIT). A tokenizer that is not in the table,
//! because its vocabulary is new, is recognised by its `pre_tokenizer`.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use crate::model::tokenizer::Problem;
use crate::model::tokenizer::from_gguf::Split;
use crate::{Error, Result};

/// Lines of `digest name origin`.
const DIGESTS: &str = include_str!("data/pre.txt");
/// Every name that llama.cpp gives a rule for byte-level BPE: `src/llama-vocab.cpp` of llama-cpp-python 0.3.36. It
/// refuses to load a file with another.
const NAMES: &str = include_str!("data/pre_names.txt");
/// The text to encode.
const TEXT: &str = include_str!("data/reference.txt");

/// The rule's name: `given`, or the one found from the tokenizer.
///
/// # Errors
/// `Unsupported` if the rule cannot be found.
pub(in crate::model) fn name(given: Option<&str>, tokenizer: &Tokenizer, json: &Value) -> Result<String> {
    if let Some(given) = given {
        return match NAMES.lines().any(|name| name == given) {
            true => Ok(given.to_string()),
            false => Err(Problem::NoRule { name: given.to_string(), known: NAMES.lines().collect() }.into()),
        };
    }
    let encoded = tokenizer.encode(TEXT, true).map_err(unreadable)?;
    let digest = digest(encoded.get_ids());
    let known =
        DIGESTS.lines().find_map(|line| line.strip_prefix(digest.as_str())?.split_whitespace().next());
    if let Some(name) = known.or_else(|| Split::of_pre_tokenizer(&json["normalizer"], &json["pre_tokenizer"]))
    {
        return Ok(name.to_string());
    }
    Err(Problem::Rule { digest: digest[..16].to_string() }.into())
}

/// SHA-256 of `[1, 2, 3]`, in hexadecimal digits.
fn digest(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    let digest = Sha256::digest(format!("[{}]", ids.join(", ")));
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The error for a `tokenizer.json` that the library refuses.
pub(super) fn unreadable(error: tokenizers::Error) -> Error {
    Problem::Unreadable { reason: error.to_string() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_are_found_have_names_that_are_known() {
        // Those of WordPiece, which has no rule.
        let other = |name: &str| name.starts_with("bert-bge") || name == "jina-v2-en";
        for line in DIGESTS.lines() {
            let name = line.split(' ').nth(1).expect("a name");
            assert!(other(name) || NAMES.lines().any(|known| known == name), "{name}");
        }
        let mut sorted: Vec<&str> = NAMES.lines().collect();
        sorted.sort_unstable();
        assert!(sorted.iter().eq(&NAMES.lines().collect::<Vec<_>>()));
    }

    #[test]
    fn the_digest_is_that_of_a_python_list() {
        assert_eq!(digest(&[]), "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945");
        for line in DIGESTS.lines() {
            let [digest, _, _] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            assert_eq!(digest.len(), 64);
        }
    }
}
