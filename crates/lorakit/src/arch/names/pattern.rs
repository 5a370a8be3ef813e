//! Regular expressions for names that a user gives.

use std::fmt;
use std::str::FromStr;

use crate::arch::problem::Problem;
use crate::{Error, Result};

/// A regular expression for some part of a name: of a tensor, or of a module's path.
#[derive(Debug, Clone)]
pub struct NamePattern(fancy_regex::Regex);

impl NamePattern {
    /// Whether some part of `name` matches. A pattern that gives up on a name does not match it.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.is_match(name).unwrap_or(false)
    }

    /// The expression as it was given.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for NamePattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        fancy_regex::Regex::new(text)
            .map(NamePattern)
            .map_err(|error| Problem::Pattern { pattern: text.to_string(), why: error.to_string() }.into())
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
