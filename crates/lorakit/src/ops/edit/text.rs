//! A JSON object whose members are replaced in its text, so that all else stays byte for byte.

use std::ops::Range;

use lorakit_tensor::json;
use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::{Error, Result};

/// The text of an object, and what it says.
#[derive(Debug, Clone)]
pub(super) struct Text {
    text: String,
    members: Vec<Member>,
    values: Map<String, Value>,
}

/// Where a member stands in the text.
#[derive(Debug, Clone)]
struct Member {
    key: Range<usize>,
    value: Range<usize>,
}

impl Text {
    /// # Errors
    /// `ErrorKind::Config` for anything but one object.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let broken = || Error::from(Problem::Text);
        let Value::Object(values) = json::parse_object(bytes)? else { return Err(broken()) };
        let text = std::str::from_utf8(json::without_mark(bytes)).map_err(|_| broken())?.to_string();
        let members = members(&text).filter(|members| members.len() == values.len()).ok_or_else(broken)?;
        Ok(Text { text, members, values })
    }

    /// The members.
    pub(super) fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// The value of `key`; null if there is none.
    pub(super) fn get(&self, key: &str) -> &Value {
        self.values.get(key).unwrap_or(&Value::Null)
    }

    /// The text.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.text.clone().into_bytes()
    }

    /// Gives `key` another value, in its place. A new key is put where it belongs if the keys are sorted, else at the
    /// end. Returns whether anything changed.
    ///
    /// # Errors
    /// `ErrorKind::Config` if the text is no longer an object.
    pub(super) fn set(&mut self, key: &str, value: &Value) -> Result<bool> {
        if self.values.get(key) == Some(value) {
            return Ok(false);
        }
        let mut text = self.text.clone();
        match self.values.keys().position(|known| known == key) {
            Some(at) => {
                let place = self.members[at].value.clone();
                text.replace_range(place, &self.rendered(value));
            }
            None => self.insert(&mut text, key, value),
        }
        *self = Self::parse(text.as_bytes())?;
        Ok(true)
    }

    fn insert(&self, text: &mut String, key: &str, value: &Value) {
        let (space, colon) = (self.space(), self.colon());
        let member = format!("{}{colon}{}", Value::from(key), self.rendered(value));
        let keys: Vec<&String> = self.values.keys().collect();
        let next = keys.iter().position(|known| known.as_str() > key).filter(|_| keys.is_sorted());
        match (next, self.members.last()) {
            (Some(next), _) => text.insert_str(self.members[next].key.start, &format!("{member},{space}")),
            (None, Some(last)) => text.insert_str(last.value.end, &format!(",{space}{member}")),
            (None, None) => {
                let inside = text.find('{').map_or(0, |brace| brace + 1);
                text.insert_str(inside, &member);
            }
        }
    }

    /// What separates the members after the comma.
    fn space(&self) -> &str {
        let Some(last) = self.members.last() else { return "" };
        let before = &self.text[..last.key.start];
        &before[before.trim_end().len()..]
    }

    /// What stands between a key and its value.
    fn colon(&self) -> &str {
        self.members.first().map_or(": ", |first| &self.text[first.key.end..first.value.start])
    }

    /// `value` as text, in lines if the members are in lines.
    fn rendered(&self, value: &Value) -> String {
        let Some((_, indent)) = self.space().rsplit_once('\n') else { return value.to_string() };
        let mut bytes = Vec::new();
        let formatter = PrettyFormatter::with_indent(indent.as_bytes());
        let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter));
        match (written, String::from_utf8(bytes)) {
            (Ok(()), Ok(text)) => text.replace('\n', &format!("\n{indent}")),
            _ => value.to_string(),
        }
    }
}

/// The places of all members of the object in `text`, which is valid JSON.
fn members(text: &str) -> Option<Vec<Member>> {
    let bytes = text.as_bytes();
    let mut at = text.find('{')? + 1;
    let mut found = Vec::new();
    loop {
        at = after_space(bytes, at);
        if *bytes.get(at)? == b'}' {
            return Some(found);
        }
        let key = at..after_value(bytes, at)?;
        at = after_space(bytes, key.end);
        at = after_space(bytes, at + 1);
        let value = at..after_value(bytes, at)?;
        at = after_space(bytes, value.end);
        if *bytes.get(at)? == b',' {
            at += 1;
        }
        found.push(Member { key, value });
    }
}

fn after_space(bytes: &[u8], at: usize) -> usize {
    let space = bytes.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_whitespace());
    at + space.count()
}

/// The end of the value that begins at `at`.
fn after_value(bytes: &[u8], at: usize) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for (end, byte) in bytes.iter().enumerate().skip(at) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => {
                quoted = !quoted;
                if !quoted && depth == 0 {
                    return Some(end + 1);
                }
            }
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some(end),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(end + 1);
                }
            }
            b',' | b' ' | b'\n' | b'\r' | b'\t' if depth == 0 => return Some(end),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn edited(text: &str, key: &str, value: Value) -> String {
        let mut parsed = Text::parse(text.as_bytes()).unwrap();
        parsed.set(key, &value).unwrap();
        String::from_utf8(parsed.bytes()).unwrap()
    }

    #[test]
    fn only_the_value_changes() {
        let text =
            "{\n  \"b\": 1e-05,\n  \"a\\u0041\": [1, \"}\\\"\"],\r\n  \"r\": 8,\n\t\"x\": {\"y\": {}}\n}\n";
        assert_eq!(edited(text, "r", json!(16)), text.replace("8", "16"));
        assert_eq!(edited(text, "aA", json!(null)), text.replace("[1, \"}\\\"\"]", "null"));
        assert_eq!(edited(text, "b", json!(1e-05)), text);
        assert_eq!(edited("{\"a\":1,\"b\":2 }", "b", json!("z")), "{\"a\":1,\"b\":\"z\" }");
    }

    #[test]
    fn a_new_key_goes_where_it_belongs() {
        let sorted = "{\n  \"a\": 1,\n  \"c\": 2\n}";
        assert_eq!(edited(sorted, "b", json!({})), "{\n  \"a\": 1,\n  \"b\": {},\n  \"c\": 2\n}");
        assert_eq!(edited(sorted, "d", json!(3)), "{\n  \"a\": 1,\n  \"c\": 2,\n  \"d\": 3\n}");
        let other = "{\"c\": 2, \"a\": 1}";
        assert_eq!(edited(other, "b", json!(3)), "{\"c\": 2, \"a\": 1, \"b\": 3}");
        assert_eq!(edited("{}", "b", json!(3)), "{\"b\": 3}");
    }

    #[test]
    fn nested_values_have_the_indentation_of_the_text() {
        let text = "{\n    \"a\": 1\n}";
        assert_eq!(edited(text, "a", json!(["x"])), "{\n    \"a\": [\n        \"x\"\n    ]\n}");
    }
}
