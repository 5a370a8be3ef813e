//! Strict JSON for files that strangers send: a repeated key is an error, not a silent choice.
//!
//! Shared by the crates of this workspace; not part of the public interface.

use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::{Error, ErrorKind, Result};

/// Largest JSON side file that is read (`config.json`, `adapter_config.json`, index files), in bytes.
pub const MAX_JSON_BYTES: u64 = 64 << 20;

/// Reads and parses `path`.
///
/// # Errors
/// [`ErrorKind::Limit`] beyond [`MAX_JSON_BYTES`]; [`ErrorKind::Corrupt`] if it is not strict JSON.
pub fn read(path: &Path) -> Result<Value> {
    let len = std::fs::metadata(path).map_err(|e| Error::io("read", path, e))?.len();
    if len > MAX_JSON_BYTES {
        let message = format!("has {len} bytes; JSON files of more than {MAX_JSON_BYTES} bytes are not read");
        return Err(Error::new(ErrorKind::Limit, message).at(path));
    }
    let text = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    if text.is_empty() {
        return Err(Error::new(ErrorKind::Empty, "is empty (0 bytes)").at(path));
    }
    if let Some(stranger) = crate::sniff::stranger(&text) {
        return Err(stranger.at(path));
    }
    parse(&text).map_err(|e| e.at(path))
}

/// Parses one JSON value.
///
/// # Errors
/// [`ErrorKind::Corrupt`] with line and column.
pub fn parse(text: &[u8]) -> Result<Value> {
    serde_json::from_slice::<Strict>(text)
        .map(|strict| strict.0)
        .map_err(|e| Error::new(ErrorKind::Corrupt, format!("is not valid JSON: {e}")))
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

    #[test]
    fn repeated_keys_are_refused_at_any_depth() {
        let error = parse(br#"{"a": {"b": 1, "b": 2}}"#).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("key `b` appears twice"), "{error}");
        assert_eq!(parse(br#"{"b":1,"a":[1.5,null]}"#).unwrap().to_string(), r#"{"b":1,"a":[1.5,null]}"#);
    }
}
