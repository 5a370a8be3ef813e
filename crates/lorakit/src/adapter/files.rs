//! Finding and opening the files of an adapter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use lorakit_tensor::{Checkpoint, Format as Container, Reader};
use serde_json::Value;

use super::Problem;
use super::problem::CONFIG;
use crate::{Error, Result, TensorRef};

/// The opened files of an adapter, not yet interpreted.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// The path as it was given.
    pub(crate) path: PathBuf,
    /// `adapter_config.json`, where there is one.
    pub(crate) config: Option<Value>,
    /// The tensors.
    pub(crate) source: Arc<Checkpoint>,
    /// The reader that opened them, for the files next to them.
    pub(crate) reader: Reader,
    /// Whether factors of experts are stacked; cached, because every tensor asks.
    pub(super) stacked: OnceLock<bool>,
    /// Whether all tensors belong to layers of one image model; cached for the same reason.
    pub(super) of_image_model: OnceLock<bool>,
}

impl Files {
    /// Opens a folder, or a tensor file with the files next to it. `names` are those that formats give tensor files.
    ///
    /// # Errors
    /// `ErrorKind::NoAdapter`, or `ErrorKind::WrongRole` for a model; any error of reading the files.
    pub(crate) fn open(
        path: &Path,
        reader: &Reader,
        names: impl Iterator<Item = &'static str>,
    ) -> Result<Self> {
        reader.name(path);
        std::fs::metadata(path).map_err(|e| lorakit_tensor::Error::io("open", path, e))?;
        let folder = folder_of(path);
        let config_path = folder.join(CONFIG);
        let config = if reader.has(&config_path)? { Some(reader.json_object(&config_path)?) } else { None };
        refuse_part(path)?;
        let file =
            if path.is_dir() { tensors_in(path, config.is_some(), names)? } else { path.to_path_buf() };
        let source = Arc::new(Checkpoint::open(&file, reader)?);
        Ok(Files {
            path: path.to_path_buf(),
            config,
            source,
            reader: reader.clone(),
            stacked: OnceLock::new(),
            of_image_model: OnceLock::new(),
        })
    }

    /// The folder of the configuration.
    pub(crate) fn folder(&self) -> &Path {
        folder_of(&self.path)
    }

    /// The configuration's path, for messages.
    pub(crate) fn config_path(&self) -> PathBuf {
        self.folder().join(CONFIG)
    }

    /// Whether the tensors are in a GGUF file.
    pub(crate) fn is_gguf(&self) -> bool {
        self.source.format() == Container::Gguf
    }

    /// Strings of the file's header.
    pub(crate) fn metadata(&self) -> &BTreeMap<String, String> {
        self.source.metadata()
    }

    /// Tensor `index` of the file.
    pub(crate) fn tensor(&self, index: usize) -> TensorRef {
        TensorRef::new(self.source.clone(), index)
    }

    /// The error for files that are not an adapter.
    pub(crate) fn no_adapter(&self) -> Error {
        no_config(&self.path, self.folder())
    }
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) }
}

/// The tensor file of a folder: one with a known name, or the only one.
fn tensors_in(folder: &Path, configured: bool, names: impl Iterator<Item = &'static str>) -> Result<PathBuf> {
    if !configured && folder.join("config.json").is_file() {
        return Err(no_config(folder, folder));
    }
    if let Some(known) = names.map(|name| folder.join(name)).find(|path| path.is_file()) {
        return Ok(known);
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let tensors = |path: &PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        matches!(extension, "safetensors" | "gguf") && path.is_file()
    };
    let mut found: Vec<PathBuf> = entries.filter(tensors).collect();
    found.sort();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] if configured => Err(Error::from(Problem::NoTensors).at(folder)),
        [] => Err(no_config(folder, folder)),
        many if many.iter().all(|path| is_part(path)) => {
            Err(Error::from(Problem::PartsWithoutIndex { parts: many.len() }).at(folder))
        }
        many => {
            let names = many.iter().map(|path| format!("`{}` is one", path.display())).collect();
            Err(Error::from(Problem::ManyTensorFiles { count: many.len() }).at(folder).details(names))
        }
    }
}

/// Refuses a file whose name says that it is one of several parts.
fn refuse_part(path: &Path) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((stem, parts)) = part_of(name).filter(|_| path.is_file()) else { return Ok(()) };
    let index = folder_of(path).join(format!("{stem}.safetensors.index.json"));
    let problem = match index.is_file() {
        true => Problem::OnePart { parts },
        false => Problem::PartWithoutIndex { parts },
    };
    Err(Error::from(problem).at(path))
}

/// Of a name like `adapter_model-00001-of-00002.safetensors`, what is in front of the numbers, and the number of parts;
/// `None` if there is only one.
fn part_of(name: &str) -> Option<(&str, usize)> {
    let (before, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (stem, number) = before.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let count = count.parse().ok().filter(|&parts: &usize| parts > 1 && digits(number) && digits(count))?;
    Some((stem, count))
}

fn is_part(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| part_of(name).is_some())
}

fn no_config(path: &Path, folder: &Path) -> Error {
    if folder.join("config.json").is_file() {
        return Error::from(Problem::FullModel).at(path);
    }
    let nested = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    let mut nested: Vec<PathBuf> = nested.filter(|p| p.join(CONFIG).is_file()).collect();
    nested.sort();
    let inner = nested.iter().map(|path| format!("`{}` is one", path.display())).collect();
    Error::from(Problem::NoConfiguration).at(path).details(inner)
}
