//! Configurations of other trainers as settings: what has an equivalent here is taken over, with their defaults where they
//! differ; what decides the adapter and has none is refused; what does not is named.
//!
//! ```text
//!   program        which program a file is for;   axolotl   llama_factory   their keys, and what these mean here
//!   transformers   keys that both hand on;      why   reasons that both have
//!   draft          settings in the making, notes, refusals
//! ```

mod axolotl;
mod draft;
mod llama_factory;
mod program;
#[cfg(test)]
mod tests;
mod transformers;
mod why;

use std::path::Path;

pub use draft::{Note, Noted};

use self::draft::Draft;
use super::Settings;
use super::problem::Problem;
use super::yaml;
use crate::{Error, Result};

/// A configuration of another trainer as settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The name of the trainer.
    pub program: &'static str,
    /// The settings, with the trainer's defaults for what the configuration does not set and what decides the adapter. What
    /// is set elsewhere is still missing.
    pub settings: Settings,
    /// What is not taken over as it is, in the order of the configuration.
    pub notes: Vec<Note>,
}

/// The configuration of axolotl or LLaMA-Factory at `path` as settings. `elsewhere` are keys of ours that are set
/// otherwise: what the configuration says about them is not read.
///
/// # Errors
/// `Usage`: it cannot be read, is not YAML, or not a configuration of one of them; it has a key that they do not have; with
/// all keys that decide the adapter and have no equivalent, a line each.
pub fn import(path: &Path, elsewhere: &[&str]) -> Result<Imported> {
    let text = crate::files::read_to_string(path).map_err(|e| lorakit_tensor::Error::io("read", path, e))?;
    from_yaml(&text, elsewhere).map_err(|error| error.at(path))
}

fn from_yaml(text: &str, elsewhere: &[&str]) -> Result<Imported> {
    let members = yaml::read(text)?;
    let program = program::of(&members)?;
    let mut draft = Draft::new(members, elsewhere);
    draft.check(program.name, &program.rules());
    (program.read)(&mut draft);
    let (settings, notes, refused) = draft.finish();
    if refused.is_empty() {
        return Ok(Imported { program: program.name, settings, notes });
    }
    let problem = Problem::NotImported { program: program.name, count: refused.len() };
    Err(Error::from(problem).details(refused))
}
