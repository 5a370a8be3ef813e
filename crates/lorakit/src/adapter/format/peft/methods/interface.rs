//! What every method besides LoRA says of itself, and what it is given to read.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::adapter::format::assemble::{Outcome, fault};
use crate::adapter::{Adapter, Files, Patterns};
use crate::{Result, TensorRef};

/// A method of PEFT whose changes are exact: as factors, as saved values, or as factors of weights.
pub(super) trait Method: Sync {
    /// Its `peft_type`.
    fn peft_type(&self) -> &'static str;

    /// Its name as people write it.
    fn name(&self) -> &'static str;

    /// What it is read as, in words.
    fn read_as(&self) -> &'static str;

    /// The components of names that mark its tensors.
    fn marks(&self) -> &'static [&'static str];

    /// Reads the tensors of one layer into `adapter`.
    ///
    /// # Errors
    /// What is wrong with the layer, or with the file.
    fn read(&self, layer: &Layer<'_>, adapter: &mut Adapter) -> Outcome<()>;

    /// The component that marks a part of the adapter in a folder of this method, if the adapter stays one of this
    /// method. All others become LoRAs.
    fn stays(&self) -> Option<&'static str> {
        None
    }

    /// Whether its modules are low-rank, so that `target_modules` names them.
    fn is_low_rank(&self) -> bool {
        true
    }
}

impl fmt::Debug for dyn Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The tensors of one layer, and the configuration.
pub(super) struct Layer<'a> {
    pub(super) path: &'a str,
    /// By what marks them and what follows it: `("ia3_l", "")`, `("ln_tuning_layers", "weight")`.
    pub(super) parts: &'a BTreeMap<(&'static str, String), usize>,
    pub(super) files: &'a Files,
    pub(super) settings: &'a Settings<'a>,
}

impl Layer<'_> {
    /// The place in the file of the tensor with that mark.
    pub(super) fn place(&self, mark: &str) -> Option<usize> {
        self.parts.iter().find(|((found, _), _)| *found == mark).map(|(_, index)| *index)
    }

    /// The tensor with that mark, if there is one.
    pub(super) fn get(&self, mark: &str) -> Option<TensorRef> {
        self.place(mark).map(|index| self.files.tensor(index))
    }

    /// The tensor with that mark, which must be there.
    pub(super) fn need(&self, mark: &str) -> Outcome<TensorRef> {
        self.get(mark).ok_or_else(|| fault("missing-half", format!("lacks `{mark}`")))
    }
}

/// The configuration as it is in the file.
pub(super) struct Settings<'a> {
    raw: &'a Map<String, Value>,
    pub(super) ranks: Patterns,
    pub(super) alphas: Patterns,
}

impl<'a> Settings<'a> {
    /// # Errors
    /// `ErrorKind::Config` for a pattern that is not a regular expression.
    pub(super) fn new(raw: &'a Map<String, Value>) -> Result<Self> {
        let numbers = |name: &'static str| {
            let object = raw.get(name).and_then(Value::as_object).into_iter().flatten();
            let pairs: Vec<(String, f64)> =
                object.filter_map(|(key, value)| Some((key.clone(), value.as_f64()?))).collect();
            Patterns::new(name, &pairs)
        };
        Ok(Settings { raw, ranks: numbers("rank_pattern")?, alphas: numbers("alpha_pattern")? })
    }

    /// The number called `name`; `default`, which is PEFT's, if the file does not say.
    pub(super) fn number(&self, name: &str, default: f64) -> f64 {
        self.raw.get(name).and_then(Value::as_f64).unwrap_or(default)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.raw.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.raw.get(name).filter(|value| !value.is_null())
    }
}
