//! What became of a tensor whose type was chosen, for people.

use serde::Serialize;

/// A tensor with its type before and after, for people.
#[derive(Debug, Clone, Serialize)]
pub struct Chosen {
    /// Its name in the output.
    pub name: String,
    /// The type it is read from.
    pub from: &'static str,
    /// The type it is stored as.
    pub to: &'static str,
    /// Why it is stored as that type.
    pub why: String,
    /// Whether this is a fallback because the blocks of the mix's type do not divide the rows.
    pub fallback: bool,
}
