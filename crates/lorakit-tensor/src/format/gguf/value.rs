//! GGUF metadata: an ordered list of keys with exactly typed values.

use std::fmt;

use super::cursor::Cursor;
use super::element::{Element, write_bytes};
use super::problem::Problem;
use crate::Result;
use crate::problem::excerpt;

/// One row per value type that an array can hold: `Variant Rust-type "name" = id`.
macro_rules! value_types {
    ($($variant:ident $type:ty, $name:literal = $id:literal;)*) => {
        /// A typed metadata value.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Value {
            $(#[doc = concat!("`", $name, "`")] $variant($type),)*
            /// An array, which never holds arrays.
            Array(Array),
            /// A `string` that is not UTF-8; only keys that begin with `lorakit.` may have one.
            Bytes(Vec<u8>),
        }

        /// A metadata array; every element has the type of the variant.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Array {
            $(#[doc = concat!("of `", $name, "`")] $variant(Vec<$type>),)*
        }

        impl Value {
            /// The type in words: `u32`, `string`, `array`.
            pub const fn type_name(&self) -> &'static str {
                match self {
                    $(Value::$variant(_) => $name,)*
                    Value::Array(_) => "array",
                    Value::Bytes(_) => "string that is not UTF-8",
                }
            }

            /// Reads the type and the value of `key`.
            pub(super) fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Value> {
                match cursor.u32()? {
                    STRING_ID if key.starts_with(OWN_KEYS) => text(cursor),
                    $($id => Element::read(cursor).map(Value::$variant),)*
                    ARRAY_ID => Array::read(cursor, key).map(Value::Array),
                    id => Err(Problem::ValueType { key: excerpt(key), id }.into()),
                }
            }

            /// Writes what [`Self::read`] reads.
            pub(super) fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(Value::$variant(value) => {
                        out.extend(u32::to_le_bytes($id));
                        value.write(out);
                    })*
                    Value::Array(array) => {
                        out.extend(ARRAY_ID.to_le_bytes());
                        array.write(out);
                    }
                    Value::Bytes(bytes) => {
                        out.extend(STRING_ID.to_le_bytes());
                        write_bytes(bytes, out);
                    }
                }
            }
        }

        impl Array {
            /// Number of elements.
            pub const fn len(&self) -> usize {
                match self {
                    $(Array::$variant(elements) => elements.len(),)*
                }
            }

            /// The element type in words, e.g. `u32`.
            pub const fn type_name(&self) -> &'static str {
                match self {
                    $(Array::$variant(_) => $name,)*
                }
            }

            fn read(cursor: &mut Cursor<'_>, key: &str) -> Result<Array> {
                match cursor.u32()? {
                    $($id => Element::read_array(cursor).map(Array::$variant),)*
                    ARRAY_ID => Err(Problem::NestedArray { key: excerpt(key) }.into()),
                    id => Err(Problem::ValueType { key: excerpt(key), id }.into()),
                }
            }

            fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(Array::$variant(elements) => {
                        out.extend(u32::to_le_bytes($id));
                        Element::write_array(elements, out);
                    })*
                }
            }
        }

        impl fmt::Display for Value {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Value::$variant(value) => write!(f, "{value}"),)*
                    Value::Array(array) => write!(f, "[{} values]", array.len()),
                    Value::Bytes(bytes) => write!(f, "{}", String::from_utf8_lossy(bytes)),
                }
            }
        }
    };
}

const ARRAY_ID: u32 = 9;
const STRING_ID: u32 = 8;
/// What the keys of this program begin with. Nothing but this program reads them, so whatever is wrong with their values
/// is no reason to refuse a model.
const OWN_KEYS: &str = "lorakit.";

value_types! {
    U8 u8, "u8" = 0;
    I8 i8, "i8" = 1;
    U16 u16, "u16" = 2;
    I16 i16, "i16" = 3;
    U32 u32, "u32" = 4;
    I32 i32, "i32" = 5;
    F32 f32, "f32" = 6;
    Bool bool, "bool" = 7;
    String String, "string" = 8;
    U64 u64, "u64" = 10;
    I64 i64, "i64" = 11;
    F64 f64, "f64" = 12;
}

/// Reads a string that need not be UTF-8.
fn text(cursor: &mut Cursor<'_>) -> Result<Value> {
    let len = cursor.u64()?;
    let bytes = cursor.take(len)?.to_vec();
    Ok(String::from_utf8(bytes).map_or_else(|not| Value::Bytes(not.into_bytes()), Value::String))
}

impl Value {
    /// The value as an unsigned integer, if it is an integer of any width that fits.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::U8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::U64(v) => Some(v),
            Value::I8(v) => v.try_into().ok(),
            Value::I16(v) => v.try_into().ok(),
            Value::I32(v) => v.try_into().ok(),
            Value::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// The value as a float, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::F32(v) => Some(v.into()),
            Value::F64(v) => Some(v),
            _ => None,
        }
    }

    /// The value as text, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(v) => Some(v),
            _ => None,
        }
    }

    /// The value as a boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// The value as an array of strings, if it is one.
    pub fn as_strings(&self) -> Option<&[String]> {
        match self {
            Value::Array(Array::String(v)) => Some(v),
            _ => None,
        }
    }
}

impl Array {
    /// Whether there are no elements.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Metadata in file order. Keys are unique.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
}

impl Metadata {
    /// No entries yet, and room for `count`.
    pub(super) fn with_capacity(count: usize) -> Self {
        Metadata { entries: Vec::with_capacity(count) }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// Sets `key`, in place if it is there already, at the end otherwise.
    pub fn set(&mut self, key: &str, value: Value) {
        match self.entries.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => self.entries.push((key.to_string(), value)),
        }
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.entries.iter().position(|(k, _)| k == key)?;
        Some(self.entries.remove(at).1)
    }

    /// Keeps the entries whose key `keep` accepts.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.entries.retain(|(key, _)| keep(key));
    }

    /// Appends an entry without a check; the reader proves that keys are unique once it has them all.
    pub(super) fn push(&mut self, key: String, value: Value) {
        self.entries.push((key, value));
    }

    /// Keys and values in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
