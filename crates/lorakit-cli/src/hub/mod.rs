//! Inputs named as on the Hugging Face hub, `OWNER/NAME` or `OWNER/NAME@REVISION`: found in the hub cache of this
//! machine, never downloaded.
//!
//! ```text
//! CACHE/models--OWNER--NAME/refs/main            holds the name of a snapshot
//! CACHE/models--OWNER--NAME/snapshots/COMMIT/    the files, as links to blobs
//! CACHE/models--OWNER--NAME/trees/COMMIT.json    what the files must be
//! ```
//!
//! What is printed names an input as it was typed, not by its place in the cache.

mod cache;
mod id;
mod verify;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use lorakit::{Finding, Severity};

use crate::names;
pub(crate) use cache::has_cache;
use cache::{find, missing};
use id::Id;
pub(crate) use verify::verify;

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

/// The line that downloads a damaged file of the cache again.
pub(crate) fn download_again(path: &Path) -> Option<String> {
    let inputs = INPUTS.read().ok()?;
    let Found { id, snapshot, commit } =
        inputs.found.iter().find(|found| path.starts_with(&found.snapshot))?;
    let file = path.strip_prefix(snapshot).ok()?.display().to_string();
    let (owner, name, file) = (&id.owner, &id.name, names::in_a_shell(&file));
    Some(format!(
        "download it again: `hf download {owner}/{name} {file} --revision {commit} --force-download`"
    ))
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
