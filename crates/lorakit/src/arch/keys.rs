//! Which entries of `config.json` become which metadata of GGUF files.

use std::sync::LazyLock;

use serde::Deserialize;

/// The metadata that most families have.
static COMMON: LazyLock<Vec<Entry>> =
    LazyLock::new(|| serde_json::from_str(include_str!("data/common.json")).expect("built-in data is valid"));

/// One or some keys.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Entry {
    /// A value that is taken over.
    Rule(KeyRule),
    /// Values that take more than a rule.
    Named(Named),
}

/// Keys that are not taken over one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Named {
    /// What most families have.
    Common,
    /// How positions are scaled.
    RopeScaling,
    /// The base of rotary frequencies.
    RopeBase,
    /// `rope.dimension_count`, where part of each head is rotated.
    RotaryDimensions,
    /// `general.file_type`.
    FileType,
}

/// A value that is taken over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRule {
    /// The key, without the family's prefix.
    pub(crate) key: String,
    /// Its type.
    #[serde(rename = "type")]
    pub(crate) kind: KeyType,
    /// Entries of `config.json`, of which the first that is there counts; `a/b` divides one by another.
    pub(crate) from: Vec<String>,
    /// llama.cpp does not load a file without the key.
    #[serde(default)]
    pub(crate) required: bool,
    /// The value where none is there; without it, the key is left out.
    #[serde(default)]
    pub(crate) otherwise: Option<serde_json::Value>,
}

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyType {
    U32,
    F32,
}

/// The metadata that most families have.
pub(crate) fn common() -> &'static [Entry] {
    &COMMON
}
