//! Files that travel along but are not what their names say: they are copied unchanged, and reported.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lorakit_tensor::{ErrorKind as FileErrorKind, Reader, json, stranger};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::model::tokenizer::is_sentence_piece;
use crate::plan::Content;
use crate::{Finding, Result, Severity};

/// Files that hold one JSON object. Other `.json` files are only known to be JSON.
const OBJECTS: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "chat_template.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
];
/// Endings of text files that a tokenizer needs.
const TEXTS: &[&str] = &[".jinja", "merges.txt", "vocab.txt"];
/// Endings of files that may begin like a web page.
const MARKUP: &[&str] = &[".html", ".htm", ".xhtml", ".xml", ".svg", ".md"];

/// Enough bytes of a file to recognise a web page or a git-lfs pointer.
const HEAD: u64 = 1 << 10;
/// The largest file that is checked, in bytes; tokenizers have at most 35 MB.
const LIMIT: u64 = 256 << 20;

/// Returns findings about those of `files` that are copied.
///
/// # Errors
/// As [`Reader::side_file`].
pub(crate) fn doubts(files: &BTreeMap<PathBuf, Content>, reader: &Reader) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (name, content) in files {
        let Content::CopyOf(path) = content else { continue };
        let looked_into = kind(name).is_some() && reader.side_file(path)? <= LIMIT;
        let bytes = if looked_into { reader.bytes(path, LIMIT)? } else { reader.head(path, HEAD)? };
        let found = stranger_in(name, &bytes).or_else(|| doubt(name, &bytes).filter(|_| looked_into));
        if let Some(doubt) = found {
            let message = format!("{doubt}; it is copied as it is");
            findings.push(Finding::new(Severity::Warning, "side-file", &path.display().to_string(), message));
        }
    }
    Ok(findings)
}

/// What the content of a file must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Object,
    Json,
    SentencePiece,
    Text,
}

fn kind(name: &Path) -> Option<Kind> {
    let name = name.file_name().unwrap_or_default();
    if OBJECTS.iter().any(|object| name == *object) {
        return Some(Kind::Object);
    }
    if ends_with(name, ".json") {
        return Some(Kind::Json);
    }
    if ends_with(name, ".model") {
        return Some(Kind::SentencePiece);
    }
    TEXTS.iter().any(|ending| ends_with(name, ending)).then_some(Kind::Text)
}

fn ends_with(name: &OsStr, ending: &str) -> bool {
    name.as_bytes().ends_with(ending.as_bytes())
}

/// Why the file `name` cannot be right, whatever its kind: it is a web page, for example.
fn stranger_in(name: &Path, bytes: &[u8]) -> Option<String> {
    let markup = MARKUP.iter().any(|ending| ends_with(name.as_os_str(), ending));
    let found = stranger(bytes).filter(|found| !(markup && found.kind() == FileErrorKind::Html))?;
    Some(found.to_string())
}

/// Reads JSON as Python does, whose numbers may be NaN and infinite.
fn checked(bytes: &[u8]) -> serde_json::Result<Checked> {
    let strict = serde_json::from_slice(bytes);
    strict.or_else(|error| json::standard(bytes).map_or(Err(error), |text| serde_json::from_slice(&text)))
}

/// Why the file `name`, with all its `bytes`, is not what its name says.
fn doubt(name: &Path, bytes: &[u8]) -> Option<String> {
    let kind = kind(name)?;
    if bytes.is_empty() {
        return Some("is empty (0 bytes)".into());
    }
    match kind {
        Kind::Object | Kind::Json => match checked(bytes) {
            Err(error) => Some(format!("is not valid JSON: {error}")),
            Ok(_) if kind == Kind::Object && !bytes.trim_ascii_start().starts_with(b"{") => {
                Some("is JSON, but not an object".into())
            }
            Ok(_) => None,
        },
        Kind::SentencePiece => (!is_sentence_piece(bytes) && !is_token_list(bytes))
            .then(|| "is neither a SentencePiece model nor a list of tokens (tiktoken)".into()),
        Kind::Text => std::str::from_utf8(bytes).is_err().then(|| "is not UTF-8 text".into()),
    }
}

/// JSON that is parsed to its end but not kept: as values, a vocabulary would take many times its size.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Checked)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Checked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, _: bool) -> std::result::Result<Checked, E> {
        Ok(Checked)
    }
    fn visit_i64<E>(self, _: i64) -> std::result::Result<Checked, E> {
        Ok(Checked)
    }
    fn visit_u64<E>(self, _: u64) -> std::result::Result<Checked, E> {
        Ok(Checked)
    }
    fn visit_f64<E>(self, _: f64) -> std::result::Result<Checked, E> {
        Ok(Checked)
    }
    fn visit_str<E>(self, _: &str) -> std::result::Result<Checked, E> {
        Ok(Checked)
    }
    fn visit_unit<E>(self) -> std::result::Result<Checked, E> {
        Ok(Checked)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Checked, A::Error> {
        while let Some(Checked) = seq.next_element()? {}
        Ok(Checked)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Checked, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let Checked = map.next_value()?;
            if let Some(twice) = keys.replace(key) {
                return Err(A::Error::custom(format!("key `{}` appears twice", twice.escape_debug())));
            }
        }
        Ok(Checked)
    }
}

/// Whether the first line is in tiktoken's format: a token in Base64, and its number.
fn is_token_list(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let Some((token, number)) =
        std::str::from_utf8(line).ok().and_then(|line| line.trim_end().split_once(' '))
    else {
        return false;
    };
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    !token.is_empty() && token.chars().all(base64) && number.parse::<u32>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, bytes: &[u8]) -> Option<String> {
        let name = Path::new(name);
        stranger_in(name, bytes).or_else(|| doubt(name, bytes))
    }

    #[test]
    fn what_a_name_promises_is_looked_for() {
        let piece: &[u8] = &[0x0a, 4, 0x0a, 2, b'a', b'b'];
        for (name, bytes) in [
            ("tokenizer.json", &b"{\"a\": [1, 1.5, -1, null, true, {\"b\": \"\"}]}"[..]),
            ("modules.json", b"[]"),
            ("generation_config.json", b"{\"a\": NaN, \"b\": [-Infinity]}"),
            ("tokenizer.model", piece),
            ("tiktoken.model", b"IQ== 0\nIg== 1\n"),
            ("chat_template.jinja", b"{{ messages }}"),
            ("README.md", b"<html>"),
            ("LICENSE", b""),
            ("model.png", &[0xff; 10]),
            ("nested/merges.txt", "#version: 0.2\n\u{120} t".as_bytes()),
        ] {
            assert_eq!(found(name, bytes), None, "{name}");
        }
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n";
        for (name, bytes, needed) in [
            (
                "tokenizer.json",
                &b"{\"a\": "[..],
                "is not valid JSON: EOF while parsing a value at line 1 column 6",
            ),
            ("tokenizer.json", b"[]", "is JSON, but not an object"),
            (
                "vocab.json",
                b"{\"a\": 1, \"a\": 2}",
                "is not valid JSON: key `a` appears twice at line 1 column 16",
            ),
            ("tokenizer.json", b"", "is empty (0 bytes)"),
            (
                "generation_config.json",
                b"{\"a\": \"\xff\"}",
                "is not valid JSON: invalid unicode code point at line 1 column",
            ),
            ("tokenizer_config.json", b"<!DOCTYPE html>", "is a web page, not the file it should be"),
            ("tokenizer.model", pointer, "is a git-lfs pointer of a few bytes, not the file itself"),
            ("logo.png", pointer, "is a git-lfs pointer of a few bytes, not the file itself"),
            ("README.md", pointer, "is a git-lfs pointer of a few bytes, not the file itself"),
            ("notes", b"<html>", "is a web page, not the file it should be"),
            (
                "tokenizer.model",
                &piece[..5],
                "is neither a SentencePiece model nor a list of tokens (tiktoken)",
            ),
            ("chat_template.jinja", b"", "is empty (0 bytes)"),
            ("nested/merges.txt", &[0xff], "is not UTF-8 text"),
        ] {
            let found = found(name, bytes).unwrap_or_default();
            assert!(found.starts_with(needed), "{name}: {found}");
        }
    }
}
