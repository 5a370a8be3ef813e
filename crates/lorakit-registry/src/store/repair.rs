//! Mending what can be mended.

use std::collections::BTreeMap;

use lorakit::plan::Progress;
use serde::Serialize;

use super::fsck::Fault;
use super::{Store, disk, refs};
use crate::{Digest, Result};

/// What was mended, and what is lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// Whether the index was written anew.
    pub index: bool,
    /// Blobs whose bytes were others, and what stood in the place of blobs: they are in quarantine now.
    pub quarantined: Vec<Digest>,
    /// What must come from elsewhere: adding the same folder again, or pulling, puts it back.
    pub lost: Vec<Fault>,
}

impl Store {
    /// Writes the index anew from the reflog where it is torn or behind, and moves blobs whose bytes are others, links and
    /// what else is no file to quarantine. No tag is removed.
    ///
    /// # Errors
    /// If files cannot be read or written.
    pub fn repair(&self, progress: &dyn Progress) -> Result<Repaired> {
        let mut repaired = Repaired::default();
        if self.read_index().is_err() {
            let path = self.index();
            let kept = disk::unique(&self.own("quarantine").join("index.json"));
            disk::make_folder(&self.own("quarantine"))?;
            if path.exists() {
                std::fs::rename(&path, &kept).map_err(|e| disk::io("move to quarantine", &path, e))?;
            }
            let empty =
                serde_json::json!({ "schemaVersion": 2, "mediaType": refs::INDEX_TYPE, "manifests": [] });
            disk::write_new(&path, empty.to_string().as_bytes())?;
            repaired.index = true;
        }
        let fsck = self.fsck(true, progress)?;
        for fault in fsck.faults {
            if matches!(fault.code, "bytes" | "size" | "manifest" | "irregular")
                && let Ok(digest) = fault.subject.parse()
                && self.quarantine(digest).is_some()
            {
                repaired.quarantined.push(digest);
            }
            repaired.lost.push(fault);
        }
        repaired.index |= self.settle()?;
        Ok(repaired)
    }

    /// The tags that the reflog knows.
    pub(super) fn logged(&self) -> Result<BTreeMap<String, Digest>> {
        let mut refs = BTreeMap::new();
        for one in self.moves()? {
            match one.new {
                Some(digest) => drop(refs.insert(one.tag, digest)),
                None => drop(refs.remove(&one.tag)),
            }
        }
        Ok(refs)
    }
}
