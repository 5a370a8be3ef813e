//! Patterns of names: `meta-llama/*`.

use std::fmt;

use glob::{MatchOptions, Pattern};

/// A pattern in which `*` stands for any text, `/` included, `?` for one character, and `[ab]` for one of these. Case
/// does not matter: names on the hub never differ by it alone.
#[derive(Debug, Clone)]
pub(super) struct Glob(Pattern);

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: false,
    require_literal_separator: false,
    require_literal_leading_dot: false,
};

impl Glob {
    /// # Errors
    /// Why `text` is not a pattern.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; `*` stands for any text".into());
        }
        Pattern::new(text).map(Glob).map_err(|error| format!("is not a pattern: {}", error.msg))
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        self.0.matches_with(text, OPTIONS)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}
