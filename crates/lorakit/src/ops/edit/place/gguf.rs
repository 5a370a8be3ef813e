//! GGUF adapters: everything is in the metadata.

use lorakit_tensor::DType;
use lorakit_tensor::format::gguf::{Array, Value};

use super::interface::Place;
use crate::adapter::{Files, Module, is_local_path};
use crate::ops::edit::options::Alpha;
use crate::ops::edit::prefix::Prefixes;
use crate::ops::edit::problem::Problem;
use crate::ops::edit::work::{Header, Work};
use crate::{Error, Result};

const ALPHA: &str = "adapter.lora.alpha";
const BASE_COUNT: &str = "general.base_model.count";
const BASE: &str = "general.base_model.0.";
const LICENSE: &str = "general.license";
const TAGS: &str = "general.tags";
const FILE_TYPE: &str = "general.file_type";
const HUB: &str = "https://huggingface.co/";

/// A GGUF file.
#[derive(Debug)]
pub(super) struct Gguf;

impl Place for Gguf {
    fn format(&self) -> &'static str {
        "gguf"
    }

    fn stem(&self, _: &Files) -> Option<&'static str> {
        None
    }

    fn is_b(&self, name: &str) -> bool {
        name.ends_with(".lora_b")
    }

    fn describe(&self, work: &mut Work<'_>) -> Result<()> {
        let edits = work.edits;
        if let Some(base) = &edits.base_model {
            name_base(work, base);
            work.rename_carried_base(base);
        }
        if edits.revision.is_some() {
            work.refuse("revision", "its keys name the base, and no revision of it");
        }
        if let Some(license) = &edits.license {
            work.set_header("license", LICENSE, license);
            // They describe the old one.
            remove(work, "license", &format!("{LICENSE}.name"));
            remove(work, "license", &format!("{LICENSE}.link"));
        }
        if edits.edit_tags() {
            let Header::Gguf(metadata) = &mut work.header else { return Ok(()) };
            let before = metadata.get(TAGS).and_then(Value::as_strings).unwrap_or_default().to_vec();
            let after = edits.tags_after(&before);
            if after.is_empty() {
                metadata.remove(TAGS);
            } else {
                metadata.set(TAGS, Value::Array(Array::String(after.clone())));
            }
            work.note_tags(&before);
            if before != after {
                let some = |tags: Vec<String>| (!tags.is_empty()).then(|| tags.join(", "));
                work.changed("tags", TAGS, (some(before), some(after)));
            }
        }
        Ok(())
    }

    fn set_alpha(&self, work: &mut Work<'_>, alpha: Alpha) -> Result<()> {
        let mut ranks: Vec<usize> = work.read.modules.iter().map(Module::rank_of_one).collect();
        ranks.sort_unstable();
        ranks.dedup();
        let stored = match (alpha, ranks.as_slice()) {
            (Alpha::Is(alpha), _) => {
                let stored = alpha as f32;
                if f64::from(stored) != alpha {
                    return Err(Error::from(Problem::Alpha { alpha, stored }).at(&work.read.path));
                }
                stored
            }
            (Alpha::Folded, [rank]) => *rank as f32,
            // llama.cpp multiplies by 1 if alpha is 0, whatever the rank.
            (Alpha::Folded, _) => 0.0,
        };
        let Header::Gguf(metadata) = &mut work.header else { return Ok(()) };
        let before = metadata.get(ALPHA).map(ToString::to_string);
        metadata.set(ALPHA, Value::F32(stored));
        if before.as_deref() != Some(&stored.to_string()) {
            work.changed("alpha", ALPHA, (before, Some(stored.to_string())));
        }
        Ok(())
    }

    fn rename(&self, work: &mut Work<'_>, _: &Prefixes) -> Result<()> {
        work.refuse("paths", "llama.cpp gives the tensors of every model the same names");
        Ok(())
    }

    fn finish(&self, work: &mut Work<'_>) {
        let file_type = match work.edits.dtype {
            Some(DType::F16) => 1,
            Some(DType::BF16) => 32,
            Some(DType::F32) => 0,
            _ => return,
        };
        if let Header::Gguf(metadata) = &mut work.header
            && metadata.get(FILE_TYPE).is_some()
        {
            metadata.set(FILE_TYPE, Value::U32(file_type));
        }
    }
}

/// Names the first base: as on the hub, if it has an owner there.
fn name_base(work: &mut Work<'_>, base: &str) {
    let owned = base.split_once('/').filter(|_| !is_local_path(base));
    let (organization, name) = owned.map_or((None, base), |(owner, name)| (Some(owner), name));
    if let Header::Gguf(metadata) = &mut work.header
        && metadata.get(BASE_COUNT).and_then(Value::as_u64).is_none_or(|count| count == 0)
    {
        metadata.set(BASE_COUNT, Value::U32(1));
    }
    work.set_header("base_model", &format!("{BASE}name"), name);
    // They describe the old one.
    for part in ["author", "version", "description", "url", "doi", "uuid"] {
        remove(work, "base_model", &format!("{BASE}{part}"));
    }
    let (owner, address) = (format!("{BASE}organization"), format!("{BASE}repo_url"));
    match organization {
        Some(organization) => {
            work.set_header("base_model", &owner, organization);
            work.set_header("base_model", &address, &format!("{HUB}{base}"));
        }
        None => {
            remove(work, "base_model", &owner);
            remove(work, "base_model", &address);
        }
    }
}

/// Removes a key of the metadata.
fn remove(work: &mut Work<'_>, what: &'static str, key: &str) {
    let Header::Gguf(metadata) = &mut work.header else { return };
    if let Some(before) = metadata.remove(key) {
        work.changed(what, key, (Some(before.to_string()), None));
    }
}
