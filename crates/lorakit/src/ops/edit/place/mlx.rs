//! mlx-lm's folders.

use serde_json::Value;

use super::interface::Place;
use crate::Result;
use crate::adapter::Files;
use crate::ops::edit::options::Alpha;
use crate::ops::edit::prefix::Prefixes;
use crate::ops::edit::work::Work;

/// A folder of mlx-lm: names are paths, and one scale, undivided, multiplies all.
#[derive(Debug)]
pub(super) struct Mlx;

impl Place for Mlx {
    fn format(&self) -> &'static str {
        "mlx"
    }

    fn stem(&self, _: &Files) -> Option<&'static str> {
        Some("adapters")
    }

    fn is_b(&self, name: &str) -> bool {
        name.ends_with(".lora_b")
    }

    fn describe(&self, work: &mut Work<'_>) -> Result<()> {
        if let Some(base) = &work.edits.base_model {
            work.set_config("base_model", "model", &base.as_str().into())?;
            work.rename_carried_base(base);
        }
        if work.edits.revision.is_some() {
            work.refuse("revision", "mlx-lm's configuration names the base, and no revision of it");
        }
        Ok(())
    }

    fn set_alpha(&self, work: &mut Work<'_>, alpha: Alpha) -> Result<()> {
        const FIELD: &str = "lora_parameters";
        if let Alpha::Is(_) = alpha {
            work.refuse("alpha", "mlx-lm multiplies by `scale`, which is not divided by the rank");
            return Ok(());
        }
        let Some(Value::Object(mut parameters)) = work.config.as_ref().map(|c| c.get(FIELD).clone()) else {
            return Ok(());
        };
        parameters.insert("scale".into(), 1.0.into());
        // mlx-lm before June 2024 multiplied by it as well.
        parameters.shift_remove("alpha");
        work.set_config("scale", FIELD, &parameters.into())
    }

    fn rename(&self, work: &mut Work<'_>, prefixes: &Prefixes) -> Result<()> {
        for item in &mut work.tensors {
            let Some((path, part)) = item.name.rsplit_once('.') else { continue };
            if let Some(path) = prefixes.renamed(path) {
                item.name = format!("{path}.{part}");
            }
        }
        Ok(())
    }
}
