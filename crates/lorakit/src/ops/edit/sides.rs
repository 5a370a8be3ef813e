//! The files beside the tensors, which travel as they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lorakit_tensor::Error as FileError;

use super::work::{CONFIG, Work};
use crate::Result;
use crate::card::CARD_FILE;
use crate::model::folder::{doubts, files_beside};
use crate::plan::{Content, PROVENANCE_FILE, TOKENIZER};

/// The files of the folder, by their path in it. Files of other weights, and of the state of a training, belong to the
/// old factors; they are left out, and a note names them.
///
/// # Errors
/// If the folder cannot be listed.
pub(super) fn travelling(work: &mut Work<'_>) -> Result<BTreeMap<PathBuf, Content>> {
    let files = work.files;
    let folder = files.folder();
    if !files.path.is_dir() {
        // The folder of a single file may hold anything.
        let mut found = BTreeMap::new();
        for name in TOKENIZER.iter().chain(&[CONFIG, CARD_FILE]).filter(|_| files.config.is_some()) {
            if files.reader.has(&folder.join(name))? {
                found.insert(name.into(), Content::CopyOf(folder.join(name)));
            }
        }
        return Ok(found);
    }
    let found = files_beside(folder, &files.reader)?;
    let own: Vec<&Path> = files.source.files().iter().map(lorakit_tensor::Storage::path).collect();
    let fail = |e| FileError::io("list", folder, e);
    let mut left = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let known = found.keys().any(|known| known.starts_with(&name));
        let index = path == files.source.path();
        if !known
            && !index
            && !own.contains(&path.as_path())
            && !name.starts_with('.')
            && name != PROVENANCE_FILE
        {
            left.push(format!("`{name}`"));
        }
    }
    left.sort();
    if !left.is_empty() {
        let message =
            format!("left out {}: other weights, or what does not belong to an adapter", left.join(", "));
        work.note("left-out", message);
    }
    work.notes.extend(doubts(&found, &files.reader)?);
    Ok(found)
}
