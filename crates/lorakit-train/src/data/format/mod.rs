//! What the rows of a file mean: the formats that people have, told apart by their fields.

mod chat;
mod messages;
mod plain;

use std::fmt;

use serde_json::{Map, Value};

use super::container::Row;
use super::problem::Problem;
use crate::Result;

/// What the rows of a file mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `messages`: objects with `role` and `content`, as OpenAI has them; also `tools`.
    Messages,
    /// `conversations`: objects with `from` and `value`; also `system`, `tools`.
    ShareGpt,
    /// `instruction`, `output`; also `input`, `system`, `history`.
    Alpaca,
    /// `prompt` and `completion` (or `response`, `chosen`): two texts, or two lists of messages.
    Completion,
    /// `text`.
    Text,
    /// `input_ids`; also `labels`, `attention_mask`.
    Tokens,
}

impl Format {
    /// All, in the order in which messages list them.
    pub const ALL: [Self; 6] =
        [Self::Messages, Self::ShareGpt, Self::Alpaca, Self::Completion, Self::Text, Self::Tokens];

    /// Its name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::ShareGpt => "sharegpt",
            Self::Alpaca => "alpaca",
            Self::Completion => "completions",
            Self::Text => "text",
            Self::Tokens => "tokens",
        }
    }

    /// The fields without which a row is not of this format.
    fn fields(self) -> &'static str {
        match self {
            Self::Messages => "`messages`",
            Self::ShareGpt => "`conversations`",
            Self::Alpaca => "`instruction` and `output`",
            Self::Completion => "`prompt` and `completion`",
            Self::Text => "`text`",
            Self::Tokens => "`input_ids`",
        }
    }

    /// Whether `fields` are those of a row of this format.
    fn fits(self, fields: &Map<String, Value>) -> bool {
        let has = |name: &str| fields.get(name).is_some_and(|value| !value.is_null());
        match self {
            Self::Messages => messages::list(fields).is_some_and(|(_, list)| !messages::has_from(&list)),
            Self::ShareGpt => messages::list(fields).is_some_and(|(_, list)| messages::has_from(&list)),
            Self::Alpaca => has("instruction") && has("output"),
            Self::Completion => has("prompt") && plain::COMPLETIONS.iter().any(|name| has(name)),
            Self::Text => has("text"),
            Self::Tokens => has("input_ids"),
        }
    }

    /// The format of a file, from its first rows; none if there are no rows.
    ///
    /// # Errors
    ///
    /// A row is of no known format, or of several, or rows are of different ones: its line, and that.
    pub(super) fn detect(rows: &[Row]) -> std::result::Result<Option<Self>, (u64, Problem)> {
        let mut format = None;
        for row in rows {
            let fits: Vec<Self> = Self::ALL.into_iter().filter(|format| format.fits(&row.fields)).collect();
            let found = match (format, &fits[..]) {
                (Some(format), fits) if fits.contains(&format) => continue,
                (None, [one]) => *one,
                (_, []) => {
                    let fields = row.fields.keys().cloned().collect();
                    return Err((row.line, Problem::UnknownFormat { fields }));
                }
                (None, several) => {
                    let formats = several.iter().map(|format| format.name()).collect();
                    return Err((row.line, Problem::SeveralFormats { formats }));
                }
                (Some(format), [found, ..]) => {
                    return Err((
                        row.line,
                        Problem::OtherFormat { found: found.name(), format: format.name() },
                    ));
                }
            };
            format = Some(found);
        }
        Ok(format)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a row says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Example {
    Chat(Conversation),
    /// Texts without a template; the second is trained.
    Completion {
        prompt: String,
        completion: String,
    },
    Text(String),
    /// Tokens, and how much each counts.
    Tokens(Vec<(u32, f32)>),
}

/// Messages for a chat template.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Conversation {
    /// Objects with `role`, without what only training reads.
    pub(super) messages: Vec<Value>,
    /// What each message says about its own training.
    pub(super) weights: Vec<Option<f32>>,
    /// As many of the first messages are the prompt.
    pub(super) prompt: usize,
    pub(super) tools: Option<Value>,
    /// What the row gives the template (`chat_template_kwargs`).
    pub(super) variables: Map<String, Value>,
}

/// What a row says, and how much it counts.
pub(super) fn example(format: Format, fields: &Map<String, Value>) -> Result<(Example, f32)> {
    let weight = plain::weight(fields)?;
    let example = match format {
        Format::Messages => Example::Chat(messages::conversation(fields)?),
        Format::ShareGpt => Example::Chat(chat::sharegpt(fields)?),
        Format::Alpaca => Example::Chat(chat::alpaca(fields)?),
        Format::Completion => plain::completion(fields)?,
        Format::Text => Example::Text(plain::text(fields, "text", format)?.to_string()),
        Format::Tokens => Example::Tokens(plain::tokens(fields)?),
    };
    Ok((example, weight))
}

/// What kind of JSON value it is, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The error that `field` is of the wrong kind.
fn wrong(field: impl Into<String>, found: &Value, expected: &'static str) -> Problem {
    Problem::Field { field: field.into(), found: kind(found), expected }
}

/// The error that a row lacks a field.
fn missing(field: &'static str, format: Format) -> Problem {
    Problem::NoField { field, format: format.name(), fields: format.fields() }
}

/// A list or an object that may be written as a JSON text, as in a table.
fn parsed(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) if text.trim_start().starts_with(['[', '{']) => serde_json::from_str(text).ok(),
        Value::Array(_) | Value::Object(_) => Some(value.clone()),
        _ => None,
    }
}

/// The tools that a row offers: a list, or a JSON text of one.
fn tools(fields: &Map<String, Value>) -> Result<Option<Value>> {
    match fields.get("tools") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(value) => match parsed(value) {
            Some(Value::Array(list)) if list.is_empty() => Ok(None),
            Some(list @ Value::Array(_)) => Ok(Some(list)),
            _ => Err(wrong("tools", value, "a list, or a JSON text of one").into()),
        },
    }
}
