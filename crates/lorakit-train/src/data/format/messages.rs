//! Messages with roles, as OpenAI has them. They reach the template as they are, but for what only training reads.

use serde_json::{Map, Value, json};

use super::plain::number;
use super::{Conversation, Format, kind, missing, parsed, tools, wrong};
use crate::Result;
use crate::data::problem::Problem;

/// What lists of messages are called.
const LISTS: [&str; 2] = ["messages", "conversations"];

/// The list of messages of a row, whatever they look like: it may be no list.
pub(super) fn list(fields: &Map<String, Value>) -> Option<(&'static str, Value)> {
    let value = |name| fields.get(name).filter(|value| !value.is_null());
    let list = |value: &Value| parsed(value).unwrap_or_else(|| value.clone());
    LISTS.into_iter().find_map(|name| Some((name, list(value(name)?))))
}

/// Whether the first message says `from`.
pub(super) fn has_from(list: &Value) -> bool {
    list.get(0).is_some_and(|message| message.get("from").is_some())
}

/// A row of messages.
pub(super) fn conversation(fields: &Map<String, Value>) -> Result<Conversation> {
    let (name, value) = list(fields).ok_or_else(|| missing("messages", Format::Messages))?;
    with_context(messages(name, &value)?, fields)
}

/// Adds what a row says beside its messages.
pub(super) fn with_context(
    mut conversation: Conversation,
    fields: &Map<String, Value>,
) -> Result<Conversation> {
    conversation.tools = tools(fields)?;
    match fields.get("chat_template_kwargs") {
        None | Some(Value::Null) => {}
        Some(value) => match parsed(value) {
            Some(Value::Object(variables)) => conversation.variables = variables,
            _ => return Err(wrong("chat_template_kwargs", value, "an object").into()),
        },
    }
    Ok(conversation)
}

/// The messages of the list `value`, which is called `name`.
pub(super) fn messages(name: &str, value: &Value) -> Result<Conversation> {
    let mut conversation = Conversation::default();
    let list = parsed(value);
    let Some(list) = list.as_ref().and_then(Value::as_array) else {
        return Err(wrong(name, value, "a list of messages").into());
    };
    if list.is_empty() {
        return Err(Problem::NoMessages { field: name.to_string() }.into());
    }
    for (at, value) in list.iter().enumerate() {
        let path = format!("{name}[{at}]");
        let Value::Object(message) = value else { return Err(wrong(path, value, "an object").into()) };
        let (message, weight) = one(&path, message.clone())?;
        conversation.messages.push(message);
        conversation.weights.push(weight);
    }
    Ok(conversation)
}

/// A message without what only training reads, and that.
pub(super) fn one(path: &str, mut message: Map<String, Value>) -> Result<(Value, Option<f32>)> {
    // Tools that store rows in columns write keys of other rows as null.
    message.retain(|key, value| key == "content" || !value.is_null());
    let role = match message.get("role") {
        Some(Value::String(role)) => role.clone(),
        Some(other) => return Err(wrong(format!("{path}.role"), other, "a text").into()),
        None => return Err(Problem::NoRole { message: path.to_string() }.into()),
    };
    let weight = weight(path, &role, &mut message)?;
    if let Some(call) = message.shift_remove("function_call") {
        message.insert("tool_calls".into(), json!([{"type": "function", "function": call}]));
    }
    if let Some(calls) = message.get_mut("tool_calls") {
        let field = format!("{path}.tool_calls");
        let Some(calls) = calls.as_array_mut() else { return Err(wrong(field, calls, "a list").into()) };
        for (at, call) in calls.iter_mut().enumerate() {
            arguments(&format!("{field}[{at}]"), call)?;
        }
    }
    let calls = message.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty());
    match message.get("content") {
        Some(Value::String(_)) => {}
        Some(Value::Array(parts)) => {
            for (at, part) in parts.iter().enumerate() {
                let field = format!("{path}.content[{at}]");
                let found = part["type"].as_str().unwrap_or(kind(part)).to_string();
                if part["text"].as_str().is_none() || found != "text" {
                    return Err(Problem::Part { field, found }.into());
                }
            }
        }
        None | Some(Value::Null) if calls => {}
        None | Some(Value::Null) => return Err(Problem::NoContent { message: path.to_string() }.into()),
        Some(other) => {
            return Err(wrong(format!("{path}.content"), other, "a text or a list of parts").into());
        }
    }
    Ok((message.into(), weight))
}

/// What a message says about its own training: `train`, or `weight` as OpenAI has it.
fn weight(path: &str, role: &str, message: &mut Map<String, Value>) -> Result<Option<f32>> {
    if message.contains_key("train_detail") {
        return Err(Problem::TrainDetail { message: path.to_string() }.into());
    }
    let train = match message.shift_remove("train") {
        None => None,
        Some(Value::Bool(train)) => Some(f32::from(u8::from(train))),
        Some(other) => return Err(wrong(format!("{path}.train"), &other, "true or false").into()),
    };
    let weight = match message.shift_remove("weight") {
        None => None,
        Some(value) => Some(number(&format!("{path}.weight"), &value)?),
    };
    let weight = match (train, weight) {
        (Some(train), Some(weight)) => Some(train * weight),
        (train, weight) => train.or(weight),
    };
    if role != "assistant" && weight.is_some_and(|weight| weight != 0.0) {
        return Err(Problem::TrainedRole { message: path.to_string(), role: role.to_string() }.into());
    }
    Ok(weight)
}

/// Arguments of a call are an object for templates; OpenAI writes them as a text.
fn arguments(path: &str, call: &mut Value) -> Result<()> {
    let inner = call.get("function").is_some();
    let function = if inner { &mut call["function"] } else { &mut *call };
    let name = if inner { ".function" } else { "" };
    let Some(function) = function.as_object_mut() else {
        return Err(wrong(format!("{path}{name}"), function, "an object").into());
    };
    if !function.get("name").is_some_and(Value::is_string) {
        return Err(Problem::NoName { call: path.to_string() }.into());
    }
    let arguments = function.entry("arguments").or_insert_with(|| json!({}));
    let object = match &*arguments {
        Value::Object(_) => return Ok(()),
        Value::String(text) if text.trim().is_empty() => Some(Value::Object(Map::new())),
        Value::String(text) => serde_json::from_str(text).ok().filter(Value::is_object),
        _ => None,
    };
    match object {
        Some(object) => *arguments = object,
        None => {
            let field = format!("{path}{name}.arguments");
            return Err(wrong(field, arguments, "an object, or a JSON text of one").into());
        }
    }
    Ok(())
}
