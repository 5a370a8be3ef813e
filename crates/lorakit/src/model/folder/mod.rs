//! The files of a model folder that travel with its tensors.

mod doubts;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lorakit_tensor::{Error as FileError, Reader, json};
use serde_json::Value;

pub(crate) use doubts::doubts;

use crate::plan::{ADAPTER_CONFIG, CONFIGURATION, Content, SideFile, TOKENIZER};
use crate::{Finding, Model, Result, Severity};

/// Endings of files that hold weights or describe how they are split.
const WEIGHTS: &[&str] = &[
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".h5",
    ".msgpack",
    ".onnx",
    ".onnx_data",
    ".npz",
    ".index.json",
    ".partial",
    ".lock",
];
/// Folders of a model repository that hold other copies of the weights, or files that do not concern the output.
const FOREIGN_FOLDERS: &[&str] = &["original", "onnx", "runs", "logs", "openvino", "coreml", "flax", "metal"];
/// How the names of an adapter's tensor files begin, and of their shards and indexes.
const ADAPTER_STEMS: &[&str] = &["adapter_model.", "adapter_model-", "adapters.", "pytorch_lora_weights."];
/// Files that describe how weights are quantised, left out when they no longer are.
const QUANTIZATION: &[&str] = &["hf_quant_config.json", "quant_config.json", "quantize_config.json"];

/// Whether a file with that name belongs to an adapter, or would make a library take the folder for one.
pub(crate) fn is_of_adapter(name: &str) -> bool {
    name == ADAPTER_CONFIG || ADAPTER_STEMS.iter().any(|stem| name.starts_with(stem))
}

/// A note on the adapter that lies in the folder of `model` beside it.
pub(crate) fn adapter_in(model: &Model) -> Option<Finding> {
    let found = model.path.is_dir() && model.path.join(ADAPTER_CONFIG).is_file();
    let message =
        format!("also holds an adapter (`{ADAPTER_CONFIG}`), which is no part of the model: it is left out");
    found
        .then(|| Finding::new(Severity::Note, "adapter-in-model", &model.path.display().to_string(), message))
}

/// The files of `model` other than its tensors and those of adapters, by their path inside the folder.
pub(crate) fn travelling(model: &Model) -> Result<BTreeMap<PathBuf, Content>> {
    let mut files = BTreeMap::new();
    if model.is_gguf() {
        files.extend(model.rebuilt_files()?.iter().map(|file| (file.name.clone(), file.content.clone())));
    } else if model.path.is_dir() {
        collect(&model.path, Path::new(""), model.reader(), &mut files)?;
    } else {
        // The folder of a single file may hold anything.
        for name in CONFIGURATION.iter().chain(TOKENIZER) {
            let path = model.folder().join(name);
            if model.config.is_some() && model.reader().has(&path)? {
                files.insert(name.into(), Content::CopyOf(path));
            }
        }
    }
    if model.packing.is_some() {
        files.retain(|name, _| !QUANTIZATION.iter().any(|other| name == Path::new(other)));
    }
    let of_adapter = |name: &Path| name.file_name().and_then(|name| name.to_str()).is_some_and(is_of_adapter);
    files.retain(|name, _| !of_adapter(name));
    without_mark(&mut files, model)?;
    Ok(files)
}

/// Takes the byte order mark out of the configuration: this program reads past it, and transformers does not.
fn without_mark(files: &mut BTreeMap<PathBuf, Content>, model: &Model) -> Result<()> {
    let name = Path::new("config.json");
    if let Some(Content::CopyOf(path)) = files.get(name) {
        let text = model.reader().bytes(path, json::MAX_JSON_BYTES)?;
        let rest = json::without_mark(&text);
        if rest.len() < text.len() {
            let rest = rest.to_vec();
            files.insert(name.into(), Content::bytes(rest));
        }
    }
    Ok(())
}

/// The files of `folder` other than tensors, by their path inside it, with those of its folders that hold nothing else.
///
/// # Errors
/// If a folder cannot be listed.
pub(crate) fn files_beside(folder: &Path, reader: &Reader) -> Result<BTreeMap<PathBuf, Content>> {
    let mut files = BTreeMap::new();
    collect(folder, Path::new(""), reader, &mut files)?;
    Ok(files)
}

/// The `config.json` that travels with `model`. A rebuilt one knows more than the model's own: the ids of special
/// tokens.
pub(crate) fn config_among(files: &BTreeMap<PathBuf, Content>, model: &Model) -> Result<Option<Value>> {
    match files.get(Path::new("config.json")) {
        Some(Content::Bytes(text)) => Ok(Some(json::parse_object(text)?)),
        _ => Ok(model.config.as_ref().map(|config| config.json.clone())),
    }
}

/// Replaces the model's `config.json`.
pub(crate) fn set_config(files: &mut BTreeMap<PathBuf, Content>, json: &Value) {
    let mut text = json::pretty(json);
    text.push(b'\n');
    files.insert("config.json".into(), Content::bytes(text));
}

/// The files in the form that a plan takes.
pub(crate) fn side_files_of(files: BTreeMap<PathBuf, Content>) -> Vec<SideFile> {
    files.into_iter().map(|(name, content)| SideFile { name, content }).collect()
}

fn collect(
    folder: &Path,
    prefix: &Path,
    reader: &Reader,
    files: &mut BTreeMap<PathBuf, Content>,
) -> Result<()> {
    let fail = |e| FileError::io("list", folder, e);
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        entries.push(entry.map_err(fail)?.path());
    }
    entries.sort();
    for path in entries {
        let Some(name) = path.file_name() else { continue };
        let ends_with = |ending: &&str| name.as_bytes().ends_with(ending.as_bytes());
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        let inside = prefix.join(name);
        if path.is_dir() {
            // A link to a folder may lead anywhere: a model from a stranger must not carry the user's files along.
            if path.is_symlink() {
                continue;
            }
            let model = reader.has(&path.join("config.json"))? || reader.has(&path.join(ADAPTER_CONFIG))?;
            let foreign = FOREIGN_FOLDERS.iter().any(|folder| name == *folder);
            if !foreign && !model && prefix.as_os_str().is_empty() {
                collect(&path, &inside, reader, files)?;
            }
        } else if !WEIGHTS.iter().any(ends_with) && reader.has(&path)? {
            files.insert(inside, Content::CopyOf(path));
        }
    }
    Ok(())
}
