//! Where an output goes, and what may be there already.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lorakit_tensor::Reader;
use lorakit_tensor::format::safetensors;
use lorakit_tensor::publish::{self, Existing};
use serde_json::Value;

use super::{ADAPTER_CONFIG, CONFIGURATION, Container, PROVENANCE_FILE, Plan, Problem, TOKENIZER};
use crate::card::{CARD_FILE, Card, MAX_CARD_BYTES};
use crate::{Error, Result};

/// Where the output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A folder: tensor files, index and side files.
    Folder(PathBuf),
    /// One tensor file.
    File(PathBuf),
}

impl Target {
    /// The path.
    pub fn path(&self) -> &Path {
        match self {
            Target::Folder(path) | Target::File(path) => path,
        }
    }
}

impl Plan {
    /// Whether the output can be written as things stand, and which files it replaces.
    ///
    /// # Errors
    /// [`ErrorKind::File`](crate::ErrorKind::File) with `Exists` if something is there that may not be replaced, or
    /// `NoSpace`.
    pub fn check(&self) -> Result<Vec<PathBuf>> {
        let existing = self.existing()?;
        self.check_space()?;
        Ok(self.replaced(&existing))
    }

    pub(super) fn check_space(&self) -> Result<()> {
        let (needed, free) = (self.output_bytes(), publish::free_space(self.target.path())?);
        if needed > free {
            return Err(Error::from(Problem::NoSpace { needed, free }).at(self.target.path()));
        }
        Ok(())
    }

    /// The files that are replaced, if the publication may replace any.
    pub(super) fn replaced(&self, existing: &Existing) -> Vec<PathBuf> {
        match (existing, &self.target) {
            (Existing::Replaced(known), Target::Folder(_)) => known.iter().cloned().collect(),
            (Existing::Replaced(_), Target::File(path)) if path.exists() => vec![super::name_of(path).into()],
            _ => Vec::new(),
        }
    }

    /// What the publication may do with what is already there.
    ///
    /// A folder is replaced only if everything in it is also part of this output, or is named by a configuration, an
    /// index or the record of its origin in it. A model card has the same name whoever wrote it, so it must be named by
    /// that record, have a section of ours, or be that of the input.
    pub(super) fn existing(&self) -> Result<Existing> {
        let path = self.target.path();
        let named = path.file_name().is_some();
        let existing = match &self.target {
            _ if !self.replace => Existing::Kept,
            Target::Folder(_) if named && path.is_dir() => {
                let ours = self.own_names(path);
                let own = |name: &PathBuf| {
                    let card = name == Path::new(CARD_FILE);
                    if card {
                        ours.contains(name) || self.is_own_card(path)
                    } else {
                        self.may_go(name, &ours)
                    }
                };
                let known = publish::contents(path)?.into_iter().filter(own);
                Existing::Replaced(known.collect())
            }
            _ => Existing::Replaced(BTreeSet::new()),
        };
        match &self.target {
            Target::Folder(path) => publish::check_folder(path, &existing)?,
            Target::File(path) => publish::check_file(path, self.replace)?,
        }
        Ok(existing)
    }

    /// Whether a file of the old output is removed with it.
    fn may_go(&self, name: &Path, ours: &BTreeSet<PathBuf>) -> bool {
        let Some(text) = name.to_str() else { return ours.contains(name) };
        let tensors = match &self.container {
            Container::Safetensors { stem, .. } => safetensors::is_file_of(stem, text),
            Container::Gguf(_) => false,
        };
        let companion = [ADAPTER_CONFIG, PROVENANCE_FILE].contains(&text)
            || CONFIGURATION.contains(&text)
            || TOKENIZER.contains(&text);
        tensors || companion || ours.contains(name)
    }

    /// Whether the model card in `folder` was written with an output, or carried along with it.
    fn is_own_card(&self, folder: &Path) -> bool {
        let bytes = Reader::default().bytes(&folder.join(CARD_FILE), MAX_CARD_BYTES).ok();
        bytes.is_some_and(|bytes| Card::parse(&bytes).has_section() || self.carried_card() == Some(bytes))
    }

    /// The files of this output, and those that the old one in `folder` says it consists of.
    fn own_names(&self, folder: &Path) -> BTreeSet<PathBuf> {
        let files = self.files.iter().map(|file| PathBuf::from(&file.name));
        let mut names: BTreeSet<PathBuf> =
            files.chain(self.side_files.iter().map(|file| file.name.clone())).collect();
        names.remove(Path::new(CARD_FILE));
        // These describe the old output and are not inputs, so they get a reader of their own.
        let reader = Reader::default();
        if let Container::Safetensors { stem, .. } = &self.container
            && let Ok(pairs) = safetensors::read_index(&folder.join(safetensors::index_name(stem)), &reader)
        {
            names.extend(pairs.into_iter().map(|(_, file)| PathBuf::from(file)));
        }
        if let Ok(config) = reader.json_object(&folder.join("config.json")) {
            names.extend(modules_of(&config));
        }
        if let Ok(page) = reader.json_object(&folder.join(PROVENANCE_FILE)) {
            let files = page["files"].as_array().into_iter().flatten();
            names.extend(files.filter_map(Value::as_str).map(PathBuf::from));
        }
        names
    }
}

/// The Python files that a configuration names for classes of its own: `"AutoModel": "modeling_x.Model"`.
fn modules_of(config: &Value) -> Vec<PathBuf> {
    let classes = config["auto_map"].as_object().into_iter().flatten();
    let module =
        |class: &Value| class.as_str()?.split_once('.').map(|(module, _)| format!("{module}.py").into());
    classes.filter_map(|(_, class)| module(class)).collect()
}
