//! The hub cache of this machine: where it is, and what is in it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::Found;
use super::id::Id;

/// Files that hold weights.
const WEIGHTS: &[&str] = &["safetensors", "gguf", "bin", "pt", "pth", "ckpt", "npz"];

/// The snapshot that an input names, unless there is such a path.
pub(super) fn find(path: &Path) -> Option<Found> {
    let id = Id::of(path)?;
    if path.symlink_metadata().is_ok() {
        return None;
    }
    let folder = cache()?.join(format!("models--{}--{}", id.owner, id.name));
    let snapshots = folder.join("snapshots");
    let commit = match &id.revision {
        Some(revision) => of_ref(&folder, revision).or_else(|| of_prefix(&snapshots, revision))?,
        None => of_ref(&folder, "main").or_else(|| of_prefix(&snapshots, ""))?,
    };
    let snapshot = snapshots.join(&commit);
    let inside = id.file.as_ref().map_or_else(|| snapshot.clone(), |file| snapshot.join(file));
    inside.exists().then_some(Found { id, snapshot, commit })
}

/// The snapshot that a branch or tag stands for, if it is there.
fn of_ref(folder: &Path, name: &str) -> Option<String> {
    let commit = fs::read_to_string(folder.join("refs").join(name)).ok()?;
    let commit = commit.trim();
    let is_name = !commit.is_empty() && commit.bytes().all(|b| b.is_ascii_alphanumeric());
    (is_name && folder.join("snapshots").join(commit).is_dir()).then(|| commit.to_string())
}

/// The only snapshot whose name begins so.
fn of_prefix(snapshots: &Path, prefix: &str) -> Option<String> {
    let names =
        fs::read_dir(snapshots).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names = names.filter(|name| name.starts_with(prefix));
    names.next().filter(|_| names.next().is_none())
}

/// The path that a variable holds; nothing if it is empty.
pub(super) fn set(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The folder in which `hf download` keeps what it downloads.
fn cache() -> Option<PathBuf> {
    let home = || set("HOME");
    let place = set("HF_HUB_CACHE")
        .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(set("HF_HOME")?.join("hub")))
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("huggingface/hub")))
        .or_else(|| Some(home()?.join(".cache/huggingface/hub")))?;
    // The hub's own programs read `~` so.
    place.strip_prefix("~").ok().and_then(|rest| Some(home()?.join(rest))).or(Some(place))
}

/// Whether this machine has a hub cache.
pub(crate) fn has_cache() -> bool {
    cache().is_some_and(|place| place.is_dir())
}

/// What a snapshot lacks, in a few words.
pub(super) fn missing(snapshot: &Path) -> Option<String> {
    let names = fs::read_dir(snapshot).ok()?.flatten().map(|entry| entry.path());
    let mut weights = false;
    for path in names {
        let name = path.file_name().unwrap_or_default().display().to_string();
        if !path.exists() {
            return Some(format!("no `{name}`"));
        }
        weights |= path.extension().is_some_and(|ending| WEIGHTS.iter().any(|known| ending == *known));
        if name.ends_with(".index.json")
            && let Some(shard) = missing_shard(&path)
        {
            return Some(format!("no `{shard}`"));
        }
    }
    (!weights).then(|| "no weights".into())
}

/// A file that an index lists and that is not beside it.
fn missing_shard(index: &Path) -> Option<String> {
    let text = fs::read_to_string(index).ok()?;
    let index_of: serde_json::Value = serde_json::from_str(&text).ok()?;
    let shards = index_of["weight_map"].as_object()?.values().filter_map(|name| name.as_str());
    let folder = index.parent()?;
    shards.filter(|name| !folder.join(name).exists()).min().map(str::to_string)
}
