//! The Hugging Face hub's cache: what its paths say, and whether its files are still those that the hub lists.
//!
//! ```text
//! models--owner--name/
//!   blobs/     the files, named by their hashes
//!   refs/      what each branch points to
//!   snapshots/HASH/adapter_model.safetensors -> ../../blobs/...
//!   trees/HASH.json     the files of a snapshot, with sizes and sums: huggingface_hub 2 and newer
//! ```
//!
//! A file in the cache is checked nowhere else: `hf download` takes what is there for complete, and `hf cache verify`
//! asks the hub. So [`Tree`] reads the listing, and [`check`] compares the files with it, once for each: [`Verified`]
//! knows them by their stamps.

mod check;
mod files;
mod problem;
mod sum;
mod tree;
mod verified;

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use serde::Serialize;

pub use check::{Claim, check};
pub use files::{files_below, files_read};
pub(crate) use problem::Problem;
pub use sum::Sum;
pub use tree::{Listed, Tree};
pub use verified::{Stamp, Verified};

/// Folders of a repository in the cache that hold no names that people know.
const INNARDS: &[&str] = &["blobs", "refs", "trees", ".no_exist"];
/// Digits of a hash that are shown.
const SHORT: usize = 7;

/// Where something in a cache of the hub comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HubOrigin {
    /// The repository, `owner/name`.
    pub id: String,
    /// The commit.
    pub revision: String,
    /// The rest of the path, inside the repository; empty for its root.
    #[serde(serialize_with = "crate::report::path")]
    pub inside: PathBuf,
}

impl HubOrigin {
    /// What the last `models--owner--name/snapshots/HASH` in `path` says.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let parts: Vec<&OsStr> = path.components().filter_map(normal).collect();
        let at = parts.iter().rposition(|part| *part == "snapshots").filter(|at| *at > 0)?;
        let revision = parts.get(at + 1)?.to_str()?.to_string();
        let id = repository(parts[at - 1])?;
        Some(HubOrigin { id, revision, inside: parts[at + 2..].iter().collect() })
    }

    /// `owner/name@1a2b3c4`, and the path inside the repository.
    pub fn short(&self) -> String {
        let revision = self.revision.get(..SHORT).unwrap_or(&self.revision);
        let mut text = format!("{}@{revision}", self.id);
        if !self.inside.as_os_str().is_empty() {
            text.push('/');
            text.push_str(&self.inside.to_string_lossy());
        }
        text
    }
}

fn normal(part: Component<'_>) -> Option<&OsStr> {
    match part {
        Component::Normal(name) => Some(name),
        _ => None,
    }
}

/// The repository whose folder in a cache is called `name`.
fn repository(name: &OsStr) -> Option<String> {
    let name = name.to_str()?.strip_prefix("models--").filter(|name| !name.is_empty())?;
    Some(name.replacen("--", "/", 1))
}

/// Whether `folder`, of a repository in a cache, is no place to look for adapters.
pub(crate) fn is_innards(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default();
    let outer = folder.parent().and_then(Path::file_name);
    INNARDS.iter().any(|inner| name == *inner) && outer.is_some_and(|outer| repository(outer).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_other_folders() {
        let of = |path: &str| HubOrigin::of(Path::new(path)).map(|origin| origin.short());
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let deep = format!("hub/models--owner--a--b/snapshots/{hash}/checkpoint-5");
        assert_eq!(of(&deep).as_deref(), Some("owner/a--b@0123456/checkpoint-5"));
        assert_eq!(of("models--gpt2/snapshots/main").as_deref(), Some("gpt2@main"));
        for other in [
            "snapshots/x",
            "models--a--b/blobs/x",
            "a/snapshots/x",
            "models--a--b/snapshots",
            "models--/snapshots/x",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        assert!(is_innards(Path::new("hub/models--a--b/blobs")));
        assert!(!is_innards(Path::new("hub/blobs")));
    }
}
