//! Looking for damage: structure always, bytes on demand.

use std::collections::BTreeMap;
use std::io::Read as _;

use lorakit::plan::Progress;
use serde::Serialize;

use super::blobs::Wrong;
use super::{Store, graph::Links};
use crate::{Digest, Result};

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Harm {
    /// Nothing is lost, and [`repair`](Store::repair) mends it.
    Mendable,
    /// The content is gone; it must come from elsewhere.
    Lost,
}

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// How bad it is.
    pub harm: Harm,
    /// What is wrong, in one word.
    pub code: &'static str,
    /// What it is about: a digest, or a file of the store.
    pub subject: String,
    /// What is wrong, in a sentence.
    pub message: String,
    /// The tags that need it.
    pub tags: Vec<String>,
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Fsck {
    /// Tags.
    pub tags: usize,
    /// Blobs that tags need.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Whether the bytes of all blobs were read.
    pub read_data: bool,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

impl Store {
    /// Checks that every tag leads to a manifest whose blobs are there and have their sizes; with `read_data` also that
    /// their bytes have their digests. `progress` is told how many bytes were read. Nothing is changed.
    ///
    /// # Errors
    /// If files cannot be read, or `progress` asks to stop. Damage is not an error.
    pub fn fsck(&self, read_data: bool, progress: &dyn Progress) -> Result<Fsck> {
        let mut fsck = Fsck { read_data, ..Fsck::default() };
        let refs = match self.read_index() {
            Ok(_) => self.refs()?,
            Err(error) => {
                fsck.faults.push(Fault {
                    harm: Harm::Mendable,
                    code: "index",
                    subject: "index.json".into(),
                    message: error.to_string(),
                    tags: Vec::new(),
                });
                self.logged()?
            }
        };
        fsck.tags = refs.len();
        let mut needed: BTreeMap<Digest, (Option<u64>, Vec<String>)> = BTreeMap::new();
        let mut need = |digest, bytes, tag: &str| {
            let (size, tags) = needed.entry(digest).or_insert((bytes, Vec::new()));
            *size = size.or(bytes);
            if !tags.iter().any(|known| known == tag) {
                tags.push(tag.to_string());
            }
        };
        for (tag, digest) in &refs {
            need(*digest, None, tag);
            let mut open = vec![*digest];
            while let Some(digest) = open.pop() {
                let Some(links) = self.peek(digest) else { continue };
                links.blobs.iter().for_each(|(blob, bytes)| need(*blob, Some(*bytes), tag));
                links.manifests.iter().for_each(|manifest| need(*manifest, None, tag));
                open.extend(links.manifests);
            }
        }
        for (digest, (size, tags)) in needed {
            fsck.blobs += 1;
            let found = match self.open_blob(digest) {
                Err(wrong) => Err(wrong),
                Ok((_, found)) if size.is_some_and(|size| size != found) => {
                    let (size, tags) = (size.unwrap_or_default(), tags);
                    let message = format!("has {found} bytes instead of {size}");
                    fsck.faults.push(lost("size", digest, message, tags));
                    continue;
                }
                Ok((_, bytes)) => {
                    fsck.bytes += bytes;
                    if read_data || size.is_none() { self.check_blob(digest, progress)? } else { Ok(()) }
                }
            };
            let message = match found {
                Ok(()) if size.is_none() && self.peek(digest).is_none() => {
                    ("manifest", "is not a manifest".into())
                }
                Ok(()) => continue,
                Err(Wrong::Absent) => ("absent", "is not there".into()),
                Err(Wrong::Irregular) => ("irregular", "is not a regular file".into()),
                Err(Wrong::Other(found)) => ("bytes", format!("has become {found}")),
                Err(Wrong::Unreadable(e)) => ("unreadable", format!("cannot be read: {e}")),
            };
            fsck.faults.push(lost(message.0, digest, message.1, tags));
        }
        Ok(fsck)
    }

    /// The links of a manifest, if it can be read.
    fn peek(&self, digest: Digest) -> Option<Links> {
        let (file, _) =
            self.open_blob(digest).ok().filter(|(_, bytes)| *bytes <= super::blobs::LARGEST_MANIFEST)?;
        let mut content = Vec::new();
        file.take(super::blobs::LARGEST_MANIFEST).read_to_end(&mut content).ok()?;
        Links::of(&content)
    }
}

fn lost(code: &'static str, digest: Digest, message: String, tags: Vec<String>) -> Fault {
    Fault { harm: Harm::Lost, code, subject: digest.to_string(), message, tags }
}
