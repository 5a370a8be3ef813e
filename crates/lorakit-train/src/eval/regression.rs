//! Regression files: prompts with checks that answers must pass, one JSON object on each line.
//!
//! ```text
//! {"name": "greeting", "prompt": "Hello", "checks": {"max_len": 80, "stop": true}}
//! {"messages": [{"role": "user", "content": "3 + 4?"}], "checks": {"contains": "7"}, "must": true}
//! ```

use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use super::check::{Check, checks};
use super::problem::Problem;
use crate::data::Text;
use crate::{Error, Result};

/// The fields of an item.
const FIELDS: [&str; 6] = ["name", "prompt", "messages", "tools", "checks", "must"];

/// Something that a model must still do.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// What it is called, or the line that it is on.
    pub(super) name: String,
    pub(super) line: u64,
    asked: Asked,
    pub(super) checks: Vec<Check>,
    /// Whether it fails the command if an answer does not pass.
    pub(super) must: bool,
}

/// What is asked.
#[derive(Debug, Clone)]
enum Asked {
    /// A text, without the template.
    Text(String),
    Messages {
        messages: Vec<Value>,
        tools: Option<Value>,
    },
}

impl Item {
    /// The tokens that are answered.
    ///
    /// # Errors
    /// As [`Text::prompt`]; if they leave no room in the context.
    pub(super) fn prompt(&self, text: &Text, context: usize) -> Result<Vec<u32>> {
        let tokens = match &self.asked {
            Asked::Text(prompt) => text.plain(prompt)?,
            Asked::Messages { messages, tools } => text.prompt(messages, tools.as_ref())?,
        };
        match tokens.len() < context && !tokens.is_empty() {
            true => Ok(tokens),
            false => Err(Problem::LongPrompt { tokens: tokens.len(), context }.into()),
        }
    }
}

/// Reads a regression file.
///
/// # Errors
/// If it cannot be read; for the first item that is not one, with its line; if there are none.
pub(super) fn read(path: &Path) -> Result<Vec<Item>> {
    let io = |doing, error| Error::from(lorakit_tensor::Error::io(doing, path, error));
    let file = crate::files::open(path).map_err(|error| io("open", error))?;
    let mut items = Vec::new();
    for (at, line) in BufReader::new(file).lines().enumerate() {
        let (line, number) = (line.map_err(|error| io("read", error))?, at as u64 + 1);
        if !line.trim().is_empty() {
            items.push(item(&line, number).map_err(|error| error.at(path).line(number))?);
        }
    }
    if items.is_empty() { Err(Error::from(Problem::NoItems).at(path)) } else { Ok(items) }
}

fn item(text: &str, line: u64) -> Result<Item> {
    let wrong = |error: serde_json::Error| Problem::NotJson { reason: error.to_string() };
    let Value::Object(object) = serde_json::from_str(text).map_err(wrong)? else {
        return Err(Problem::NotAnItem.into());
    };
    if let Some(found) = object.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        return Err(Problem::ItemField { found: found.clone(), known: FIELDS.to_vec() }.into());
    }
    let value = |field: &'static str, expected| Problem::ItemValue { field, expected };
    let asked = match (object.get("prompt"), object.get("messages")) {
        (Some(Value::String(prompt)), None) => Asked::Text(prompt.clone()),
        (Some(_), None) => return Err(value("prompt", "a text").into()),
        (None, Some(Value::Array(messages))) if !messages.is_empty() => {
            Asked::Messages { messages: messages.clone(), tools: object.get("tools").cloned() }
        }
        (None, Some(_)) => return Err(value("messages", "a list of messages").into()),
        _ => return Err(Problem::ItemPrompt.into()),
    };
    let found = match object.get("checks") {
        Some(Value::Object(found)) => checks(found)?,
        Some(_) => return Err(value("checks", "an object").into()),
        None => Vec::new(),
    };
    if found.is_empty() {
        return Err(Problem::NoChecks.into());
    }
    let name = match object.get("name") {
        Some(Value::String(name)) => name.clone(),
        None => format!("line {line}"),
        Some(_) => return Err(value("name", "a text").into()),
    };
    let must = match object.get("must") {
        Some(Value::Bool(must)) => *must,
        None => false,
        Some(_) => return Err(value("must", "true or false").into()),
    };
    Ok(Item { name, line, asked, checks: found, must })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn items_are_read_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("items.jsonl");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            read(&path)
        };
        let items = read(
            "{\"prompt\": \"a\", \"checks\": {\"stop\": true, \"regex\": [\"b\", \"c\"]}}\n\n\
             {\"name\": \"n\", \"messages\": [{\"role\": \"user\"}], \"must\": true, \"checks\": {\"json\": true}}\n",
        );
        let items = items.unwrap();
        let told: Vec<_> = items.iter().map(|i| (i.name.as_str(), i.line, i.must, i.checks.len())).collect();
        assert_eq!(told, [("line 1", 1, false, 3), ("n", 3, true, 1)]);
        let refused = [
            "",
            "[1]",
            "{\"prompt\": \"a\"}",
            "{\"prompt\": \"a\", \"checks\": {}}",
            "{\"prompt\": \"a\", \"checks\": {\"json\": false}}",
            "{\"prompt\": \"a\", \"checks\": {\"equals\": 1}}",
            "{\"prompt\": \"a\", \"check\": {\"json\": true}}",
            "{\"checks\": {\"json\": true}}",
            "{\"prompt\": \"a\", \"messages\": [], \"checks\": {\"json\": true}}",
            "{\"messages\": [], \"checks\": {\"json\": true}}",
            "{\"prompt\": \"a\", \"must\": 1, \"checks\": {\"json\": true}}",
        ];
        let told = refused.map(|text| {
            let error = read(text).unwrap_err().to_string();
            error.split_once("items.jsonl").unwrap().1.to_string()
        });
        insta::assert_snapshot!(told.join("\n"));
    }
}
