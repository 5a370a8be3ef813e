//! Inputs named as on the Hugging Face hub, `OWNER/NAME` or `OWNER/NAME@REVISION`: found in the hub cache of this
//! machine, never downloaded.
//!
//! ```text
//! CACHE/models--OWNER--NAME/refs/main            holds the name of a snapshot
//! CACHE/models--OWNER--NAME/snapshots/COMMIT/    the files, as links to blobs
//! ```
//!
//! What is printed names an input as it was typed, not by its place in the cache.

use std::borrow::Cow;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use lorakit::{Finding, Severity};

/// Files that hold weights.
const WEIGHTS: &[&str] = &["safetensors", "gguf", "bin", "pt", "pth", "ckpt", "npz"];

/// What became of the inputs of this command line that have the form of an id.
static INPUTS: RwLock<Inputs> = RwLock::new(Inputs { found: Vec::new(), absent: Vec::new() });

/// Inputs that have the form of an id.
#[derive(Debug)]
struct Inputs {
    found: Vec<Found>,
    /// Neither a path nor in the cache.
    absent: Vec<PathBuf>,
}

/// An input that is in the cache.
#[derive(Debug, Clone)]
struct Found {
    id: Id,
    /// The folder of the snapshot.
    snapshot: PathBuf,
    commit: String,
}

/// A name on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Id {
    owner: String,
    name: String,
    revision: Option<String>,
    /// A file in it.
    file: Option<String>,
}

/// Replaces ids among the inputs by the folders of their snapshots, where there is no such path but the cache has it.
/// Says which snapshots they are.
pub(crate) fn resolve(paths: Vec<&mut PathBuf>) -> Vec<Finding> {
    let mut notes: Vec<Finding> = Vec::new();
    let mut inputs = Inputs { found: Vec::new(), absent: Vec::new() };
    for path in paths {
        let Some(found) = find(path) else {
            inputs.absent.extend(path.symlink_metadata().is_err().then(|| path.clone()));
            continue;
        };
        let typed = path.display().to_string();
        *path = found.snapshot.clone();
        path.extend(&found.id.file);
        if !notes.iter().any(|note| note.subject == typed) {
            let short = found.commit.get(..7).unwrap_or(&found.commit);
            let message = format!("revision {short}, from the hub cache of this machine");
            notes.push(Finding::new(Severity::Note, "hub-cache", &typed, message));
        }
        inputs.found.push(found);
    }
    if let Ok(mut known) = INPUTS.write() {
        *known = inputs;
    }
    notes
}

/// Whether there is something of that name: a path, or an id that the cache has.
pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok() || find(path).is_some()
}

/// The text with every place in the cache named as it was typed.
pub(crate) fn as_typed(text: &str) -> Cow<'_, str> {
    let Ok(inputs) = INPUTS.read() else { return text.into() };
    let mut text = Cow::Borrowed(text);
    for Found { id, snapshot, .. } in &inputs.found {
        let place = snapshot.display().to_string();
        // Within JSON a place may be written in another way.
        let quoted = serde_json::Value::from(place.as_str()).to_string();
        for place in [place.as_str(), quoted.trim_matches('"')] {
            if text.contains(place) {
                text = text.replace(place, &id.folder()).into();
            }
        }
    }
    text
}

/// What to type if the path of an error is an id, or is in a snapshot that is not complete.
pub(crate) fn advice(path: &Path) -> Option<String> {
    let inputs = INPUTS.read().ok()?;
    if let Some(Found { id, snapshot, .. }) =
        inputs.found.iter().find(|found| path.starts_with(&found.snapshot))
    {
        let missing = missing(snapshot)?;
        let download = id.download();
        return Some(format!(
            "the hub cache has only a part of it ({missing}): `{download}` completes it, and the same line then works"
        ));
    }
    let id =
        Id::of(path).filter(|id| id.file.is_none() && inputs.absent.iter().any(|typed| typed == path))?;
    if Path::new(&id.owner).is_dir() {
        return None;
    }
    let (download, name) = (id.download(), &id.name);
    Some(format!(
        "if it is on the Hugging Face hub, `{download} --local-dir {name}` downloads it: then name `{name}/` in its \
         place; without `--local-dir` it goes into the hub cache, and the same line then works"
    ))
}

/// The snapshot that an input names, unless there is such a path.
fn find(path: &Path) -> Option<Found> {
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

/// The folder in which `hf download` keeps what it downloads.
fn cache() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
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
fn missing(snapshot: &Path) -> Option<String> {
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

impl Id {
    /// The id that a path has the form of.
    fn of(path: &Path) -> Option<Id> {
        let text = path.to_str()?;
        let (owner, rest) = text.split_once('/')?;
        let (name, file) = match rest.split_once('/') {
            Some((name, file)) => (name, Some(file)),
            None => (rest, None),
        };
        let (name, revision) = match name.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (name, None),
        };
        let is_inside = |path: &str| path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        let is_id = is_part(owner) && is_part(name);
        let rest_fits = revision.is_none_or(is_revision) && file.is_none_or(is_inside);
        (is_id && rest_fits).then(|| Id {
            owner: owner.into(),
            name: name.into(),
            revision: revision.map(str::to_string),
            file: file.map(str::to_string),
        })
    }

    /// As it is typed, without the file.
    fn folder(&self) -> String {
        let revision = self.revision.as_ref().map_or_else(String::new, |revision| format!("@{revision}"));
        format!("{}/{}{revision}", self.owner, self.name)
    }

    /// The line that downloads it.
    fn download(&self) -> String {
        let revision = self.revision.as_ref().map_or_else(String::new, |r| format!(" --revision {r}"));
        format!("hf download {}/{}{revision}", self.owner, self.name)
    }
}

/// Whether the hub allows that as the name of an owner or a repository.
fn is_part(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let holds = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    begins && holds && text.len() <= 96 && !text.contains("--") && !text.contains("..")
}

/// A branch, a tag, or the beginning of a commit's name.
fn is_revision(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.chars().all(plain) && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let id = |text: &str| Id::of(Path::new(text)).map(|id| (id.folder(), id.file));
        assert_eq!(id("Qwen/Qwen3-0.6B"), Some(("Qwen/Qwen3-0.6B".into(), None)));
        assert_eq!(id("a/b@v1.0"), Some(("a/b@v1.0".into(), None)));
        assert_eq!(id("a/b/q4/m.gguf"), Some(("a/b".into(), Some("q4/m.gguf".into()))));
        for text in [
            "model", "./model", "../a/b", "/a/b", "~/a", "a/", "a//b", "a/b/", "a/..", "a/b@", "a/b@../c",
            "a b/c",
        ] {
            assert_eq!(id(text), None, "{text}");
        }
    }
}
