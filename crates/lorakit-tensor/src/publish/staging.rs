//! Staged names: unique, locked while their process lives, swept up by the next run once it is dead.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::problem::Problem;
#[cfg(doc)]
use crate::ErrorKind;
use crate::{Error, Result};

const ENDING: &str = ".partial";
/// Ending of a name that is not locked yet.
const FRESH: &str = ".fresh";
/// After this long, a name that never became locked belongs to nobody.
const FRESH_AGE: Duration = Duration::from_secs(60);
/// How often [`leave`] checks whether a removal has ended.
const TRY_AGAIN: Duration = Duration::from_millis(5);
/// Most bytes of the output's name in a staged name, whose length is limited too.
const NAME_BYTES: usize = 160;

/// What this process has staged at the moment.
static STAGED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// Held while a staged name is removed, which may take long. Locked before [`STAGED`].
static REMOVAL: Mutex<()> = Mutex::new(());

/// Whether this process has published anything.
static PUBLISHED: AtomicBool = AtomicBool::new(false);

/// A staged name, removed when dropped unless [`Self::publish`] succeeded.
#[derive(Debug)]
pub(super) struct Stage {
    path: PathBuf,
    leftovers: Vec<PathBuf>,
    /// Held for as long as the name is in use: this is how other runs can tell.
    _lock: File,
}

impl Stage {
    /// Creates an empty folder or file next to `target`, after removing those of dead runs.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub(super) fn begin(target: &Path, folder: bool) -> Result<Self> {
        let parent = super::parent_of(target);
        if let Some(file) = parent.ancestors().find(|p| p.is_file()) {
            return Err(Error::from(Problem::ParentIsFile).at(file));
        }
        fs::create_dir_all(&parent).map_err(|e| Error::io("create", &parent, e))?;
        let name = short_name(target);
        let leftovers = sweep(&parent, &name);
        let unique = format!(".{name}.{}-{:016x}", boot(), RandomState::new().build_hasher().finish());
        let fresh = parent.join(format!("{unique}{FRESH}"));
        let path = parent.join(unique + ENDING);
        // Nothing may exist that is not listed.
        let mut staged = lock(&STAGED);
        // Locked before it gets the name under which others look for dead runs.
        let lock = create(&fresh, folder).map_err(|e| Error::io("create", &path, e))?;
        let _ = flock(&lock, FlockOperation::NonBlockingLockExclusive);
        if let Err(error) = fs::rename(&fresh, &path) {
            let _ = remove(&fresh);
            return Err(Error::io("create", &path, error));
        }
        staged.insert(path.clone());
        Ok(Stage { path, leftovers, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn leftovers(&self) -> &[PathBuf] {
        &self.leftovers
    }

    /// Publishes: if `rename` succeeds, the name is no longer this run's. It cannot be abandoned meanwhile.
    pub(super) fn publish<T>(&self, rename: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut staged = lock(&STAGED);
        let done = rename()?;
        staged.remove(&self.path);
        PUBLISHED.store(true, Ordering::Relaxed);
        Ok(done)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _removal = lock(&REMOVAL);
        // Listed as staged until it is gone: `abandon`, if called meanwhile, removes the rest.
        let listed = lock(&STAGED).contains(&self.path);
        if listed {
            let _ = remove(&self.path);
            lock(&STAGED).remove(&self.path);
        }
    }
}

/// Removes everything that this process has staged, and returns the names: for a process that must end at once and
/// whose destructors will not run. Writes that go on meanwhile fail.
pub fn abandon() -> Vec<PathBuf> {
    let names: Vec<PathBuf> = std::mem::take(&mut *lock(&STAGED)).into_iter().collect();
    for name in &names {
        // Other threads may still be creating files inside.
        let _ = (0..3).find(|_| remove(name).is_ok());
    }
    names
}

/// What a process leaves behind: see [`leave`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Staged names that exist.
    pub names: Vec<PathBuf>,
    /// Whether they stay: nothing was removing one of them.
    pub settled: bool,
}

/// Leaves everything that this process has staged where it is, for a process that ends at once: from now on this
/// process stages, publishes and removes nothing, and threads that try to wait for ever. A removal that is under way
/// gets as long as `patience` to end.
pub fn leave(patience: Duration) -> Leftovers {
    let start = Instant::now();
    let settled = loop {
        match REMOVAL.try_lock() {
            Ok(guard) => break Some(guard),
            Err(TryLockError::Poisoned(guard)) => break Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) if start.elapsed() < patience => sleep(TRY_AGAIN),
            Err(TryLockError::WouldBlock) => break None,
        }
    };
    let staged = lock(&STAGED);
    let names = staged.iter().filter(|name| name.symlink_metadata().is_ok()).cloned().collect();
    let settled = settled.map(std::mem::forget).is_some();
    std::mem::forget(staged);
    Leftovers { names, settled }
}

/// Whether this process has published anything.
pub fn has_published() -> bool {
    PUBLISHED.load(Ordering::Relaxed)
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn create(path: &Path, folder: bool) -> io::Result<File> {
    if folder {
        fs::create_dir(path)?;
        return File::open(path);
    }
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    }
}

fn short_name(target: &Path) -> String {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    name[..name.floor_char_boundary(NAME_BYTES)].to_string()
}

/// Distinguishes this running system from others that see the same files, and from itself before a restart. Containers
/// of one machine share it, and they see each other's locks.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_else(|_| rustix::system::uname().nodename().to_string_lossy().into_owned());
    id.chars().filter(char::is_ascii_alphanumeric).take(8).collect()
}

/// Removes staged names of `name` whose run is dead, and returns those whose run cannot be checked from here.
fn sweep(parent: &Path, name: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let ours = format!("{}-", boot());
    let mut leftovers = Vec::new();
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        let Some(rest) =
            file_name.to_str().and_then(|n| n.strip_prefix('.')?.strip_prefix(name)?.strip_prefix('.'))
        else {
            continue;
        };
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        let (unique, waited) = match (rest.strip_suffix(ENDING), rest.strip_suffix(FRESH)) {
            (Some(unique), _) => (unique, true),
            (_, Some(unique)) => (unique, age().is_some_and(|age| age > FRESH_AGE)),
            _ => continue,
        };
        if unique.contains('.') {
            // A staged name of another output, whose name begins like this one's.
            continue;
        }
        if !unique.starts_with(&ours) {
            let path = entry.path();
            leftovers.push(path.strip_prefix(".").map(Path::to_path_buf).unwrap_or(path));
        } else if waited && is_dead(&entry.path()) {
            let _ = remove(&entry.path());
        }
    }
    leftovers.sort();
    leftovers
}

/// Whether no process holds the lock of a staged name of this machine.
fn is_dead(path: &Path) -> bool {
    let opened =
        if path.is_dir() { File::open(path) } else { OpenOptions::new().read(true).write(true).open(path) };
    opened.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_live_run_is_left_alone_and_that_of_a_dead_one_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model");
        let alive = Stage::begin(&target, true).unwrap();
        let dead = folder.path().join(format!(".model.{}-0{ENDING}", boot()));
        let elsewhere = folder.path().join(format!(".model.0000dead-0{ENDING}"));
        let earlier = folder.path().join(format!(".model.4711{ENDING}"));
        let other = folder.path().join(format!(".model.gguf.{}-0{ENDING}", boot()));
        let fresh = folder.path().join(format!(".model.{}-1{FRESH}", boot()));
        for path in [&dead, &elsewhere, &earlier, &other, &fresh] {
            fs::create_dir(path).unwrap();
        }
        let next = Stage::begin(&target, true).unwrap();
        assert!(alive.path().exists() && !dead.exists());
        assert!(other.exists() && fresh.exists(), "that of another output, and one that is just being made");
        assert_eq!(next.leftovers(), [elsewhere, earlier]);
        let (first, second) = (alive.path().to_path_buf(), next.path().to_path_buf());
        assert_ne!(first, second);
        drop((alive, next));
        assert!(!first.exists() && !second.exists());
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("ä".repeat(120));
        assert!(Stage::begin(&target, false).unwrap().path().exists());
    }
}
