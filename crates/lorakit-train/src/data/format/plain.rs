//! Rows without messages, and the weight that any row may have.

use serde_json::{Map, Value};

use super::{Example, Format, messages, missing, parsed, wrong};
use crate::Result;
use crate::data::problem::Problem;

/// What the answer to a prompt is called.
pub(super) const COMPLETIONS: [&str; 3] = ["completion", "response", "chosen"];

/// How much a row counts.
pub(super) fn weight(fields: &Map<String, Value>) -> Result<f32> {
    match fields.get("weight") {
        None | Some(Value::Null) => Ok(1.0),
        Some(value) => number("weight", value),
    }
}

/// A number from 0 on; tables have them as texts.
pub(super) fn number(field: &str, value: &Value) -> Result<f32> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        _ => value.as_f64().map(|number| number as f32),
    };
    match number {
        Some(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => {
            let found = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            Err(Problem::Weight { field: field.to_string(), found }.into())
        }
    }
}

pub(super) fn text<'a>(
    fields: &'a Map<String, Value>,
    name: &'static str,
    format: Format,
) -> Result<&'a str> {
    match fields.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(value) if !value.is_null() => Err(wrong(name, value, "a text").into()),
        _ => Err(missing(name, format).into()),
    }
}

/// A prompt and what follows it: two texts, or two lists of messages.
pub(super) fn completion(fields: &Map<String, Value>) -> Result<Example> {
    let format = Format::Completion;
    let name = COMPLETIONS.into_iter().find(|name| fields.get(*name).is_some_and(|value| !value.is_null()));
    let name = name.ok_or_else(|| missing(COMPLETIONS[0], format))?;
    let prompt =
        fields.get("prompt").filter(|value| !value.is_null()).ok_or_else(|| missing("prompt", format))?;
    if let (Value::String(prompt), Value::String(completion)) = (prompt, &fields[name]) {
        return Ok(Example::Completion { prompt: prompt.clone(), completion: completion.clone() });
    }
    let mut conversation = messages::messages("prompt", prompt)?;
    let answer = messages::messages(name, &fields[name])?;
    conversation.prompt = conversation.messages.len();
    conversation.messages.extend(answer.messages);
    conversation.weights.extend(answer.weights);
    messages::with_context(conversation, fields).map(Example::Chat)
}

/// Tokens, and how much each counts: 0 where its label is -100, as in transformers.
pub(super) fn tokens(fields: &Map<String, Value>) -> Result<Vec<(u32, f32)>> {
    let tokens = integers(fields, "input_ids")?.ok_or_else(|| missing("input_ids", Format::Tokens))?;
    let count = tokens.len();
    let column = |name: &'static str| -> Result<Option<Vec<i64>>> {
        match integers(fields, name)? {
            Some(column) if column.len() != count => {
                Err(Problem::Lengths { field: name, found: column.len(), expected: count }.into())
            }
            column => Ok(column),
        }
    };
    let labels = column("labels")?;
    let attended = column("attention_mask")?;
    let mut kept = Vec::with_capacity(count);
    for (at, token) in tokens.into_iter().enumerate() {
        let id = u32::try_from(token).map_err(|_| Problem::Id { at, found: token })?;
        let label = labels.as_ref().map_or(token, |labels| labels[at]);
        if label != token && label != -100 {
            return Err(Problem::Label { at, found: label, expected: token }.into());
        }
        if attended.as_ref().is_none_or(|attended| attended[at] != 0) {
            kept.push((id, if label == -100 { 0.0 } else { 1.0 }));
        }
    }
    Ok(kept)
}

fn integers(fields: &Map<String, Value>, name: &'static str) -> Result<Option<Vec<i64>>> {
    let Some(value) = fields.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let list = parsed(value);
    let list = list.as_ref().and_then(Value::as_array);
    let integers = list.and_then(|list| list.iter().map(Value::as_i64).collect::<Option<Vec<i64>>>());
    integers.map(Some).ok_or_else(|| wrong(name, value, "a list of integers").into())
}
