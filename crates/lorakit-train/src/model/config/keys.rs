//! Values of a JSON object by their keys. `null` is an absent value, as in transformers.

use serde_json::{Map, Value};

use crate::Result;
use crate::model::problem::Problem;

/// The most of anything that a size counts: products of two sizes are still numbers.
const MOST: u64 = 1 << 31;

#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    object: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(value: &'a Value) -> Result<Self> {
        let object = value.as_object().ok_or(Problem::NotAnObject)?;
        Ok(Self { object })
    }

    pub(super) fn find(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.find(key) else { return Ok(None) };
        let wrong = || Problem::Value { key: key.to_string(), found: value.to_string(), expected };
        Ok(Some(read(value).ok_or_else(wrong)?))
    }

    pub(super) fn optional_inside(&self, key: &str) -> Result<Option<Self>> {
        self.read(key, "an object", |value| value.as_object().map(|object| Self { object }))
    }

    pub(super) fn inside(&self, key: &'static str) -> Result<Self> {
        Ok(self.optional_inside(key)?.ok_or(Problem::NoKey { key })?)
    }

    pub(super) fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        let size = |value: &Value| value.as_u64().filter(|size| (1..=MOST).contains(size))?.try_into().ok();
        self.read(key, "a whole number from 1", size)
    }

    pub(super) fn size(&self, key: &'static str) -> Result<usize> {
        Ok(self.optional_size(key)?.ok_or(Problem::NoKey { key })?)
    }

    pub(super) fn optional_number(&self, key: &str) -> Result<Option<f64>> {
        let positive = |value: &Value| value.as_f64().filter(|number| *number > 0.0 && number.is_finite());
        self.read(key, "a positive number", positive)
    }

    pub(super) fn number(&self, key: &'static str) -> Result<f64> {
        Ok(self.optional_number(key)?.ok_or(Problem::NoKey { key })?)
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.read(key, "true or false", Value::as_bool)
    }

    pub(super) fn optional_text(&self, key: &str) -> Result<Option<&'a str>> {
        self.read(key, "a string", Value::as_str)
    }

    pub(super) fn text(&self, key: &'static str) -> Result<&'a str> {
        Ok(self.optional_text(key)?.ok_or(Problem::NoKey { key })?)
    }

    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        self.read(key, "a list of strings", |value| value.as_array()?.iter().map(Value::as_str).collect())
    }

    pub(super) fn sizes(&self, key: &str) -> Result<Option<Vec<u64>>> {
        self.read(key, "a list of whole numbers", |value| {
            value.as_array()?.iter().map(Value::as_u64).collect()
        })
    }

    /// Refuses a value that is neither absent nor written as one of `known`.
    pub(super) fn must_be_absent_or(&self, key: &str, known: &[&str]) -> Result<()> {
        match self.find(key).map(Value::to_string) {
            Some(found) if !known.contains(&found.as_str()) => {
                let known = if known.is_empty() { "null" } else { "null, 0, false" };
                Err(Problem::Unsupported { key: key.to_string(), found, known }.into())
            }
            _ => Ok(()),
        }
    }
}
