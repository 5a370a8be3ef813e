//! Removing what nothing needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::{Store, disk, refs};
use crate::{Digest, Result};

/// What is spared.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// Whether anything is removed; otherwise it is only counted.
    pub apply: bool,
    /// Blobs younger than this stay: somebody who takes no lock may be adding them.
    pub grace: Duration,
    /// What tags pointed to within this time stays.
    pub history: Duration,
    /// The time, in seconds since 1970; that of the machine if it is not given.
    pub now: Option<u64>,
}

impl Default for GcOptions {
    fn default() -> Self {
        GcOptions {
            apply: false,
            grace: Duration::from_secs(24 * 3600),
            history: Duration::from_secs(30 * 24 * 3600),
            now: None,
        }
    }
}

/// What was removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Gc {
    /// Blobs that nothing needs.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of blobs that nothing needs and that are too young to go.
    pub spared: u64,
    /// What was left behind by processes that ended too early.
    pub leftovers: usize,
    /// Whether it was removed.
    pub applied: bool,
}

/// A file among the blobs: its path, the digest that it is named by, its bytes, when it was last changed.
type Blob = (PathBuf, Option<Digest>, u64, u64);

/// Leftovers of processes that ended are older than that.
const STALE: u64 = 3600;

impl Store {
    /// Finds what no tag needs, none needed within `history`, and nothing attached to these; removes it if asked to.
    ///
    /// # Errors
    /// If the index, or a manifest that a tag needs, is damaged: nothing is removed then.
    pub fn gc(&self, options: &GcOptions) -> Result<Gc> {
        let _lock = if options.apply { self.lock_removing()? } else { self.lock_adding()? };
        let now = options.now.unwrap_or_else(refs::now);
        let needed = self.needed(now.saturating_sub(options.history.as_secs()))?;
        let mut gc = Gc { applied: options.apply, ..Gc::default() };
        for (path, digest, bytes, changed) in self.all_blobs()? {
            if digest.is_some_and(|digest| needed.contains(&digest)) {
                continue;
            }
            if changed + options.grace.as_secs() > now {
                gc.spared += bytes;
                continue;
            }
            if options.apply {
                fs::remove_file(&path).map_err(|e| disk::io("remove", &path, e))?;
            }
            gc.blobs += 1;
            gc.bytes += bytes;
        }
        for path in self.leftovers(now, &needed)? {
            if options.apply {
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.map_err(|e| disk::io("remove", &path, e))?;
            }
            gc.leftovers += 1;
        }
        Ok(gc)
    }

    /// Every blob that must stay, whatever its age.
    fn needed(&self, since: u64) -> Result<BTreeSet<Digest>> {
        let refs = self.refs()?;
        let mut roots: BTreeMap<Digest, (String, bool)> =
            refs.iter().map(|(tag, digest)| (*digest, (tag.clone(), true))).collect();
        for entry in self.read_index()?["manifests"].as_array().into_iter().flatten() {
            if let Some(digest) = entry["digest"].as_str().and_then(|digest| digest.parse().ok()) {
                roots.entry(digest).or_insert_with(|| ("index.json".to_string(), false));
            }
        }
        // What a tag pointed to until then still stands in the line before.
        let mut last: BTreeMap<String, Option<Digest>> = BTreeMap::new();
        for one in self.moves()? {
            let before = last.insert(one.tag.clone(), one.new).flatten();
            for digest in before.into_iter().filter(|_| one.at >= since) {
                roots.entry(digest).or_insert_with(|| (format!("{}, before it moved", one.tag), false));
            }
        }
        let mut needed = BTreeSet::new();
        for (digest, (of, tagged)) in roots {
            match self.manifests(digest, &of) {
                Ok(found) => mark(&mut needed, found),
                // What a tag needs must be known for anything to be removed.
                Err(error) if tagged => return Err(error),
                Err(_) => {}
            }
        }
        self.mark_attached(&mut needed)?;
        Ok(needed)
    }

    /// What is attached to what is needed: evaluations and signatures.
    fn mark_attached(&self, needed: &mut BTreeSet<Digest>) -> Result<()> {
        let mut attached = Vec::new();
        for (path, digest, bytes, _) in self.all_blobs()? {
            let Some(digest) = digest.filter(|digest| !needed.contains(digest)) else { continue };
            if bytes > super::blobs::LARGEST_MANIFEST || first_byte(&path) != Some(b'{') {
                continue;
            }
            let Ok(found) = self.manifests(digest, "") else { continue };
            let subject = found.iter().find_map(|(own, links)| links.subject.filter(|_| *own == digest));
            attached.extend(subject.map(|subject| (subject, found)));
        }
        loop {
            let (now, later): (Vec<_>, Vec<_>) =
                attached.into_iter().partition(|(subject, _)| needed.contains(subject));
            if now.is_empty() {
                return Ok(());
            }
            now.into_iter().for_each(|(_, found)| mark(needed, found));
            attached = later;
        }
    }

    /// Every file among the blobs.
    fn all_blobs(&self) -> Result<Vec<Blob>> {
        let folder = self.blobs();
        let listing = |e| disk::io("list", &folder, e);
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(listing)? {
            let entry = entry.map_err(listing)?;
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_file() {
                let digest = entry.file_name().to_str().and_then(Digest::from_hex);
                found.push((entry.path(), digest, meta.len(), changed(&meta)));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Staged files of processes that ended, and folders of artifacts that nothing needs.
    fn leftovers(&self, now: u64, needed: &BTreeSet<Digest>) -> Result<Vec<PathBuf>> {
        let is_stale =
            |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| changed(&meta) + STALE <= now);
        let is_staged = |path: &Path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().contains(".tmp-")) && is_stale(path)
        };
        let is_unneeded = |path: &Path| {
            let digest = path.file_name().and_then(|name| name.to_str()).and_then(Digest::from_hex);
            digest.is_none_or(|digest| !needed.contains(&digest)) && is_stale(path)
        };
        let mut found: Vec<PathBuf> = Vec::new();
        for (folder, all) in [
            (self.root.clone(), false),
            (self.root.join("lorakit"), false),
            (self.own("ingest"), true),
            (self.own("checkouts"), true),
        ] {
            let is_checkout = folder.ends_with("checkouts");
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let goes =
                    if is_checkout { is_unneeded(&path) } else { is_staged(&path) || all && is_stale(&path) };
                found.extend(goes.then_some(path));
            }
        }
        Ok(found)
    }
}

fn mark(needed: &mut BTreeSet<Digest>, found: Vec<(Digest, super::graph::Links)>) {
    for (digest, links) in found {
        needed.insert(digest);
        needed.extend(links.blobs.into_iter().map(|(digest, _)| digest));
    }
}

/// The later of the two times, since clocks that run ahead, and copies that keep times, must not make a file look old.
fn changed(meta: &fs::Metadata) -> u64 {
    meta.mtime().max(meta.ctime()).try_into().unwrap_or(0)
}

fn first_byte(path: &Path) -> Option<u8> {
    let mut byte = [0];
    std::io::Read::read_exact(&mut disk::open(path).ok()?, &mut byte).ok()?;
    Some(byte[0])
}
