//! Typed access to GGUF metadata, with errors that name the key.

use crate::arch::{self, Architecture};
use crate::model::gguf::Problem;
use crate::{Error, Result};
use lorakit_tensor::format::gguf::{Metadata, Value};

/// The metadata of a model, and the family whose name is the prefix of most keys.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct Keys<'a> {
    pub(in crate::model) metadata: &'a Metadata,
    pub(in crate::model) architecture: &'static Architecture,
}

impl<'a> Keys<'a> {
    /// # Errors
    /// `Unsupported` if the family is unknown.
    pub(in crate::model) fn new(metadata: &'a Metadata) -> Result<Self> {
        let name = text(metadata, "general.architecture")?.ok_or_else(|| missing("general.architecture"))?;
        let architecture = arch::by_gguf(name).ok_or_else(|| {
            let known = arch::architectures().iter().map(Architecture::gguf).collect();
            Problem::UnknownFamily { family: name.escape_debug().to_string(), known }
        })?;
        Ok(Keys { metadata, architecture })
    }

    /// # Errors
    /// `Unsupported` if the family is unknown, or its models cannot be turned into Hugging Face folders.
    pub(in crate::model) fn reversible(metadata: &'a Metadata) -> Result<Self> {
        let name = text(metadata, "general.architecture")?.ok_or_else(|| missing("general.architecture"))?;
        let reversible = |architecture: &&Architecture| architecture.is_reversible();
        let architecture = arch::by_gguf(name).filter(reversible).ok_or_else(|| {
            let known = arch::architectures().iter().filter(reversible);
            let known = known.map(Architecture::gguf).collect();
            Problem::OneWayFamily { family: name.escape_debug().to_string(), known }
        })?;
        Ok(Keys { metadata, architecture })
    }

    /// The integer of `{family}.{key}`.
    pub(in crate::model) fn integer(&self, key: &str) -> Result<Option<u64>> {
        integer(self.metadata, &self.key(key))
    }

    /// The integer of `{family}.{key}`, which the family requires.
    pub(in crate::model) fn required_integer(&self, key: &str) -> Result<u64> {
        self.integer(key)?.ok_or_else(|| missing(&self.key(key)))
    }

    /// The number of `{family}.{key}`, as the decimal that its author wrote (see [`as_written`]).
    pub(in crate::model) fn float(&self, key: &str) -> Result<Option<f64>> {
        let key = self.key(key);
        let number = |value: &Value| match *value {
            Value::F32(v) => Some(as_written(v)),
            Value::F64(v) => Some(v),
            ref other => other.as_u64().map(|v| v as f64),
        };
        match self.metadata.get(&key) {
            None => Ok(None),
            Some(value) => match number(value).filter(|v| v.is_finite()) {
                Some(number) => Ok(Some(number)),
                None => Err(wrong(&key, value, "a finite number")),
            },
        }
    }

    /// The number of `{family}.{key}`, which the family requires.
    pub(in crate::model) fn required_float(&self, key: &str) -> Result<f64> {
        self.float(key)?.ok_or_else(|| missing(&self.key(key)))
    }

    /// The text of `{family}.{key}`.
    pub(in crate::model) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        text(self.metadata, &self.key(key))
    }

    /// Whether `{family}.{key}` is present.
    pub(in crate::model) fn has(&self, key: &str) -> bool {
        self.metadata.get(&self.key(key)).is_some()
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture.gguf())
    }
}

/// The integer of `key`.
pub(in crate::model) fn integer(metadata: &Metadata, key: &str) -> Result<Option<u64>> {
    get(metadata, key, "a single integer that is not negative", Value::as_u64)
}

/// The text of `key`.
pub(in crate::model) fn text<'a>(metadata: &'a Metadata, key: &str) -> Result<Option<&'a str>> {
    get(metadata, key, "a string", Value::as_str)
}

/// The truth value of `key`.
pub(in crate::model) fn truth(metadata: &Metadata, key: &str) -> Result<Option<bool>> {
    get(metadata, key, "a bool", Value::as_bool)
}

/// The strings of `key`.
pub(in crate::model) fn strings<'a>(metadata: &'a Metadata, key: &str) -> Result<Option<&'a [String]>> {
    get(metadata, key, "an array of strings", Value::as_strings)
}

/// The value of `key` as `convert` sees it.
pub(in crate::model) fn get<'a, T>(
    metadata: &'a Metadata,
    key: &str,
    needed: &'static str,
    convert: impl FnOnce(&'a Value) -> Option<T>,
) -> Result<Option<T>> {
    match metadata.get(key) {
        None => Ok(None),
        Some(value) => convert(value).map(Some).ok_or_else(|| wrong(key, value, needed)),
    }
}

/// The error for a required key that is missing.
pub(in crate::model) fn missing(key: &str) -> Error {
    Problem::MissingKey { key: key.to_string() }.into()
}

fn wrong(key: &str, value: &Value, needed: &'static str) -> Error {
    let key = key.to_string();
    let kind = value.type_name();
    Problem::WrongKey { key, value: value.to_string(), kind, needed }.into()
}

/// The number with the shortest decimal notation that reads back as this `f32`: 1e-5, not 9.999999747378752e-6.
pub(in crate::model) fn as_written(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}
