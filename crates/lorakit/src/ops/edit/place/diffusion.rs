//! Adapters of diffusion models: kohya's files, and the folders and files of diffusers.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::interface::Place;
use super::peft::number;
use crate::Result;
use crate::adapter::Files;
use crate::adapter::format::{Spelled, by_name, module_of, spelled};
use crate::ops::edit::options::Alpha;
use crate::ops::edit::prefix::Prefixes;
use crate::ops::edit::work::{Header, Item, Work};

/// Stability AI's model specification.
const LICENSE: &str = "modelspec.license";
const TAGS: &str = "modelspec.tags";
/// kohya's name of the model that was trained on.
const MODEL: &str = "ss_sd_model_name";
const NETWORK_ALPHA: &str = "ss_network_alpha";
/// The configurations of the components of a pipeline, in one object.
const COMPONENTS: &str = "lora_adapter_metadata";

/// Both formats have a header of strings, and may have an alpha for each module.
#[derive(Debug)]
pub(super) struct Diffusion {
    pub(super) format: &'static str,
}

impl Place for Diffusion {
    fn format(&self) -> &'static str {
        self.format
    }

    fn stem(&self, files: &Files) -> Option<&'static str> {
        (self.format == "diffusers" && files.path.is_dir()).then_some("pytorch_lora_weights")
    }

    fn is_b(&self, name: &str) -> bool {
        spelled(name) == Some(Spelled::B)
    }

    fn describe(&self, work: &mut Work<'_>) -> Result<()> {
        let edits = work.edits;
        if edits.revision.is_some() {
            work.refuse("revision", "its header names the base, and no revision of it");
        }
        if let Some(base) = &edits.base_model {
            work.rename_carried_base(base);
        }
        if self.stem(work.files).is_some() {
            // The model card of the folder has the rest.
            return Ok(());
        }
        if let Some(base) = &edits.base_model {
            work.set_header("base_model", MODEL, base);
        }
        if let Some(license) = &edits.license {
            work.set_header("license", LICENSE, license);
        }
        if edits.edit_tags() {
            let before = work.header(TAGS).unwrap_or_default();
            let before: Vec<String> =
                before.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_string).collect();
            let after = edits.tags_after(&before);
            work.note_tags(&before);
            if before != after {
                work.set_header("tags", TAGS, &after.join(","));
            }
        }
        Ok(())
    }

    fn set_alpha(&self, work: &mut Work<'_>, alpha: Alpha) -> Result<()> {
        let alphas: Vec<usize> = (0..work.tensors.len())
            .filter(|index| spelled(&work.tensors[*index].name) == Some(Spelled::Alpha))
            .collect();
        let components = work.header(COMPONENTS).is_some();
        if let Alpha::Is(_) = alpha
            && (components && self.format == "diffusers" || alphas.len() < modules(work))
        {
            work.refuse("alpha", "not every module has an alpha of its own, next to its factors");
            return Ok(());
        }
        let ranks = ranks(work);
        for index in alphas {
            let item = &mut work.tensors[index];
            let module = item.name.strip_suffix(".alpha").unwrap_or_default();
            item.value = Some(match alpha {
                Alpha::Folded => ranks.get(module).copied().unwrap_or_default() as f64,
                Alpha::Is(alpha) => alpha,
            });
        }
        if work.header(NETWORK_ALPHA).is_some() {
            let mut all = ranks.values();
            let first = all.next().copied().unwrap_or_default();
            let said = match alpha {
                Alpha::Is(alpha) => alpha.to_string(),
                Alpha::Folded if all.all(|rank| *rank == first) => first.to_string(),
                Alpha::Folded => "Dynamic".into(),
            };
            work.set_header("alpha", NETWORK_ALPHA, &said);
        }
        let components = work.header(COMPONENTS).map(serde_json::from_str::<Map<String, Value>>);
        if let Some(Ok(components)) = components {
            let text = serde_json::to_string_pretty(&folded(components)).unwrap_or_default();
            work.set_header("alpha", COMPONENTS, &text);
        }
        Ok(())
    }

    fn rename(&self, work: &mut Work<'_>, _: &Prefixes) -> Result<()> {
        work.refuse("paths", "its names are those of a list of the diffusion model's layers");
        Ok(())
    }

    /// The hashes by which web interfaces recognise a file are of its tensors and of some of its header.
    fn finish(&self, work: &mut Work<'_>) {
        let hashed = |name: &str| name.starts_with("sshs_");
        let Header::Safetensors(metadata) = &mut work.header else { return };
        let same = work.tensors.iter().all(|item| !item.is_edited());
        let described = work.changes.iter().any(|change| change.place.starts_with("ss_"));
        if metadata.keys().any(|name| hashed(name)) && (!same || described) {
            by_name(self.format).inspect(|format| format.reserve_digests(metadata));
            work.hashed = true;
        }
    }
}

/// The number of modules of the file.
fn modules(work: &Work<'_>) -> usize {
    work.tensors.iter().filter(|item| spelled(&item.name) == Some(Spelled::A)).count()
}

/// The rank of each module, by its name in the file.
fn ranks(work: &Work<'_>) -> BTreeMap<String, usize> {
    let of_a = work.tensors.iter().filter(|item| spelled(&item.name) == Some(Spelled::A));
    let rank = |item: &Item| {
        let rank = item.tensor.info().shape.first().copied().unwrap_or_default();
        (module_of(&item.name).to_string(), rank)
    };
    of_a.map(rank).collect()
}

/// The configurations with alphas that are the ranks: `unet.lora_alpha` is `unet.r`.
fn folded(mut components: Map<String, Value>) -> Map<String, Value> {
    let names: Vec<String> =
        components.keys().filter_map(|key| Some(key.split_once('.')?.0.to_string())).collect();
    for name in names {
        let key = |field: &str| format!("{name}.{field}");
        let r = components.get(&key("r")).and_then(Value::as_f64).unwrap_or(8.0);
        let ranks = components.get(&key("rank_pattern")).cloned().unwrap_or_else(|| json!({}));
        let mut set = |field: &str, value: Value, always: bool| {
            if always || components.contains_key(&key(field)) {
                components.insert(key(field), value);
            }
        };
        let patterns = !ranks.as_object().is_none_or(Map::is_empty);
        set("lora_alpha", number(r), true);
        set("alpha_pattern", ranks, patterns);
        set("use_rslora", false.into(), false);
    }
    components
}
