//! Locks of a store. `lock` is shared by everybody who adds and taken alone by who removes; `reflock` is taken alone by
//! who moves tags. Whoever wants both takes `lock` first.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock, major, minor};
use rustix::io::Errno;

use super::{Store, disk};
use crate::problem::Problem;
use crate::{Error, Result};

/// How long a lock is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// A lock, held until it is dropped. The kernel frees it when its process ends, however that happens.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Store {
    /// Held by everybody who adds: nothing is removed meanwhile.
    pub(crate) fn lock_adding(&self) -> Result<Lock> {
        take(&self.own("lock"), FlockOperation::NonBlockingLockShared, PATIENCE)
    }

    /// Held by who removes: nothing is added meanwhile.
    pub(crate) fn lock_removing(&self) -> Result<Lock> {
        take(&self.own("lock"), FlockOperation::NonBlockingLockExclusive, PATIENCE)
    }

    /// Held by who moves tags.
    pub(super) fn lock_refs(&self) -> Result<Lock> {
        take(&self.own("reflock"), FlockOperation::NonBlockingLockExclusive, PATIENCE)
    }
}

fn take(path: &Path, operation: FlockOperation, patience: Duration) -> Result<Lock> {
    if let Some(folder) = path.parent() {
        disk::make_folder(folder)?;
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = file.map_err(|e| disk::io("lock", path, e))?;
    let begun = Instant::now();
    loop {
        match flock(&file, operation) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK | Errno::INTR) if begun.elapsed() < patience => std::thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => {
                let problem = Problem::Locked { holder: holder(&mut file), seconds: patience.as_secs() };
                return Err(Error::from(problem).at(path));
            }
            Err(e) => return Err(disk::io("lock", path, e.into())),
        }
    }
    if matches!(operation, FlockOperation::NonBlockingLockExclusive) {
        // For the message of who waits too long; nothing depends on it.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()));
    }
    Ok(Lock { _file: file })
}

/// Who holds a lock: as the kernel says, else as its file does, in which whoever took it alone last wrote.
fn holder(file: &mut File) -> String {
    let found = file.metadata().ok().and_then(|meta| {
        let table = fs::read_to_string("/proc/locks").ok()?;
        Some(holders(&table, meta.dev(), meta.ino())).filter(|holders| !holders.is_empty())
    });
    let found = found.unwrap_or_else(|| {
        let mut text = String::new();
        let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
        let is_alive = |id: &u32| Path::new("/proc").join(id.to_string()).exists();
        text.trim().parse().ok().filter(is_alive).into_iter().collect()
    });
    match &found[..] {
        [] => "another process".to_string(),
        [id] => format!("process {id}"),
        ids => format!("processes {}", ids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// The processes that hold a lock on a file, from a table like that of Linux:
/// `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`. Lines with an arrow are of those who wait; 0 is a process that is
/// not seen from here.
fn holders(table: &str, device: u64, inode: u64) -> Vec<u32> {
    let file = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let of_line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, "FLOCK", _, _, id, place, ..] if place == file => id.parse().ok().filter(|id| *id > 0),
            _ => None,
        }
    };
    let mut found: Vec<u32> = table.lines().filter_map(of_line).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_too_long_is_told_for_whom() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let own = format!("is locked by process {}; waited 0 seconds", std::process::id());
        let (shared, alone) =
            (FlockOperation::NonBlockingLockShared, FlockOperation::NonBlockingLockExclusive);
        let brief = Duration::from_millis(20);
        // Somebody who ended without a word held it alone before.
        fs::write(&path, "4194304").expect("written");
        for (held, asked) in [(shared, alone), (alone, shared), (alone, alone)] {
            let lock = take(&path, held, brief).expect("it is free");
            let error = take(&path, asked, brief).expect_err("it is held").to_string();
            assert!(error.contains(&own), "{error}");
            drop(lock);
            take(&path, asked, brief).expect("it is free again");
        }
        let several = [take(&path, shared, brief), take(&path, shared, brief)];
        assert!(several.iter().all(Result::is_ok), "any number may share it");
    }

    #[test]
    fn a_table_of_locks() {
        let table = "1: FLOCK  ADVISORY  WRITE 11 fe:00:77 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 12 fe:00:77 0 EOF\n\
                     2: POSIX  ADVISORY  READ 13 fe:00:77 0 EOF\n3: FLOCK  ADVISORY  READ 9 fe:00:77 0 EOF\n\
                     4: FLOCK  ADVISORY  READ 15 fe:01:77 0 EOF\n5: FLOCK  ADVISORY  READ 0 fe:00:77 0 EOF\nx\n";
        assert_eq!(holders(table, rustix::fs::makedev(0xfe, 0), 77), [9, 11]);
        assert_eq!(holders(table, rustix::fs::makedev(0xfe, 0), 78), [0; 0]);
    }
}
