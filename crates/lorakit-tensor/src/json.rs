//! Strict JSON for files that strangers send: a repeated key is an error, not a silent choice.
//!
//! Shared by the crates of this workspace; not part of the public interface.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

#[cfg(doc)]
use crate::ErrorKind;
use crate::Result;
use crate::file_problem::Problem;

/// Largest JSON side file that is read (`config.json`, `adapter_config.json`), in bytes.
pub const MAX_JSON_BYTES: u64 = 64 << 20;
/// Largest index of shards: it names every tensor, and a packed model has several for each weight.
pub const MAX_INDEX_BYTES: u64 = 256 << 20;

/// In front of the name of a number that JSON does not have, as a string in a [`Value`]: a character for private use.
const NO_NUMBER: char = '\u{f8ff}';
/// Numbers that Python writes, and JSON does not have.
const NO_NUMBERS: &[&str] = &["NaN", "Infinity", "-Infinity"];
/// The byte order mark that some editors put in front of a text.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Parses one JSON value. As in Python, a number may be `NaN`, `Infinity` or `-Infinity`; in front of the text, there may
/// be a byte order mark.
///
/// # Errors
/// [`ErrorKind::Corrupt`] with line and column.
pub fn parse(text: &[u8]) -> Result<Value> {
    let text = without_mark(text);
    let strict = |text: &[u8]| serde_json::from_slice::<Strict>(text).map(|strict| strict.0);
    strict(text)
        .or_else(|error| standard(text).map_or(Err(error), |text| strict(&text)))
        .map_err(|e| Problem::NotJson { reason: e.to_string() }.into())
}

/// `text` without a byte order mark.
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// The text of `value`, indented; numbers that JSON does not have are written as they were read.
pub fn pretty(value: &Value) -> Vec<u8> {
    restored(serde_json::to_string_pretty(value).unwrap_or_default()).into_bytes()
}

/// `text`, which was made of a [`Value`], with the numbers that JSON does not have as they were read.
pub fn restored(text: String) -> String {
    if !text.contains(NO_NUMBER) {
        return text;
    }
    NO_NUMBERS.iter().fold(text, |text, name| text.replace(&format!("\"{NO_NUMBER}{name}\""), name))
}

/// `text` with strings in place of the numbers that JSON does not have; `None` if there are none.
pub fn standard(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        let part_of_word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric());
        let number = NO_NUMBERS.iter().find(|name| {
            let end = at + name.len();
            !quoted && text[at..].starts_with(name.as_bytes()) && !part_of_word(text.get(end))
        });
        if let Some(name) = number.filter(|_| at == 0 || !part_of_word(text.get(at - 1))) {
            out.extend(format!("\"{NO_NUMBER}{name}\"").bytes());
            at += name.len();
            continue;
        }
        match byte {
            b'"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = quoted && byte == b'\\' && !escaped;
        out.push(byte);
        at += 1;
    }
    (out.len() != text.len()).then_some(out)
}

/// Parses one JSON object, which is what every configuration file holds.
///
/// # Errors
/// As [`parse`]; [`ErrorKind::Corrupt`] for any other JSON value.
pub fn parse_object(text: &[u8]) -> Result<Value> {
    let value = parse(text)?;
    let found = match &value {
        Value::Object(_) => return Ok(value),
        Value::Null => "`null`",
        Value::Bool(_) => "`true` or `false`",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
    };
    Err(Problem::NotAnObject { found }.into())
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, v: bool) -> std::result::Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> std::result::Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_u64<E>(self, v: u64) -> std::result::Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_f64<E>(self, v: f64) -> std::result::Result<Value, E> {
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, v: &str) -> std::result::Result<Value, E> {
        Ok(Value::String(v.to_string()))
    }
    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let Strict(value) = map.next_value()?;
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("key `{}` appears twice", key.escape_debug())));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn repeated_keys_are_refused_at_any_depth() {
        let error = parse(br#"{"a": {"b": 1, "b": 2}}"#).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("key `b` appears twice"), "{error}");
        assert_eq!(parse(br#"{"b":1,"a":[1.5,null]}"#).unwrap().to_string(), r#"{"b":1,"a":[1.5,null]}"#);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(parse("\u{feff}{\"a\": 1}".as_bytes()).unwrap().to_string(), r#"{"a":1}"#);
        assert!(parse("{\u{feff}\"a\": 1}".as_bytes()).is_err(), "it may stand only in front");
    }

    /// They are neither numbers nor null, so no reader takes them for a value, and they are written as they were.
    #[test]
    fn numbers_that_json_does_not_have_come_back() {
        let text = r#"{"a": NaN, "b": [-Infinity, Infinity,NaN], "c": "NaN \" NaN", "d": "\\", "e": NaN}"#;
        let value = parse(text.as_bytes()).unwrap();
        assert!(value["a"].as_f64().is_none() && !value["a"].is_null(), "{value}");
        assert_eq!(value["c"], "NaN \" NaN");
        let written = String::from_utf8(pretty(&value)).unwrap();
        assert_eq!(
            written.split_whitespace().collect::<String>(),
            text.split_whitespace().collect::<String>()
        );
        assert_eq!(parse(written.as_bytes()).unwrap(), value);
        for wrong in [
            "{\"a\": NaNs}",
            "{\"a\": nan}",
            "{\"a\": +Infinity}",
            "{\"a\": --Infinity}",
            "{NaN: 1",
            "{\"a\": 1NaN}",
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
