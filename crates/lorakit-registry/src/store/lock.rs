//! Locks of a store. `lock` is shared by everybody who adds and taken alone by who removes; `reflock` is taken alone by
//! who moves tags. Whoever wants both takes `lock` first.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
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
        take(&self.own("lock"), FlockOperation::NonBlockingLockShared)
    }

    /// Held by who removes: nothing is added meanwhile.
    pub(crate) fn lock_removing(&self) -> Result<Lock> {
        take(&self.own("lock"), FlockOperation::NonBlockingLockExclusive)
    }

    /// Held by who moves tags.
    pub(super) fn lock_refs(&self) -> Result<Lock> {
        take(&self.own("reflock"), FlockOperation::NonBlockingLockExclusive)
    }
}

fn take(path: &Path, operation: FlockOperation) -> Result<Lock> {
    if let Some(folder) = path.parent() {
        disk::make_folder(folder)?;
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = file.map_err(|e| disk::io("lock", path, e))?;
    let begun = Instant::now();
    loop {
        match flock(&file, operation) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK | Errno::INTR) if begun.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => {
                let problem = Problem::Locked { holder: holder(&mut file), seconds: PATIENCE.as_secs() };
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

/// Who holds a lock, as far as its file says.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match text.trim().parse::<u32>() {
        Ok(id) => format!("process {id}"),
        Err(_) => "another process".to_string(),
    }
}
