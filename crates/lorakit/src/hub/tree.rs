//! The files of a snapshot as the hub lists them: `trees/COMMIT.json`.
//!
//! huggingface_hub 2.0 and newer write it when they download a snapshot (`_tree_cache.py`):
//!
//! ```text
//! {"format_version": 1,
//!  "files": {"config.json": {"size": 519, "blob_id": "<git sha1>"},
//!            "model.safetensors": {"size": 1234, "blob_id": "...", "lfs_sha256": "<sha256>", "lfs_size": 1234,
//!                                  "xet_hash": "..."}}}
//! ```

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use lorakit_tensor::{ErrorKind as FileErrorKind, Reader};
use serde_json::Value;

use super::{Problem, Sum};
#[cfg(doc)]
use crate::ErrorKind;
use crate::{Error, Result};

/// The version of the format.
const VERSION: u64 = 1;

/// What the hub lists of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Bytes.
    pub size: u64,
    /// Of these bytes.
    pub sum: Sum,
}

/// The files of a snapshot as the hub lists them.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    files: BTreeMap<String, Listed>,
}

impl Tree {
    /// Where the listing of a snapshot is, given the snapshot's folder.
    pub fn place(snapshot: &Path) -> Option<PathBuf> {
        let repository = snapshot.parent()?.parent()?;
        Some(repository.join("trees").join(format!("{}.json", snapshot.file_name()?.to_str()?)))
    }

    /// Reads a listing, if it is there.
    ///
    /// # Errors
    /// What reading gives; [`FileErrorKind::Corrupt`] if it is anything else; [`ErrorKind::Unsupported`] if it is of
    /// another version.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let json = match Reader::default().json_object(path) {
            Ok(json) => json,
            Err(error) if error.kind() == FileErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Self::parse(&json).map(Some).map_err(|problem| Error::from(problem).at(path))
    }

    fn parse(json: &Value) -> std::result::Result<Self, Problem> {
        let version = &json["format_version"];
        if version.as_u64() != Some(VERSION) {
            return Err(Problem::Version { found: version.to_string() });
        }
        let files = json["files"].as_object().ok_or(Problem::NoFiles)?;
        let listed = files.iter().map(|(name, entry)| {
            let listed = Listed::parse(entry).ok_or_else(|| Problem::Entry { name: name.clone() })?;
            Ok((name.clone(), listed))
        });
        Ok(Tree { files: listed.collect::<std::result::Result<_, Problem>>()? })
    }

    /// What the hub lists of the file at `path`, which is in the folder `snapshot`.
    pub fn listed(&self, snapshot: &Path, path: &Path) -> Option<Listed> {
        let parts = path.strip_prefix(snapshot).ok()?.components().map(|part| match part {
            Component::Normal(part) => part.to_str(),
            _ => None,
        });
        self.files.get(&parts.collect::<Option<Vec<_>>>()?.join("/")).copied()
    }
}

impl Listed {
    fn parse(entry: &Value) -> Option<Self> {
        let size = entry["size"].as_u64()?;
        let of_lfs = match &entry["lfs_sha256"] {
            Value::Null => return Some(Listed { size, sum: Sum::git(entry["blob_id"].as_str()?)? }),
            digits => Sum::sha256(digits.as_str()?)?,
        };
        let size = match &entry["lfs_size"] {
            Value::Null => size,
            lfs_size => lfs_size.as_u64()?,
        };
        Some(Listed { size, sum: of_lfs })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ErrorKind;

    const GIT: &str = "ce013625030ba8dba906f756967f9e9ca394464a";
    const SHA256: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

    /// The entry of a large file is that of a pointer, with what it points to.
    #[test]
    fn what_is_listed() {
        let json = json!({ "format_version": 1, "files": {
            "config.json": { "size": 519, "blob_id": GIT },
            "unet/model.safetensors": {
                "size": 1234, "blob_id": GIT, "lfs_sha256": SHA256, "lfs_size": 1235, "xet_hash": "ab",
            },
        } });
        let tree = Tree::parse(&json).unwrap();
        let listed = |path: &str| tree.listed(Path::new("s/c0ffee"), Path::new(path));
        let (git, sha256) = (Sum::git(GIT).unwrap(), Sum::sha256(SHA256).unwrap());
        assert_eq!(listed("s/c0ffee/config.json"), Some(Listed { size: 519, sum: git }));
        assert_eq!(listed("s/c0ffee/unet/model.safetensors"), Some(Listed { size: 1235, sum: sha256 }));
        for other in ["config.json", "s/c0ffee/unet/config.json", "s/c0ffee/unet/../config.json", "s/c0ffee"]
        {
            assert_eq!(listed(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_listing() {
        let of = |entry: Value| json!({ "format_version": 1, "files": { "a": entry } });
        let said = [
            json!({}),
            json!({ "format_version": 2, "files": {} }),
            json!({ "format_version": 1, "files": [] }),
            of(json!({})),
            of(json!({ "size": -1, "blob_id": GIT })),
            of(json!({ "size": 1, "blob_id": SHA256 })),
            of(json!({ "size": 1, "blob_id": GIT, "lfs_sha256": GIT })),
        ]
        .map(|json| Tree::parse(&json).unwrap_err().to_string());
        insta::assert_snapshot!(said.join("\n"), @"
        has `format_version` null, and only 1 is known
        has `format_version` 2, and only 1 is known
        lists no files
        does not give size and sum of `a`
        does not give size and sum of `a`
        does not give size and sum of `a`
        does not give size and sum of `a`
        ");
        assert!(Tree::parse(&json!({ "format_version": 1, "files": {} })).unwrap().files.is_empty());
    }

    #[test]
    fn a_listing_is_beside_the_snapshots() {
        let place = Tree::place(Path::new("hub/models--a--b/snapshots/c0ffee"));
        assert_eq!(place.as_deref(), Some(Path::new("hub/models--a--b/trees/c0ffee.json")));
        let folder = tempfile::tempdir().unwrap();
        assert!(Tree::read(&folder.path().join("c0ffee.json")).unwrap().is_none());
        let broken = folder.path().join("broken.json");
        std::fs::write(&broken, "{\"format_version\": 1").unwrap();
        let error = Tree::read(&broken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::File(FileErrorKind::Corrupt));
    }
}
