//! Which files were found to be what the hub lists, so that gigabytes are not read again for every command.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::{Value, json};

use super::Sum;

/// The version of the file's format.
const FORMAT: u64 = 1;
/// Most files that are remembered; those that were verified last stay.
const MOST: usize = 4096;
/// Most bytes of a file that is read: more than [`MOST`] entries take.
const LONGEST: u64 = 4 << 20;

/// What a file is recognised by. Whoever writes to it changes the time of its last change, which nobody can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(meta: &Metadata) -> Self {
        Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    fn is_of_the_same_file(&self, other: &Stamp) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// Files whose sums were computed.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    /// In the order in which they were.
    files: Vec<(Stamp, Sum)>,
    has_more: bool,
}

impl Verified {
    /// What a file remembers; nothing if it cannot be read, or is anything else.
    pub fn read(path: &Path) -> Self {
        let is_sane = fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= LONGEST);
        let text = is_sane.then(|| fs::read(path).ok()).flatten();
        let files = text.and_then(|text| parse(&serde_json::from_slice(&text).ok()?));
        Verified { files: files.unwrap_or_default(), has_more: false }
    }

    /// Writes what is known to a file, in one step, if that is more than what was read.
    ///
    /// # Errors
    /// If that fails.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if !self.has_more {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let files: Vec<Value> = self.files.iter().map(|(stamp, sum)| entry(stamp, *sum)).collect();
        let fresh = path.with_extension(format!("json.{}", std::process::id()));
        let written = fs::write(&fresh, json!({ "format": FORMAT, "files": files }).to_string())
            .and_then(|()| fs::rename(&fresh, path));
        if written.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        written
    }

    /// Whether the file with this stamp has this sum, as far as is known.
    pub(super) fn has(&self, stamp: &Stamp, sum: Sum) -> bool {
        self.files.iter().any(|(known, of)| known == stamp && *of == sum)
    }

    /// Remembers the sum of a file, in place of what was known of it.
    pub(super) fn add(&mut self, stamp: Stamp, sum: Sum) {
        self.files.retain(|(known, _)| !known.is_of_the_same_file(&stamp));
        let too_many = (self.files.len() + 1).saturating_sub(MOST);
        self.files.drain(..too_many);
        self.files.push((stamp, sum));
        self.has_more = true;
    }
}

fn entry(stamp: &Stamp, sum: Sum) -> Value {
    let Stamp { device, inode, size, modified, changed } = stamp;
    let kind = match sum {
        Sum::Sha256(_) => "sha256",
        Sum::Git(_) => "git",
    };
    json!({
        "device": device, "inode": inode, "size": size, "modified": modified, "changed": changed,
        kind: sum.digits(),
    })
}

/// What a file remembers.
fn parse(json: &Value) -> Option<Vec<(Stamp, Sum)>> {
    let is_known = json["format"].as_u64() == Some(FORMAT);
    let files = json["files"].as_array().filter(|files| is_known && files.len() <= MOST)?;
    files.iter().map(|entry| Some((stamp_of(entry)?, sum_of(entry)?))).collect()
}

fn stamp_of(entry: &Value) -> Option<Stamp> {
    let time = |name: &str| Some((entry[name][0].as_i64()?, entry[name][1].as_i64()?));
    Some(Stamp {
        device: entry["device"].as_u64()?,
        inode: entry["inode"].as_u64()?,
        size: entry["size"].as_u64()?,
        modified: time("modified")?,
        changed: time("changed")?,
    })
}

fn sum_of(entry: &Value) -> Option<Sum> {
    match entry["sha256"].as_str() {
        Some(digits) => Sum::sha256(digits),
        None => Sum::git(entry["git"].as_str()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: Sum = Sum::Sha256([7; 32]);

    fn stamp(inode: u64) -> Stamp {
        Stamp { device: 1, inode, size: 3, modified: (4, 5), changed: (6, 7) }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/verified.json");
        Verified::default().write(&path).unwrap();
        assert!(!path.exists(), "there is nothing to remember");
        let mut verified = Verified::read(&path);
        verified.add(stamp(1), SUM);
        verified.add(stamp(2), Sum::Git([9; 20]));
        verified.write(&path).unwrap();
        let again = Verified::read(&path);
        assert_eq!(again.files, verified.files);
        assert!(again.has(&stamp(2), Sum::Git([9; 20])) && !again.has(&stamp(2), SUM));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        // Anything else is as good as nothing.
        let text = fs::read_to_string(&path).unwrap();
        for other in ["", "{}", "[]", &text[1..], &text.replace("\"format\":1", "\"format\":2")] {
            fs::write(&path, other).unwrap();
            assert!(Verified::read(&path).files.is_empty(), "{other}");
        }
        assert!(Verified::read(folder.path()).files.is_empty());
    }

    #[test]
    fn all_five_properties_count() {
        let mut verified = Verified::default();
        verified.add(stamp(1), SUM);
        assert!(verified.has(&stamp(1), SUM));
        let others = [
            Stamp { device: 2, ..stamp(1) },
            stamp(2),
            Stamp { size: 4, ..stamp(1) },
            Stamp { modified: (4, 6), ..stamp(1) },
            Stamp { changed: (6, 8), ..stamp(1) },
        ];
        for other in others {
            assert!(!verified.has(&other, SUM), "{other:?}");
        }
    }

    #[test]
    fn the_last_stay() {
        let mut verified = Verified::default();
        (0..MOST as u64 + 3).for_each(|inode| verified.add(stamp(inode), SUM));
        assert_eq!(verified.files.len(), MOST);
        assert!(!verified.has(&stamp(2), SUM) && verified.has(&stamp(3), SUM));
        // A file that was written to does not push out others.
        verified.add(Stamp { changed: (7, 0), ..stamp(5) }, SUM);
        assert!(!verified.has(&stamp(5), SUM) && verified.has(&stamp(3), SUM));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("verified.json");
        verified.write(&path).unwrap();
        assert_eq!(Verified::read(&path).files.len(), MOST);
    }
}
