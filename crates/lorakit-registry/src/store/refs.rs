//! Tags: what the index says, corrected by the reflog.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Move, Store, disk};
use crate::problem::Problem;
use crate::{Digest, Error, ErrorKind, Result, Tag};

/// The media type of an index.
pub(super) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// The annotation of an entry that holds its tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What a tag must point to for it to be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expected {
    /// Anything or nothing.
    Any,
    /// Nothing, or what it is moved to: the tag is new.
    #[default]
    Nothing,
    /// This artifact.
    This(Digest),
}

/// How often the index is written while another program keeps writing it: what it adds is in the log by then, and others
/// wait for the lock.
const ROUNDS: usize = 3;

/// A move that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) tag: String,
    pub(crate) new: Option<Digest>,
    pub(crate) expected: Expected,
}

impl Store {
    /// Every tag and what it points to. Those of other programs need not have the form of a [`Tag`].
    ///
    /// # Errors
    /// `Corrupt` if the index is damaged.
    pub fn refs(&self) -> Result<BTreeMap<String, Digest>> {
        // The index first: whatever the log says beyond it is newer.
        let index = self.read_index()?;
        Ok(merged(&index, &self.moves()?))
    }

    /// What a tag points to.
    ///
    /// # Errors
    /// As [`refs`](Store::refs).
    pub fn tagged(&self, tag: &Tag) -> Result<Option<Digest>> {
        Ok(self.refs()?.get(&tag.to_string()).copied())
    }

    /// Moves tags, all of them or none, and says what each pointed to before.
    ///
    /// # Errors
    /// `Moved` if one does not point to what was expected.
    pub(crate) fn change(&self, changes: &[Change], why: &str) -> Result<Vec<Option<Digest>>> {
        let _lock = self.lock_refs()?;
        let index = self.read_index()?;
        let log = self.moves()?;
        let mut refs = merged(&index, &log);
        let mut before = Vec::with_capacity(changes.len());
        for change in changes {
            let found = refs.get(&change.tag).copied();
            expect(change, found)?;
            before.push(found);
        }
        let at = now();
        let mut moves = found(&refs, &log, at);
        let moved = changes.iter().zip(&before).filter(|(change, before)| change.new != **before);
        moves.extend(moved.map(|(change, _)| Move {
            at,
            tag: change.tag.clone(),
            new: change.new,
            why: why.to_string(),
        }));
        let logged = if moves.is_empty() { None } else { Some(self.log(&moves)?) };
        for Move { tag, new, .. } in moves {
            match new {
                Some(new) => drop(refs.insert(tag, new)),
                None => drop(refs.remove(&tag)),
            }
        }
        match self.write_index(index, refs) {
            Ok(_) => Ok(before),
            Err(error) => {
                logged.into_iter().for_each(|before| self.unlog(before));
                Err(error)
            }
        }
    }

    /// Writes the index anew where it differs from what the tags are, and says whether it did.
    pub(super) fn settle(&self) -> Result<bool> {
        let _lock = self.lock_refs()?;
        let (index, log) = (self.read_index()?, self.moves()?);
        let refs = merged(&index, &log);
        let moves = found(&refs, &log, now());
        if !moves.is_empty() {
            self.log(&moves)?;
        }
        self.write_index(index, refs)
    }

    /// The index as it is.
    pub(super) fn read_index(&self) -> Result<Value> {
        let path = self.index();
        let index = disk::read_shared_json(&path)?;
        if !index["manifests"].is_array() {
            let reason = "it has no list `manifests`".to_string();
            return Err(Error::from(Problem::Index { reason }).at(&path));
        }
        Ok(index)
    }

    /// Writes the index with these tags, unless it is that already, and says whether it was written. What another program
    /// wrote since it was read is found in the file that it takes the place of: tags in it are remembered, and the index is
    /// written once more.
    pub(super) fn write_index(&self, index: Value, mut refs: BTreeMap<String, Digest>) -> Result<bool> {
        let (mut standing, mut from) = (index.clone(), index);
        let mut is_written = false;
        for _ in 0..ROUNDS {
            let new = self.with_tags(from, &refs)?;
            if new == standing {
                break;
            }
            let replaced = match disk::exchange(&self.index(), new.to_string().as_bytes()) {
                // The tags are in place; what the other program wrote comes with the next move.
                Err(_) if is_written => break,
                replaced => replaced?,
            };
            is_written = true;
            let Some(replaced) = replaced.filter(|index| *index != standing && index["manifests"].is_array())
            else {
                break;
            };
            let Some(remembered) = self.remember(&replaced) else { break };
            (refs, standing, from) = (remembered, new, replaced);
        }
        Ok(is_written)
    }

    /// Takes what another program wrote into the log; `None` if that fails, and then it comes with the next move.
    fn remember(&self, index: &Value) -> Option<BTreeMap<String, Digest>> {
        let log = self.moves().ok()?;
        let refs = merged(index, &log);
        let moves = found(&refs, &log, now());
        if !moves.is_empty() {
            self.log(&moves).ok()?;
        }
        Some(refs)
    }

    /// The index with these tags. Entries that are not tags, and what other programs said of entries, stay.
    fn with_tags(&self, mut index: Value, refs: &BTreeMap<String, Digest>) -> Result<Value> {
        let entries = index["manifests"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let mut missing = refs.clone();
        let mut kept = Vec::with_capacity(entries.len() + 1);
        for entry in entries {
            match ref_of(&entry) {
                // The first of two with one tag is the one that is kept.
                Some((tag, digest)) => {
                    if missing.get(tag) == Some(&digest) {
                        missing.remove(tag);
                        kept.push(entry);
                    }
                }
                None => kept.push(entry),
            }
        }
        for (tag, digest) in missing {
            match self.entry(&tag, digest) {
                Ok(entry) => kept.push(entry),
                // A tag whose manifest is damaged must not keep the others from moving: the reflog knows it.
                Err(error) if is_damage(&error) => {}
                Err(error) => return Err(error),
            }
        }
        index["manifests"] = kept.into();
        Ok(index)
    }

    /// The entry of a tag.
    fn entry(&self, tag: &str, digest: Digest) -> Result<Value> {
        let bytes = self.read_manifest(digest, tag)?;
        let manifest: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let media_type = manifest["mediaType"].as_str().unwrap_or(crate::media::MANIFEST);
        let mut entry = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        if let Some(kind) = manifest["artifactType"].as_str() {
            entry["artifactType"] = kind.into();
        }
        entry["annotations"] = json!({ REF_NAME: tag });
        Ok(entry)
    }
}

fn expect(change: &Change, found: Option<Digest>) -> Result<()> {
    let tag = change.tag.clone();
    let word = |digest: Option<Digest>| digest.map_or("nothing".to_string(), |digest| digest.to_string());
    match change.expected {
        Expected::Nothing if found.is_some() && found != change.new => {
            Err(Problem::Taken { tag, found: word(found) }.into())
        }
        Expected::This(expected) if found != Some(expected) => {
            Err(Problem::Moved { tag, found: word(found), expected: expected.to_string() }.into())
        }
        _ => Ok(()),
    }
}

/// The tags of the index, corrected by the log. A tag that the index lacks, or for which it has an older value, was lost
/// by a crash or by a program that does not lock; a value that the log never saw was set by such a program.
fn merged(index: &Value, moves: &[Move]) -> BTreeMap<String, Digest> {
    let mut history: HashMap<&str, Vec<Option<Digest>>> = HashMap::new();
    for one in moves {
        history.entry(&one.tag).or_default().push(one.new);
    }
    let mut refs: BTreeMap<String, Digest> = BTreeMap::new();
    for (tag, digest) in index["manifests"].as_array().into_iter().flatten().filter_map(ref_of) {
        let is_old = history.get(tag).is_some_and(|values| values.contains(&Some(digest)));
        if !is_old {
            history.remove(tag);
            refs.entry(tag.to_string()).or_insert(digest);
        }
    }
    // Sorted by the map that they go into.
    #[allow(clippy::iter_over_hash_type)]
    for (tag, values) in history {
        if let Some(Some(digest)) = values.last() {
            refs.insert(tag.to_string(), *digest);
        }
    }
    refs
}

/// What other programs tagged since the last move: from now on it is remembered like what lorakit tags.
fn found(refs: &BTreeMap<String, Digest>, log: &[Move], at: u64) -> Vec<Move> {
    let last: HashMap<&str, Option<Digest>> = log.iter().map(|one| (one.tag.as_str(), one.new)).collect();
    let new = refs.iter().filter(|(tag, digest)| last.get(tag.as_str()) != Some(&Some(**digest)));
    new.map(|(tag, digest)| Move { at, tag: tag.clone(), new: Some(*digest), why: "found".into() }).collect()
}

/// The tag of an entry, and what it points to.
fn ref_of(entry: &Value) -> Option<(&str, Digest)> {
    Some((entry["annotations"][REF_NAME].as_str()?, entry["digest"].as_str()?.parse().ok()?))
}

/// Whether a blob is the matter, not the disk.
fn is_damage(error: &Error) -> bool {
    use lorakit_tensor::ErrorKind::{Corrupt, Incomplete};
    matches!(error.kind(), ErrorKind::File(Corrupt | Incomplete) | ErrorKind::Unsafe)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
