//! Conversations that are not written as messages.

use serde_json::{Map, Value, json};

use super::{Conversation, Format, messages, missing, parsed, plain, tools, wrong};
use crate::Result;
use crate::data::problem::Problem;

/// ShareGPT: `from` and `value`.
pub(super) fn sharegpt(fields: &Map<String, Value>) -> Result<Conversation> {
    let format = Format::ShareGpt;
    let (name, list) = messages::list(fields).ok_or_else(|| missing("conversations", format))?;
    let Some(list) = list.as_array() else { return Err(wrong(name, &list, "a list of messages").into()) };
    let mut all = Vec::new();
    if let Some(system) = optional(fields, "system")? {
        all.push(json!({"role": "system", "content": system}));
    }
    let before = all.len();
    for (at, value) in list.iter().enumerate() {
        let path = format!("{name}[{at}]");
        let Value::Object(message) = value else { return Err(wrong(path, value, "an object").into()) };
        all.push(turn(&path, message.clone())?);
    }
    if all.len() == before {
        return Err(Problem::NoMessages { field: name.to_string() }.into());
    }
    let mut conversation = messages::messages(name, &all.into())?;
    conversation.tools = tools(fields)?.map(wrapped);
    Ok(conversation)
}

/// A message of ShareGPT as one of OpenAI.
fn turn(path: &str, mut message: Map<String, Value>) -> Result<Value> {
    let from = match message.shift_remove("from") {
        Some(Value::String(from)) => from,
        Some(other) => return Err(wrong(format!("{path}.from"), &other, "a text").into()),
        None => return Err(Problem::NoRole { message: path.to_string() }.into()),
    };
    let Some(value) = message.shift_remove("value").or_else(|| message.shift_remove("content")) else {
        return Err(Problem::NoContent { message: path.to_string() }.into());
    };
    let role = match from.as_str() {
        "human" | "user" => "user",
        "gpt" | "assistant" | "model" | "chatgpt" | "bing" | "bard" | "function_call" => "assistant",
        "system" => "system",
        "observation" | "tool" | "function_response" => "tool",
        _ => return Err(Problem::From { field: format!("{path}.from"), found: from }.into()),
    };
    message.insert("role".into(), role.into());
    if from == "function_call" {
        let calls = match parsed(&value) {
            Some(Value::Array(calls)) => calls,
            Some(call) => vec![call],
            None => return Err(wrong(format!("{path}.value"), &value, "a call as an object").into()),
        };
        let calls: Vec<Value> =
            calls.into_iter().map(|call| json!({"type": "function", "function": call})).collect();
        message.insert("content".into(), "".into());
        message.insert("tool_calls".into(), calls.into());
    } else {
        message.insert("content".into(), value);
    }
    Ok(message.into())
}

/// Functions as tools, as templates expect them; tools as they are.
fn wrapped(tools: Value) -> Value {
    let tool = |tool: Value| match tool.get("function") {
        None if tool.get("name").is_some() => json!({"type": "function", "function": tool}),
        _ => tool,
    };
    match tools {
        Value::Array(list) => list.into_iter().map(tool).collect(),
        other => other,
    }
}

/// Alpaca: an instruction with an input, and what came before. Earlier answers are trained, as in LLaMA-Factory.
pub(super) fn alpaca(fields: &Map<String, Value>) -> Result<Conversation> {
    let format = Format::Alpaca;
    let mut all = Vec::new();
    if let Some(system) = optional(fields, "system")? {
        all.push(json!({"role": "system", "content": system}));
    }
    let history = fields.get("history").filter(|value| !value.is_null() && value.as_str() != Some(""));
    if let Some(value) = history {
        let pairs = parsed(value).ok_or_else(|| wrong("history", value, "a list of pairs"))?;
        for (at, pair) in pairs.as_array().into_iter().flatten().enumerate() {
            let texts = pair.as_array().map_or(&[][..], |pair| pair);
            let [Value::String(question), Value::String(answer)] = texts else {
                return Err(wrong(format!("history[{at}]"), pair, "a pair of texts").into());
            };
            all.push(json!({"role": "user", "content": question}));
            all.push(json!({"role": "assistant", "content": answer}));
        }
    }
    let instruction = plain::text(fields, "instruction", format)?;
    let question = match optional(fields, "input")? {
        Some(input) => format!("{instruction}\n{input}"),
        None => instruction.to_string(),
    };
    all.push(json!({"role": "user", "content": question}));
    all.push(json!({"role": "assistant", "content": plain::text(fields, "output", format)?}));
    messages::messages("messages", &all.into())
}

/// A text that may be absent, null or empty.
fn optional<'a>(fields: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(other) => Err(wrong(name, other, "a text").into()),
    }
}
