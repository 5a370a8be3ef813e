//! `config.json` as transformers reads it, with the defaults of its class for missing entries.

use serde_json::Value;

use super::Problem;
use crate::arch::{Architecture, Heads, HfClass};
use crate::{Error, ModelConfig, Result};

/// The most experts in a layer; models have a few hundred.
const MAX_EXPERTS: u32 = 1 << 16;

/// The hyper-parameters of a model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Params<'a> {
    pub(crate) architecture: &'static Architecture,
    pub(crate) class: &'static HfClass,
    config: &'a ModelConfig,
}

impl<'a> Params<'a> {
    /// # Errors
    /// `Unsupported` if the class is unknown.
    pub(crate) fn new(config: &'a ModelConfig) -> Result<Self> {
        let found = crate::arch::by_class(config.text_architecture(), config.model_type());
        let (architecture, class) = found.ok_or_else(|| {
            let class = config.text_architecture().or(config.model_type()).unwrap_or("no name");
            let known = crate::arch::architectures().iter().flat_map(Architecture::hf_classes);
            let known = known.map(|class| class.architecture.as_str()).collect();
            Problem::UnknownClass { class: class.escape_debug().to_string(), known }
        })?;
        Ok(Params { architecture, class, config })
    }

    /// The entry `name`, or `object.name`; null counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        match name.split_once('.') {
            Some((object, name)) => Some(&self.config.entry(object)?[name]).filter(|value| !value.is_null()),
            None => self.config.entry(name),
        }
    }

    /// The integer `name`, which may be a quotient `a/b`.
    ///
    /// # Errors
    /// `File` if it is something else, or too large for a `u32`.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<u32>> {
        if let Some((a, b)) = name.split_once('/') {
            let (a, b) = (self.integer(a)?, self.integer(b)?);
            return Ok(a.zip(b).and_then(|(a, b)| a.checked_div(b)));
        }
        match self.get(name).or_else(|| self.class.defaults.get(name)) {
            None => Ok(None),
            Some(Value::String(other)) if self.get(name).is_none() => self.integer(other),
            Some(value) => {
                let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
                let wrong = || Problem::NotWhole { name: name.to_string(), value: value.to_string() };
                Ok(Some(number.ok_or_else(wrong)?))
            }
        }
    }

    /// The integer `name`, which the family requires.
    pub(crate) fn required_integer(&self, name: &str) -> Result<u32> {
        self.integer(name)?.ok_or_else(|| missing(name))
    }

    /// The number `name`.
    ///
    /// # Errors
    /// `File` if it is something else.
    pub(crate) fn float(&self, name: &str) -> Result<Option<f64>> {
        self.get(name).or_else(|| self.class.defaults.get(name)).map(|value| float(name, value)).transpose()
    }

    /// The number of experts, at most [`MAX_EXPERTS`]; 0 for a model without experts.
    pub(crate) fn experts(&self) -> Result<usize> {
        for name in ["num_local_experts", "num_experts"] {
            match self.integer(name)? {
                Some(count) if count > MAX_EXPERTS => {
                    return Err(Problem::Experts { name, count, limit: MAX_EXPERTS }.into());
                }
                Some(experts) => return Ok(experts as usize),
                None => {}
            }
        }
        Ok(0)
    }

    /// The head counts.
    pub(crate) fn heads(&self) -> Result<Heads> {
        let query = self.required_integer("num_attention_heads")?;
        let key_value = self.integer("num_key_value_heads")?.unwrap_or(query);
        Ok(Heads { query: query as usize, key_value: key_value as usize })
    }
}

/// `value` as a number, which the entry `name` must be.
pub(crate) fn float(name: &str, value: &Value) -> Result<f64> {
    let wrong = || Problem::NotFinite { name: name.to_string(), value: value.to_string() };
    Ok(value.as_f64().filter(|v| v.is_finite()).ok_or_else(wrong)?)
}

/// The error for a required entry that is missing.
pub(crate) fn missing(name: &str) -> Error {
    Problem::MissingEntry { name: name.to_string() }.into()
}
