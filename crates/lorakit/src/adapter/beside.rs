//! Files with tensors beside an adapter that are not read: what they hold is not in the adapter, and must be said.

use std::path::{Path, PathBuf};

use lorakit_tensor::Error as FileError;

use super::Adapter;
use super::files::Files;
use crate::model::folder::is_of_adapter;
use crate::{Finding, Result, Severity};

/// The code of the finding that there are other adapters.
pub(crate) const OTHER_ADAPTERS: &str = "other-adapters";

/// The code of the finding that programs lie beside it.
pub(crate) const CODE: &str = "code-beside";
/// The code of the finding that pickles lie beside it.
pub(crate) const PICKLES: &str = "pickles-beside";

/// The ending of files that a loader runs if it is allowed to.
const PYTHON: &str = ".py";
/// Endings of other files that are programs, in small letters like the others.
const PROGRAMS: &[&str] = &[
    ".pyc", ".pyd", ".pyw", ".pyz", ".so", ".dll", ".dylib", ".exe", ".scr", ".msi", ".sh", ".bash", ".bat",
    ".cmd", ".ps1", ".vbs", ".jar",
];
/// Endings of files that are read by unpickling them, which may run code that they bring.
const PICKLED: &[&str] = &[".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill"];
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
    let (mut scripts, mut programs) = (Vec::new(), Vec::new());
    let mut pickles = Pickles::default();
    for path in &entries {
        let Some(name) = path.file_name() else { continue };
        let text = name.to_string_lossy();
        let lower = text.to_lowercase();
        let ends_in = |endings: &[&str]| endings.iter().any(|ending| lower.ends_with(ending));
        if !path.is_dir() && !read.contains(&name) {
            scripts.extend(ends_in(&[PYTHON]).then(|| format!("`{text}`")));
            programs.extend(ends_in(PROGRAMS).then(|| format!("`{text}`")));
            if ends_in(PICKLED) {
                pickles.enter(&text);
            }
        }
        if path.is_dir() {
            if holds_adapter(path) && !is_checkpoint(&text) {
                adapters.push(format!("`{text}/`"));
            }
        } else if ends_in(TENSORS) && !read.contains(&name) {
            if is_of_adapter(&text) || lower.ends_with(".gguf") {
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
    for (names, what) in [
        (scripts, "an adapter needs no code, and what loads this folder with `trust_remote_code` may run it"),
        (programs, "an adapter needs no programs; loaders leave them alone, so do the same"),
    ] {
        if !names.is_empty() {
            let message = format!("{} beside the adapter: {what}", names.join(", "));
            findings.push(Finding::new(Severity::Warning, CODE, "", message));
        }
    }
    findings.extend(pickles.finding());
    Ok(findings)
}

/// Files that are read by unpickling them.
#[derive(Default)]
struct Pickles {
    names: Vec<String>,
    /// Whether one is not what trainers or PEFT write.
    foreign: bool,
}

impl Pickles {
    fn enter(&mut self, name: &str) {
        self.names.push(format!("`{name}`"));
        self.foreign |=
            !is_of_adapter(name) && !is_checkpoint(name) && !STATE.iter().any(|word| name.starts_with(word));
    }

    /// What trainers write is worth knowing; anything else is not needed.
    fn finding(self) -> Option<Finding> {
        let severity = if self.foreign { Severity::Warning } else { Severity::Note };
        let are = if self.names.len() == 1 { "is a pickle" } else { "are pickles" };
        let message = format!(
            "{} beside the adapter {are}: to unpickle may run code (`torch.load` without `weights_only`, `pickle.load`)",
            self.names.join(", ")
        );
        (!self.names.is_empty()).then(|| Finding::new(severity, PICKLES, "", message))
    }
}

impl Adapter {
    /// The findings of reading that are no faults, for operations that go on regardless: without what else lies in the
    /// folder, which is the business of whoever publishes or loads it.
    pub(crate) fn notes(&self) -> impl Iterator<Item = Finding> {
        let told = |f: &&Finding| f.severity != Severity::Error && ![CODE, PICKLES].contains(&f.code);
        self.findings.iter().filter(told).cloned()
    }
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
