//! Inputs in a cache of the Hugging Face hub: their path tells their public name and their revision.

use std::path::Path;

/// What a path in the cache tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// `OWNER/NAME`.
    pub(super) id: String,
    /// The name of the commit, 40 hexadecimal digits.
    pub(super) commit: String,
}

/// The snapshot that a path is, or is a file of: `.../models--OWNER--NAME/snapshots/COMMIT`.
pub(super) fn snapshot(path: &Path) -> Option<Snapshot> {
    path.ancestors().find_map(|folder| {
        let commit = folder.file_name()?.to_str().filter(|name| is_commit(name))?;
        let snapshots = folder.parent().filter(|parent| parent.ends_with("snapshots"))?;
        let repository = snapshots.parent()?.file_name()?.to_str()?;
        let id = repository.strip_prefix("models--")?.replacen("--", "/", 1);
        Some(Snapshot { id, commit: commit.into() })
    })
}

fn is_commit(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_folders_and_files() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let told =
            |path: &str| snapshot(Path::new(&path.replace("COMMIT", commit))).map(|snapshot| snapshot.id);
        assert_eq!(told("hub/models--o--n-1.5/snapshots/COMMIT").as_deref(), Some("o/n-1.5"));
        assert_eq!(told("/c/models--o--n/snapshots/COMMIT/sub/model.gguf").as_deref(), Some("o/n"));
        assert_eq!(told("models--gpt2/snapshots/COMMIT/").as_deref(), Some("gpt2"));
        for path in
            ["model", "datasets--o--n/snapshots/COMMIT", "models--o--n/snapshots/main", "models--o--n/COMMIT"]
        {
            assert_eq!(told(path), None, "{path}");
        }
    }
}
