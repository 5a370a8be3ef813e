//! Maps entries of `config.json` to metadata of GGUF files.

use std::sync::LazyLock;

use serde::Deserialize;

/// The metadata that most families have.
static COMMON: LazyLock<Vec<Entry>> =
    LazyLock::new(|| serde_json::from_str(include_str!("data/common.json")).expect("built-in data is valid"));

/// One key, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Entry {
    /// A value that is copied.
    Rule(KeyRule),
    /// Values that need more than a rule.
    Named(Named),
}

/// Groups of keys that are not copied one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Named {
    /// The metadata that most families have.
    Common,
    /// The scaling of positions.
    RopeScaling,
    /// The base of rotary frequencies.
    RopeBase,
    /// `rope.dimension_count`, if only part of each head is rotated.
    RotaryDimensions,
    /// `general.file_type`.
    FileType,
}

/// A value that is copied.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRule {
    /// The key, without the family's prefix.
    pub(crate) key: String,
    /// Its type.
    #[serde(rename = "type")]
    pub(crate) kind: KeyType,
    /// Entries of `config.json`; the first one that is present counts. `a/b` divides one entry by another.
    pub(crate) from: Vec<String>,
    /// Whether the key is required, because llama.cpp does not load a file without it.
    #[serde(default)]
    pub(crate) required: bool,
    /// The default if no entry is present; without a default, the key is left out.
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
