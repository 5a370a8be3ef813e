//! Files with tensors beside an adapter that are not read: what they hold is not in the adapter, and must be said.

use std::path::{Path, PathBuf};

use lorakit_tensor::Error as FileError;

use super::files::Files;
use crate::model::folder::is_of_adapter;
use crate::{Finding, Result, Severity};

/// The code of the finding that there are other adapters.
pub(crate) const OTHER_ADAPTERS: &str = "other-adapters";

/// Endings of files that hold tensors.
const TENSORS: &[&str] =
    &[".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".npz", ".h5", ".msgpack"];
/// Beginnings of files that hold the state of a training, not values of a model.
const STATE: &[&str] = &["optimizer", "scheduler", "scaler", "rng_state", "random_states", "training_args"];

/// The findings on what is beside the tensors of `files` and not among them.
///
/// # Errors
/// If the folder cannot be listed.
pub(super) fn unread(files: &Files) -> Result<Vec<Finding>> {
    // The folder of a single file may hold anything, unless it has the configuration of that file.
    if !files.path.is_dir() && files.config.is_none() {
        return Ok(Vec::new());
    }
    let folder = if files.folder().as_os_str().is_empty() { Path::new(".") } else { files.folder() };
    let fail = |e| FileError::io("list", folder, e);
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        entries.push(entry.map_err(fail)?.path());
    }
    entries.sort();
    let read: Vec<_> = files.source.files().iter().filter_map(|file| file.path().file_name()).collect();
    let (mut values, mut adapters) = (Vec::new(), Vec::new());
    for path in &entries {
        let Some(name) = path.file_name() else { continue };
        let text = name.to_string_lossy();
        if path.is_dir() {
            if holds_adapter(path) && !is_checkpoint(&text) {
                adapters.push(format!("`{text}/`"));
            }
        } else if TENSORS.iter().any(|ending| text.ends_with(ending)) && !read.contains(&name) {
            if is_of_adapter(&text) || text.ends_with(".gguf") {
                adapters.push(format!("`{text}`"));
            } else if !is_checkpoint(&text)
                && !STATE.iter().any(|word| text.starts_with(word))
                && !text.starts_with('.')
            {
                values.push(format!("`{text}`"));
            }
        }
    }
    let mut findings = Vec::new();
    if !values.is_empty() {
        let message = format!(
            "{} beside the adapter: not read, so if training changed what {}, that is missing",
            values.join(", "),
            if values.len() == 1 { "it holds" } else { "they hold" }
        );
        findings.push(Finding::new(Severity::Warning, "unread-tensors", "", message));
    }
    if !adapters.is_empty() {
        let message = format!(
            "{} beside the adapter: {}, not read",
            adapters.join(", "),
            if adapters.len() == 1 {
                "another adapter, or another form of it"
            } else {
                "other adapters, or other forms of it"
            }
        );
        findings.push(Finding::new(Severity::Note, OTHER_ADAPTERS, "", message));
    }
    Ok(findings)
}

/// Whether that is what trainers leave after every few hundred steps: `checkpoint-500`, MLX's
/// `0000500_adapters.safetensors`.
fn is_checkpoint(name: &str) -> bool {
    let step = name.strip_prefix("checkpoint-").or(name.strip_suffix("_adapters.safetensors"));
    step.is_some_and(|step| !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether `folder` is that of an adapter.
fn holds_adapter(folder: &Path) -> bool {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.into_iter().any(|name| is_of_adapter(&name.to_string_lossy()))
}
