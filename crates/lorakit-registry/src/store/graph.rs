//! What a manifest needs, whoever wrote it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Store;
use crate::{Digest, Result};

/// The blobs that a manifest needs, and their sizes: configuration and layers, each once.
pub(crate) fn needs(manifest: &[u8]) -> BTreeMap<Digest, u64> {
    Links::of(manifest).unwrap_or_default().blobs.into_iter().collect()
}

/// What a manifest or an index names.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Blobs and their sizes: configuration, layers.
    pub(super) blobs: Vec<(Digest, u64)>,
    /// Manifests, of an index.
    pub(super) manifests: Vec<Digest>,
    /// What it is attached to.
    pub(super) subject: Option<Digest>,
}

impl Links {
    /// Those of the manifest in `content`; none if it is not one.
    pub(super) fn of(content: &[u8]) -> Option<Self> {
        let manifest: Value = serde_json::from_slice(content).ok()?;
        let list = |name: &str| manifest[name].as_array().into_iter().flatten();
        let blobs = std::iter::once(&manifest["config"]).chain(list("layers")).filter_map(descriptor);
        let found = Links {
            blobs: blobs.collect(),
            manifests: list("manifests").filter_map(descriptor).map(|(digest, _)| digest).collect(),
            subject: descriptor(&manifest["subject"]).map(|(digest, _)| digest),
        };
        (manifest["schemaVersion"] == 2).then_some(found)
    }
}

fn descriptor(value: &Value) -> Option<(Digest, u64)> {
    Some((value["digest"].as_str()?.parse().ok()?, value["size"].as_u64()?))
}

impl Store {
    /// The manifest `digest`, which `of` needs, and all that an index names beneath it, each with its links.
    pub(super) fn manifests(&self, digest: Digest, of: &str) -> Result<Vec<(Digest, Links)>> {
        let (mut open, mut found) = (vec![digest], Vec::new());
        while let Some(digest) = open.pop() {
            if found.iter().any(|(known, _)| *known == digest) {
                continue;
            }
            let content = self.read_manifest(digest, of)?;
            let links = Links::of(&content).ok_or_else(|| crate::problem::Problem::Manifest {
                digest: digest.to_string(),
                reason: "is not a manifest of schema version 2".into(),
            })?;
            open.extend(&links.manifests);
            found.push((digest, links));
        }
        Ok(found)
    }
}
