//! PEFT's folders, and those of Tinker and torchtune, which have its configuration and names of their own.

use serde_json::{Value, json};

use super::interface::Place;
use super::paths::rename_config;
use crate::adapter::format::{most_common, ranks};
use crate::adapter::key::{self, Part};
use crate::adapter::{Adapter, Files, Scaling};
use crate::ops::edit::options::Alpha;
use crate::ops::edit::prefix::Prefixes;
use crate::ops::edit::problem::Problem;
use crate::ops::edit::work::Work;
use crate::{Error, Result};

/// A folder with PEFT's `adapter_config.json`.
#[derive(Debug)]
pub(super) struct Peft {
    pub(super) format: &'static str,
}

impl Place for Peft {
    fn format(&self) -> &'static str {
        self.format
    }

    fn stem(&self, _: &Files) -> Option<&'static str> {
        Some("adapter_model")
    }

    fn is_b(&self, name: &str) -> bool {
        name.ends_with(".lora_b.weight")
            || matches!(key::parse(name).1, Part::B | Part::BBias | Part::EmbeddingB)
    }

    fn scaling(&self, read: &Adapter, alpha: f64) -> Scaling {
        let stabilised = self.format == "peft" && read.config.use_rslora;
        if stabilised { Scaling::RankStabilised(alpha) } else { Scaling::Alpha(alpha) }
    }

    fn describe(&self, work: &mut Work<'_>) -> Result<()> {
        let edits = work.edits;
        if let Some(base) = &edits.base_model {
            let stale =
                work.config.as_ref().and_then(|config| config.get("revision").as_str()).map(str::to_string);
            work.set_config("base_model", "base_model_name_or_path", &base.as_str().into())?;
            work.rename_carried_base(base);
            if let Some(stale) = stale.filter(|_| edits.revision.is_none()) {
                work.note("revision", format!("the revision of the base stays `{stale}`"));
            }
        }
        if let Some(revision) = &edits.revision {
            work.set_config("revision", "revision", &revision.as_str().into())?;
        }
        Ok(())
    }

    fn set_alpha(&self, work: &mut Work<'_>, alpha: Alpha) -> Result<()> {
        self.check_ranks(work.read)?;
        let r = work.read.config.r.map(|r| r as f64).or_else(|| most_common(ranks(&work.read.modules)));
        let r = r.unwrap_or(8.0);
        let Some(config) = &work.config else { return Ok(()) };
        let there = |key: &str| config.values().contains_key(key);
        let ranks = config.get("rank_pattern").clone();
        let (patterns, stabilised) = (there("alpha_pattern"), work.read.config.use_rslora);
        let lacks_r = config.get("r").is_null();
        match alpha {
            Alpha::Folded => {
                if lacks_r {
                    work.set_config("alpha", "r", &number(r))?;
                }
                work.set_config("alpha", "lora_alpha", &number(r))?;
                // With the same keys as the ranks, each alpha is the rank of the same modules.
                if patterns || !work.read.config.rank_pattern.is_empty() {
                    let patterns = if ranks.is_null() { json!({}) } else { ranks };
                    work.set_config("alpha", "alpha_pattern", &patterns)?;
                }
                if stabilised {
                    work.set_config("alpha", "use_rslora", &false.into())?;
                }
            }
            Alpha::Is(alpha) => {
                work.set_config("alpha", "lora_alpha", &number(alpha))?;
                if patterns {
                    work.set_config("alpha", "alpha_pattern", &json!({}))?;
                }
            }
        }
        Ok(())
    }

    fn rename(&self, work: &mut Work<'_>, prefixes: &Prefixes) -> Result<()> {
        if self.format != "peft" {
            work.refuse("paths", "its readers know a module only by the name that its trainer gives it");
            return Ok(());
        }
        for item in &mut work.tensors {
            let (path, _) = key::parse(&item.name);
            let Some((_, old, new)) = prefixes.of(&path) else { continue };
            let name = key::renamed(&item.name, old, new);
            item.name = name.ok_or_else(|| {
                Error::from(Problem::Interrupted { path }).tensor(&item.name).at(item.tensor.path())
            })?;
        }
        rename_config(work, prefixes)
    }
}

impl Peft {
    /// The scale follows from the rank that the configuration gives, for PEFT, and from the factors', for others.
    fn check_ranks(&self, read: &Adapter) -> Result<()> {
        for module in read.modules.iter().filter(|module| !module.is_packed()) {
            let rank = module.rank();
            if let Some(said) = module.config_rank.filter(|said| *said != rank as f64) {
                let problem = Problem::OtherRank { said, rank };
                return Err(Error::from(problem).tensor(&module.path).at(&read.path));
            }
        }
        Ok(())
    }
}

/// A number as JSON, as an integer if it is whole: many readers expect `lora_alpha` to be an integer.
pub(super) fn number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 { (number as i64).into() } else { number.into() }
}
