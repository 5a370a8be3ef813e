//! What every method besides LoRA says of itself, and what it is given to read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

use crate::adapter::config::Fields;
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

    /// Whether `rank_pattern` and `alpha_pattern` give modules ranks and alphas of their own.
    fn has_patterns(&self) -> bool {
        false
    }

    /// Whether what follows a mark tells parameters of one layer apart.
    fn has_parameters(&self) -> bool {
        false
    }

    /// Whether training may leave a layer without values.
    fn prunes(&self) -> bool {
        false
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

/// The configuration as it is in the file. A value of the wrong type is an error: a default in its place would give
/// other deltas.
pub(super) struct Settings<'a> {
    fields: Fields<'a>,
    path: PathBuf,
    pub(super) ranks: Patterns,
    pub(super) alphas: Patterns,
}

impl<'a> Settings<'a> {
    /// # Errors
    /// `ErrorKind::Config` for a pattern that is not a regular expression, or has something else than a number.
    pub(super) fn new(files: &Files, json: &'a Value, has_patterns: bool) -> Result<Self> {
        let (fields, path) = (Fields(json), files.config_path());
        let patterns = |name: &'static str| match has_patterns {
            true => fields.numbers(name).and_then(|pairs| Patterns::new(name, &pairs)),
            false => Ok(Patterns::default()),
        };
        let (ranks, alphas) = (patterns("rank_pattern"), patterns("alpha_pattern"));
        let (ranks, alphas) = (ranks.map_err(|e| e.at(&path))?, alphas.map_err(|e| e.at(&path))?);
        Ok(Settings { fields, path, ranks, alphas })
    }

    /// The number called `name`; `default`, which is PEFT's, if the file does not say.
    pub(super) fn number(&self, name: &'static str, default: f64) -> Outcome<f64> {
        Ok(self.fields.number(name).map_err(|e| e.at(&self.path))?.unwrap_or(default))
    }

    /// The whole number called `name`, from 1 to `most`; `needed` says so.
    pub(super) fn count(
        &self,
        name: &'static str,
        (most, needed): (u64, &'static str),
        default: u64,
    ) -> Outcome<u64> {
        Ok(self.fields.count(name, most, needed).map_err(|e| e.at(&self.path))?.unwrap_or(default))
    }

    pub(super) fn flag(&self, name: &'static str) -> Outcome<bool> {
        Ok(self.fields.flag(name).map_err(|e| e.at(&self.path))?)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        Some(&self.fields.0[name]).filter(|value| !value.is_null())
    }
}
