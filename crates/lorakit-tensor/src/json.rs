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

/// Parses one JSON value.
///
/// # Errors
/// [`ErrorKind::Corrupt`] with line and column.
pub fn parse(text: &[u8]) -> Result<Value> {
    serde_json::from_slice::<Strict>(text)
        .map(|strict| strict.0)
        .map_err(|e| Problem::NotJson { reason: e.to_string() }.into())
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
}
