//! What became of a tensor where types were chosen, for people.

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
    /// Why.
    pub why: String,
    /// Whether rows did not divide into blocks of the type of the mix.
    pub fallback: bool,
}
