//! Base, licence and tags in the model card of a folder.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lorakit_tensor::json::MAX_JSON_BYTES;

use super::work::Work;
use crate::Result;
use crate::card::{CARD_FILE, Card, Value};
use crate::plan::Content;

/// Edits the card among `files`; makes one if there is none and the licence or the tags have no other place.
///
/// # Errors
/// `ErrorKind::Config` for a card whose front matter cannot be edited.
pub(super) fn describe(work: &mut Work<'_>, files: &mut BTreeMap<PathBuf, Content>) -> Result<()> {
    let edits = work.edits;
    let name = PathBuf::from(CARD_FILE);
    let elsewhere = edits.license.is_none() && !edits.edit_tags() && work.config.is_some();
    if !edits.describe() || elsewhere && !files.contains_key(&name) {
        return Ok(());
    }
    let path = work.files.folder().join(CARD_FILE);
    let place = |e: crate::Error| e.at(&path);
    let mut card = Card::default();
    if files.contains_key(&name) {
        card = Card::parse(&work.files.reader.bytes(&path, MAX_JSON_BYTES)?);
    }
    if let Some(base) = &edits.base_model {
        let before = card.base_models().join(", ");
        if card.set("base_model", &Value::text(base)).map_err(place)? {
            changed(work, "base_model", before, base.clone());
        }
    }
    if let Some(license) = &edits.license {
        let before = card.license().unwrap_or_default().to_string();
        if card.set("license", &Value::text(license)).map_err(place)? {
            changed(work, "license", before, license.clone());
        }
    }
    if edits.edit_tags() {
        let before: Vec<String> = card.tags().into_iter().map(str::to_string).collect();
        work.note_tags(&before);
        let after = edits.tags_after(&before);
        if before != after {
            let changes = if after.is_empty() {
                card.remove("tags").map_err(place)?
            } else {
                card.set("tags", &Value::list(after.iter().map(String::as_str))).map_err(place)?
            };
            if changes {
                changed(work, "tags", before.join(", "), after.join(", "));
            }
        }
    }
    files.insert(name, Content::bytes(card.bytes()));
    Ok(())
}

fn changed(work: &mut Work<'_>, key: &'static str, before: String, after: String) {
    let some = |text: String| (!text.is_empty()).then_some(text);
    work.changed(key, format!("{CARD_FILE}: {key}"), (some(before), some(after)));
}

impl Work<'_> {
    /// Notes tags that are already there, and removed ones that are not.
    pub(super) fn note_tags(&mut self, before: &[String]) {
        let twice = self.edits.tags.iter().filter(|tag| before.contains(tag));
        let absent = self.edits.removed_tags.iter().filter(|tag| !before.contains(tag));
        let twice: Vec<String> = twice.map(|tag| format!("the tag `{tag}` is there already")).collect();
        let absent: Vec<String> = absent.map(|tag| format!("there is no tag `{tag}` to remove")).collect();
        for message in twice.into_iter().chain(absent) {
            self.note("tags", message);
        }
    }
}
