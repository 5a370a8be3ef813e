//! What an answer must be like: checks, and why an answer does not pass one.

mod read;
#[cfg(test)]
mod tests;

use fancy_regex::Regex;
use serde_json::Value;

use super::schema::Schema;
use crate::Result;
use crate::eval::problem::Problem;

pub(super) use read::checks;

/// An answer of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// Its text, without special tokens.
    pub text: String,
    /// How many tokens it has, without the one that ends it.
    pub tokens: usize,
    /// Whether the model ended it, and not the limit of tokens.
    pub stopped: bool,
}

/// What an answer must be like.
#[derive(Debug, Clone)]
pub enum Check {
    /// It is this text.
    Exact(String),
    /// It has this text in it.
    Contains(String),
    /// It does not have this text in it.
    NotContains(String),
    /// This pattern is found in it.
    Regex(Pattern),
    /// It is one JSON value, with nothing before or after it: no fence, no prose.
    Json,
    /// It is JSON as [`Check::Json`] has it, and the schema accepts it.
    JsonSchema(Schema),
    /// It has at most so many characters.
    MaxLen(usize),
    /// The model ended it.
    Stop,
}

/// A regular expression, which may be found anywhere in a text.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// `Usage` if it is not a regular expression.
    pub fn new(text: &str) -> Result<Self> {
        let wrong =
            |error: fancy_regex::Error| Problem::Pattern { text: text.into(), reason: error.to_string() };
        Ok(Pattern(Regex::new(text).map_err(wrong)?))
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it is found in `text`; none if it backtracks more often than it may.
    pub(super) fn is_in(&self, text: &str) -> Option<bool> {
        self.0.is_match(text).ok()
    }
}

impl Check {
    /// Its name in files: `exact`, `json_schema`.
    pub fn name(&self) -> &'static str {
        match self {
            Check::Exact(_) => "exact",
            Check::Contains(_) => "contains",
            Check::NotContains(_) => "not_contains",
            Check::Regex(_) => "regex",
            Check::Json => "json",
            Check::JsonSchema(_) => "json_schema",
            Check::MaxLen(_) => "max_len",
            Check::Stop => "stop",
        }
    }

    /// Why an answer does not pass; none if it does.
    pub fn failure(&self, answer: &Answer) -> Option<String> {
        let text = answer.text.as_str();
        match self {
            Check::Exact(expected) => (text != expected).then(|| "is another text".into()),
            Check::Contains(part) => (!text.contains(part)).then(|| format!("does not contain `{part}`")),
            Check::NotContains(part) => text.contains(part).then(|| format!("contains `{part}`")),
            Check::Regex(pattern) => match pattern.is_in(text) {
                Some(true) => None,
                Some(false) => Some(format!("does not match `{}`", pattern.text())),
                None => Some(format!("takes too many steps to match with `{}`", pattern.text())),
            },
            Check::Json => json(text).err(),
            Check::JsonSchema(schema) => match json(text) {
                Ok(value) => schema.failure(&value),
                Err(why) => Some(why),
            },
            Check::MaxLen(most) => {
                let found = text.chars().count();
                (found > *most).then(|| format!("has {found} characters, more than {most}"))
            }
            Check::Stop => (!answer.stopped).then(|| format!("does not end within {} tokens", answer.tokens)),
        }
    }
}

/// A text that is one JSON value, or why it is not.
fn json(text: &str) -> std::result::Result<Value, String> {
    serde_json::from_str(text).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.split_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason);
        format!("is not JSON: {reason} at column {}", error.column())
    })
}
