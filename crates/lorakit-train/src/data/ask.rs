//! What rows ask, with or without the answer: for generation.

use std::path::Path;

use serde_json::{Value, json};

use super::container::{self, Row};
use super::format::{self, Conversation, Example, Format};
use super::mask::Masker;
use super::problem::Problem;
use super::text::Text;
use crate::{Error, Result};

/// What a row asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The line of the file on which the row begins.
    pub line: u64,
    /// The tokens after which the model answers.
    pub prompt: Vec<u32>,
    /// The answer that the row has.
    pub expected: Option<String>,
}

/// What the rows of a file ask: messages up to the last answer, which is expected; the prompt of a completion; a text, or
/// tokens, as they are. Rows need no answers. A `.txt` file asks with each of its lines: as the message of a user, if the
/// model has a template.
///
/// # Errors
/// The file cannot be read, a row is of no known format, or the model has no template for messages: its line, and that.
pub fn asked(path: &Path, text: &Text) -> Result<Vec<Asked>> {
    let path = container::file(path, "valid")?;
    let mut masker = None;
    let mut all = Vec::new();
    if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("txt")) {
        let lines =
            crate::files::read_to_string(&path).map_err(|e| lorakit_tensor::Error::io("read", &path, e))?;
        for (line, asks) in (1..).zip(lines.lines()).filter(|(_, asks)| !asks.trim().is_empty()) {
            let asked = of_line(line, asks, text);
            all.push(asked.map_err(|error| error.at(&path).line(line))?);
        }
    } else {
        for row in container::rows(&path)? {
            let row = row?;
            let asked = of_row(&row, text, &mut masker);
            all.push(asked.map_err(|error| error.at(&path).line(row.line))?);
        }
    }
    if all.is_empty() {
        return Err(Error::from(Problem::NoRows).at(&path));
    }
    Ok(all)
}

fn of_line(line: u64, asks: &str, text: &Text) -> Result<Asked> {
    let prompt = match text.template {
        Some(_) => text.prompt(&[json!({"role": "user", "content": asks})], None),
        None => text.plain(asks),
    };
    Ok(Asked { line, prompt: prompt?, expected: None })
}

fn of_row<'a>(row: &Row, text: &'a Text, masker: &mut Option<Masker<'a>>) -> Result<Asked> {
    let line = row.line;
    let mut fields = row.fields.clone();
    let has = |name: &str| row.fields.get(name).is_some_and(|value| !value.is_null());
    // A row that only asks is one with an empty answer.
    let alone = match row.fields.get("prompt").filter(|prompt| !prompt.is_null()) {
        Some(_) if ["completion", "response", "chosen"].into_iter().any(has) => false,
        Some(messages @ Value::Array(_)) => {
            fields.insert("messages".into(), messages.clone());
            fields.remove("prompt");
            false
        }
        Some(_) => {
            fields.insert("completion".into(), "".into());
            true
        }
        None if has("instruction") && !has("output") => {
            fields.insert("output".into(), "".into());
            true
        }
        None => false,
    };
    let row = Row { line, fields };
    let format = Format::detect(std::slice::from_ref(&row)).map_err(|(_, problem)| problem)?;
    let format = format.ok_or(Problem::NoRows)?;
    let (prompt, expected) = match format::example(format, &row.fields)?.0 {
        Example::Chat(conversation) => {
            if masker.is_none() {
                *masker = Some(Masker::new(text)?);
            }
            let masker = masker.as_ref().ok_or(Problem::NoTemplate)?;
            let (count, expected) = question(&conversation);
            let tokens = text.encode(&masker.prompt(&conversation, count)?)?.tokens;
            text.check_front(&tokens)?;
            (tokens, expected)
        }
        Example::Completion { prompt, completion } => (text.plain(&prompt)?, Some(completion)),
        Example::Text(own) => (text.plain(&own)?, None),
        Example::Tokens(tokens) => {
            let asked = tokens.iter().take_while(|(_, weight)| *weight == 0.0).count();
            let count = if asked == 0 { tokens.len() } else { asked };
            let expected: Vec<u32> = tokens[count..].iter().map(|(token, _)| *token).collect();
            let expected = text.decoded(&expected, true)?;
            (tokens[..count].iter().map(|(token, _)| *token).collect(), Some(expected))
        }
    };
    Ok(Asked { line, prompt, expected: expected.filter(|expected| !alone && !expected.is_empty()) })
}

/// How many messages come before the last answer, and its text.
fn question(conversation: &Conversation) -> (usize, Option<String>) {
    let messages = &conversation.messages;
    match messages.iter().rposition(|message| message["role"] == "assistant") {
        // An answer with which the conversation does not end is one of its past.
        Some(last) if last + 1 == messages.len() => {
            (last, messages[last]["content"].as_str().map(str::to_string))
        }
        _ => (messages.len(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::fixtures;

    fn asked_of(rows: &str) -> Result<Vec<Asked>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, rows).unwrap();
        asked(&path, &Text::open(&fixtures().join("tiny-orders")).unwrap())
    }

    #[test]
    fn rows_ask_with_or_without_an_answer() {
        let user = "<|im_start|>user\nhi<|im_end|>\n";
        let asks = "<|im_start|>assistant\n";
        let text = Text::open(&fixtures().join("tiny-orders")).unwrap();
        for (row, prompt, expected) in [
            (r#"{"messages": [{"role": "user", "content": "hi"}]}"#, format!("{user}{asks}"), None),
            (
                r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}"#,
                format!("{user}{asks}"),
                Some("yo"),
            ),
            (
                r#"{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}, {"from": "human", "value": "hi"}]}"#,
                format!("{user}{asks}yo<|im_end|>\n{user}{asks}"),
                None,
            ),
            (r#"{"instruction": "hi"}"#, format!("{user}{asks}"), None),
            (r#"{"instruction": "hi", "output": "yo"}"#, format!("{user}{asks}"), Some("yo")),
            (r#"{"prompt": "hi"}"#, "hi".to_string(), None),
            (r#"{"prompt": "hi", "completion": " there"}"#, "hi".to_string(), Some(" there")),
            (r#"{"prompt": [{"role": "user", "content": "hi"}]}"#, format!("{user}{asks}"), None),
            (r#"{"text": "hi"}"#, "hi".to_string(), None),
        ] {
            let found = asked_of(row).unwrap();
            assert_eq!(found.len(), 1, "{row}");
            assert_eq!(text.tokenizer.decode(&found[0].prompt, false).unwrap(), prompt, "{row}");
            assert_eq!(found[0].expected.as_deref(), expected, "{row}");
        }
        let tokens = asked_of(r#"{"input_ids": [70, 71, 72], "labels": [-100, -100, 72]}"#).unwrap();
        assert_eq!(tokens[0].prompt, [70, 71]);
        assert!(tokens[0].expected.is_some());
    }

    /// A line is a message if there is a template, and a text as it is if there is none.
    #[test]
    fn lines_ask_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prompts.TXT");
        std::fs::write(&path, "hi\n \n{\"prompt\": 1}\r\n").unwrap();
        let mut text = Text::open(&fixtures().join("tiny-orders")).unwrap();
        let read = |text: &Text| -> Vec<(u64, String)> {
            let of = |asked: Asked| (asked.line, text.decoded(&asked.prompt, false).unwrap());
            asked(&path, text).unwrap().into_iter().map(of).collect()
        };
        let chat = |asks: &str| format!("<|im_start|>user\n{asks}<|im_end|>\n<|im_start|>assistant\n");
        assert_eq!(read(&text), [(1, chat("hi")), (3, chat("{\"prompt\": 1}"))]);
        text.template = None;
        assert_eq!(read(&text), [(1, "hi".to_string()), (3, "{\"prompt\": 1}".to_string())]);
        std::fs::write(&path, "\n").unwrap();
        assert!(asked(&path, &text).unwrap_err().to_string().ends_with("prompts.TXT`: has no rows"));
    }

    #[test]
    fn rows_that_ask_nothing_are_refused() {
        let refused = |rows: &str| {
            let error = asked_of(rows).unwrap_err().to_string();
            error.rsplit_once('/').unwrap().1.to_string()
        };
        let all = [
            refused("{\"prompt\": \"a\"}\n{\"question\": \"b\"}\n"),
            refused("\n"),
            refused("{\"prompt\": 1}"),
        ];
        insta::assert_snapshot!(all.join("\n"), @"
        rows.jsonl:2`: the row has the fields question; it must have `messages`, `conversations`, `instruction` and `output`, `prompt` and `completion`, `text`, or `input_ids`
        rows.jsonl`: has no rows
        rows.jsonl:1`: `prompt` is a number; it must be a list of messages
        ");
    }
}
