//! Atomic publishing: an output path holds the old content or the complete new one, never anything between.
//!
//! Everything is written beside the target under a staged name (`.NAME.PID.partial`). [`Staged::publish`] makes
//! the bytes durable and renames; a staged name that is dropped unpublished is removed. Three consequences: a
//! failed run needs no clean-up, a killed run leaves the old output and one stale staged name that the next run
//! sweeps away, and the target's file system needs room for old and new together.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::mapped::{self, fault_within};
use crate::{Error, ErrorKind, Extent, Result};

static STAGED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
static PUBLISHED: AtomicBool = AtomicBool::new(false);

fn staged() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    STAGED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes everything that this process has staged, and returns the names.
pub fn abandon() -> Vec<PathBuf> {
    let names: Vec<PathBuf> = std::mem::take(&mut *staged()).into_iter().collect();
    for name in &names {
        let _ = (0..3).find(|_| remove(name).is_ok());
    }
    names
}

/// What this process has staged at the moment.
pub fn under_way() -> Vec<PathBuf> {
    staged().iter().cloned().collect()
}

/// Whether this process has published anything.
pub fn has_published() -> bool {
    PUBLISHED.load(Ordering::Relaxed)
}

/// A file or folder being written beside its final place.
#[derive(Debug)]
pub struct Staged {
    target: PathBuf,
    staged: PathBuf,
    folder: bool,
    published: bool,
}

impl Staged {
    /// Starts a folder that will appear as `target`. An existing empty folder is taken as absent.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] if something is there and `replace` is false, or if it does not look like a model
    /// or adapter folder (then replacing it would be a mistake); [`ErrorKind::Io`].
    pub fn folder(target: &Path, replace: bool) -> Result<Self> {
        let target = &followed(target);
        check_folder(target, replace)?;
        let staged = Self::begin(target, true)?;
        fs::create_dir(&staged.staged).map_err(|e| Error::io("create", &staged.staged, e))?;
        Ok(staged)
    }

    /// Starts a single file that will appear as `target`; write it at [`Self::path`].
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] if something is there and `replace` is false; [`ErrorKind::Io`].
    pub fn file(target: &Path, replace: bool) -> Result<Self> {
        let target = &followed(target);
        check_file(target, replace)?;
        Self::begin(target, false)
    }

    fn begin(target: &Path, folder: bool) -> Result<Self> {
        let parent = parent_of(target);
        if let Some(file) = parent.ancestors().find(|p| p.is_file()) {
            return Err(Error::new(ErrorKind::Io, "is a file, and a folder is needed there").at(file));
        }
        fs::create_dir_all(&parent).map_err(|e| Error::io("create", &parent, e))?;
        let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        sweep(&parent, &name);
        let staged = parent.join(format!(".{name}.{}.partial", std::process::id()));
        let _ = remove(&staged);
        self::staged().insert(staged.clone());
        Ok(Staged { target: target.to_path_buf(), staged, folder, published: false })
    }

    /// Where to write meanwhile.
    pub fn path(&self) -> &Path {
        &self.staged
    }

    /// Makes the content durable and moves it into place in one step.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::NoSpace`]; the target is then unchanged.
    pub fn publish(mut self) -> Result<()> {
        sync_tree(&self.staged)?;
        let exchanged = self.folder && self.target.exists();
        let flags = if exchanged { RenameFlags::EXCHANGE } else { RenameFlags::empty() };
        renameat_with(CWD, &self.staged, CWD, &self.target, flags)
            .map_err(|e| Error::io("move the finished output to", &self.target, e.into()))?;
        self.published = true;
        staged().remove(&self.staged);
        PUBLISHED.store(true, Ordering::Relaxed);
        if exchanged {
            // The staged name now holds the old folder; the new one is already in place.
            let _ = remove(&self.staged);
        }
        sync(&parent_of(&self.target))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            let _ = remove(&self.staged);
            staged().remove(&self.staged);
        }
    }
}

/// Whether a folder may be written at `target`; the check of [`Staged::folder`] for plans.
///
/// # Errors
/// As [`Staged::folder`].
pub fn check_folder(target: &Path, replace: bool) -> Result<()> {
    if target.file_name().is_none() {
        // `.` and `..` cannot be renamed into being.
        return Err(
            Error::new(ErrorKind::Exists, "is in use, and an output needs a name of its own").at(target)
        );
    }
    if fs::symlink_metadata(target).is_err() {
        return Ok(());
    }
    let exists = |message: &str| Err(Error::new(ErrorKind::Exists, message).at(target));
    if !target.is_dir() {
        return exists("exists and is not a folder");
    }
    let names: Vec<String> = fs::read_dir(target)
        .map_err(|e| Error::io("list", target, e))?
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    if !replace {
        return exists("exists");
    }
    let known =
        |n: &String| n.ends_with("config.json") || n.ends_with(".safetensors") || n.ends_with(".gguf");
    if !names.iter().any(known) {
        return exists("exists and does not look like a model folder, so it is not replaced");
    }
    Ok(())
}

/// Whether a file may be written at `target`; the check of [`Staged::file`] for plans.
///
/// # Errors
/// As [`Staged::file`].
pub fn check_file(target: &Path, replace: bool) -> Result<()> {
    match fs::symlink_metadata(target) {
        Err(_) => Ok(()),
        Ok(meta) if meta.is_dir() => Err(Error::new(ErrorKind::Exists, "exists and is a folder").at(target)),
        Ok(_) if replace => Ok(()),
        Ok(_) => Err(Error::new(ErrorKind::Exists, "exists").at(target)),
    }
}

/// Refuses an output that is one of the inputs, or a folder that holds one.
///
/// # Errors
/// [`ErrorKind::SameFile`].
pub fn check_distinct<'a>(target: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let Ok(output) = fs::canonicalize(target) else { return Ok(()) };
    let identity = |p: &Path| fs::metadata(p).map(|m| (m.dev(), m.ino())).ok();
    for input in inputs {
        let Ok(canonical) = fs::canonicalize(input) else { continue };
        if canonical.starts_with(&output) || identity(&canonical) == identity(&output) {
            let message = format!("is the output and also the input `{}`", input.display());
            return Err(Error::new(ErrorKind::SameFile, message).at(target));
        }
    }
    Ok(())
}

/// Bytes free for this user on the file system where `target` will be.
///
/// # Errors
/// [`ErrorKind::Io`] if the file system does not say.
pub fn free_space(target: &Path) -> Result<u64> {
    let mut place = parent_of(target);
    while !place.exists() {
        place = parent_of(&place);
    }
    let stat =
        rustix::fs::statvfs(&place).map_err(|e| Error::io("ask for free space at", &place, e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// An output file that many threads fill at once, each at its own offset.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    file: File,
}

impl OutputFile {
    /// Creates `path` with `len` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], [`ErrorKind::NoSpace`].
    pub fn create(path: &Path, len: u64) -> Result<Self> {
        let open = OpenOptions::new().write(true).create_new(true).open(path);
        let file = open.map_err(|e| Error::io("create", path, e))?;
        file.set_len(len).map_err(|e| Error::io("reserve space for", path, e))?;
        Ok(OutputFile { path: path.to_path_buf(), file })
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], [`ErrorKind::NoSpace`]; [`ErrorKind::Changed`] if `bytes` lie in a mapped file that became
    /// shorter: then it is the kernel that faults, and no signal is sent.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|e| {
            let cut = (e.raw_os_error() == Some(Errno::FAULT.raw_os_error())).then(|| fault_within(bytes));
            cut.flatten().unwrap_or_else(|| Error::io("write", &self.path, e))
        })
    }

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn truncate(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|e| Error::io("cut", &self.path, e))
    }

    /// Copies `len` bytes from `from` without passing them through this process, where the kernel can.
    /// Returns whether it could; if not, nothing is promised about the range and the caller copies by hand.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], [`ErrorKind::NoSpace`]; [`ErrorKind::Changed`] if the input became shorter.
    pub fn copy_at(&self, from: Extent<'_>, len: u64, offset: u64) -> Result<bool> {
        let (mut source, mut dest) = (from.offset, offset);
        let end = from.offset + len;
        while source < end {
            let want = (end - source).min(1 << 30) as usize;
            match rustix::fs::copy_file_range(from.file, Some(&mut source), &self.file, Some(&mut dest), want)
            {
                Ok(0) => return Err(mapped::shorter_now(from.file).at(from.path)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                    return Ok(false);
                }
                Err(e) => return Err(Error::io("write", &self.path, e.into())),
            }
        }
        Ok(true)
    }
}

/// What a symbolic link points to: the link itself stays, its target gets the new content.
fn followed(target: &Path) -> PathBuf {
    match fs::symlink_metadata(target) {
        Ok(meta) if meta.is_symlink() => fs::canonicalize(target).unwrap_or_else(|_| target.to_path_buf()),
        _ => target.to_path_buf(),
    }
}

fn sync_tree(path: &Path) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(|e| Error::io("list", path, e))? {
            sync_tree(&entry.map_err(|e| Error::io("list", path, e))?.path())?;
        }
    }
    sync(path)
}

fn sync(path: &Path) -> Result<()> {
    let result = File::open(path).and_then(|f| f.sync_all());
    match result {
        // Some file systems cannot sync a folder; the rename itself is still atomic there.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other.map_err(|e| Error::io("make durable", path, e)),
    }
}

fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        Some(_) => PathBuf::from("."),
        None => PathBuf::from("/"),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    }
}

/// Removes staged names of `name` whose process is gone.
fn sweep(parent: &Path, name: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        let pid = file_name
            .to_str()
            .and_then(|n| {
                n.strip_prefix('.')?.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".partial")
            })
            .and_then(|pid| pid.parse::<i32>().ok())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid
            && rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
        {
            let _ = remove(&entry.path());
        }
    }
}
