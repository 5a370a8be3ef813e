//! Which files of a folder are added.

use std::fs;
use std::path::{Path, PathBuf};

use crate::artifact::is_plain;
use crate::problem::Problem;
use crate::store::io;
use crate::{Error, Result};

/// What is taken: weights, configurations, tokenizers, documents, sample images.
const TAKEN: &[&str] = &[
    "safetensors",
    "gguf",
    "json",
    "jsonl",
    "md",
    "txt",
    "jinja",
    "model",
    "yaml",
    "yml",
    "csv",
    "png",
    "jpg",
    "jpeg",
    "webp",
];
/// What holds code, or may.
const PICKLES: &[&str] = &["bin", "pt", "pth", "ckpt", "pkl", "pickle", "npz", "npy"];
/// Documents without an ending.
const DOCUMENTS: &[&str] = &["LICENSE", "LICENCE", "NOTICE", "COPYING", "USE_POLICY"];
/// How deep folders of models are.
const DEEPEST: usize = 4;

/// A file that is added.
pub(super) struct Taken {
    /// Where it is.
    pub(super) source: PathBuf,
    /// Where it goes.
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// What is at a path.
pub(super) struct Found {
    /// Sorted by path.
    pub(super) files: Vec<Taken>,
    /// What is left out, and why.
    pub(super) left_out: Vec<(String, &'static str)>,
    /// The name of the file, if one was named rather than a folder.
    pub(super) name: Option<String>,
}

/// The files of the adapter or model at `source`. Of an adapter those beside its configuration, of a model those in
/// folders below too.
pub(super) fn find(source: &Path) -> Result<Found> {
    let looking = |e| io("look at", source, e);
    let meta = fs::metadata(source).map_err(looking)?;
    let name = source.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut found = Found { files: Vec::new(), left_out: Vec::new(), name: None };
    if !meta.is_dir() {
        let name = name.unwrap_or_default();
        let real = fs::canonicalize(source).map_err(looking)?;
        if !meta.is_file() {
            return Err(Error::from(Problem::NotPlain { file: name }).at(source));
        }
        take(&mut found, real, name.clone(), meta.len());
        found.name = Some(name);
    } else {
        let is_adapter = source.join("adapter_config.json").exists();
        let root = fs::canonicalize(source).map_err(looking)?;
        walk(&mut found, &root, source, "", if is_adapter { 1 } else { DEEPEST })?;
    }
    let has_weights = found.files.iter().any(|file| is_weights(&file.path));
    let pickle = found.left_out.iter().find(|(name, why)| *why == PICKLE && name != "training_args.bin");
    match pickle {
        Some((file, _)) if !has_weights => {
            Err(Error::from(Problem::Pickle { file: file.clone() }).at(source))
        }
        _ if !has_weights => Err(Error::from(Problem::Nothing).at(source)),
        _ => {
            found.files.sort_by(|a, b| a.path.cmp(&b.path));
            Ok(found)
        }
    }
}

/// Why a file is left out whose name other systems do not take.
const STRANGE: &str = "its name is not one on every system";
/// Why a pickle is left out.
const PICKLE: &str = "a pickle, which can hold code";

fn is_weights(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "safetensors" || ending == "gguf")
}

fn walk(found: &mut Found, root: &Path, folder: &Path, inside: &str, depth: usize) -> Result<()> {
    let listing = |e| io("list", folder, e);
    for entry in fs::read_dir(folder).map_err(listing)? {
        let entry = entry.map_err(listing)?;
        let path = entry.path();
        let name = format!("{inside}{}", entry.file_name().to_string_lossy());
        if entry.file_name().to_str().is_none() {
            found.left_out.push((name, STRANGE));
            continue;
        }
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            found.left_out.push((name, "hidden"));
            continue;
        }
        let meta = match fs::metadata(&path) {
            Ok(meta) => meta,
            Err(_) => {
                found.left_out.push((name, "a link to nothing"));
                continue;
            }
        };
        if meta.is_dir() {
            if depth > 1 {
                walk(found, root, &path, &format!("{name}/"), depth - 1)?;
            } else {
                found.left_out.push((format!("{name}/"), "a folder"));
            }
            continue;
        }
        let real = fs::canonicalize(&path).map_err(|e| io("look at", &path, e))?;
        if !meta.is_file() {
            return Err(Error::from(Problem::NotPlain { file: name }).at(folder));
        }
        if !is_own(root, &real) {
            return Err(Error::from(Problem::LinkOut { file: name }).at(folder));
        }
        take(found, real, name, meta.len());
    }
    Ok(())
}

/// Whether a file is in the folder, or is one of the hub's cache that the folder's links lead to.
fn is_own(root: &Path, real: &Path) -> bool {
    let repository = root.ancestors().find(|folder| folder.ends_with("snapshots")).and_then(Path::parent);
    real.starts_with(root) || repository.is_some_and(|repository| real.starts_with(repository.join("blobs")))
}

fn take(found: &mut Found, source: PathBuf, name: String, bytes: u64) {
    let file = name.rsplit('/').next().unwrap_or(&name);
    let ending = file.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    if PICKLES.contains(&ending.as_str()) {
        found.left_out.push((name, PICKLE));
    } else if !TAKEN.contains(&ending.as_str()) && !DOCUMENTS.contains(&file) {
        found.left_out.push((name, "of an unknown kind"));
    } else if !is_plain(&name) {
        found.left_out.push((name, STRANGE));
    } else {
        found.files.push(Taken { source, path: name.into(), bytes });
    }
}
