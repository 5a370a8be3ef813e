//! Atomic publishing: an output path holds the old content or the complete new one, never anything between, and
//! nothing that appeared there meanwhile is lost.
//!
//! Everything is written next to the target under a staged name (`.NAME.BOOT-RANDOM.partial`), which is locked while
//! its process lives. [`Staged::publish`] makes the bytes durable and renames; a staged name that is dropped
//! unpublished is removed. Three consequences: a failed run needs no clean-up, a killed run leaves the old output
//! and one stale staged name that the next run sweeps away, and the target's file system needs room for old and
//! new together.
//!
//! | at the output | may not be replaced | may be replaced |
//! |---|---|---|
//! | nothing, or an empty folder | renamed into place; what appeared meanwhile stays, and is an error | the same |
//! | a file | refused | replaced by one rename |
//! | a folder | refused | exchanged; only what was listed before is removed, the rest is kept next to it |

mod output;
pub(crate) mod problem;
mod staging;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

pub use output::OutputFile;
use problem::Problem;
use staging::Stage;
pub use staging::{Leftovers, abandon, has_published, leave};

#[cfg(doc)]
use crate::ErrorKind;
use crate::{Error, Result};

/// Most entries of a folder that are listed: no model has that many.
const MAX_ENTRIES: usize = 10_000;

/// What a publication may do with what is at its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existing {
    /// Refuse.
    Kept,
    /// Replace: a file in any case, a folder if it holds nothing but these paths, as [`contents`] lists them.
    Replaced(BTreeSet<PathBuf>),
}

/// A file or folder being written next to its final place.
#[derive(Debug)]
pub struct Staged {
    target: PathBuf,
    existing: Existing,
    folder: bool,
    stage: Stage,
}

/// What a publication did beyond the output itself.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Published {
    /// Where the old folder is now, if something appeared in it just before it was replaced.
    pub kept: Option<PathBuf>,
}

impl Staged {
    /// Starts a folder that will appear as `target`. An existing empty folder is taken as absent.
    ///
    /// # Errors
    /// [`ErrorKind::Exists`] or [`ErrorKind::Occupied`] if something is there that may not be replaced;
    /// [`ErrorKind::Io`].
    pub fn folder(target: &Path, existing: Existing) -> Result<Self> {
        let target = resolved(target)?;
        check_folder(&target, &existing)?;
        let stage = Stage::begin(&target, true)?;
        Ok(Staged { target, existing, folder: true, stage })
    }

    /// Starts a single file that will appear as `target`; it is at [`Self::path`], and empty.
    ///
    /// # Errors
    /// As [`Self::folder`].
    pub fn file(target: &Path, existing: Existing) -> Result<Self> {
        let target = resolved(target)?;
        check_file(&target, existing != Existing::Kept)?;
        let stage = Stage::begin(&target, false)?;
        Ok(Staged { target, existing, folder: false, stage })
    }

    /// Where to write meanwhile.
    pub fn path(&self) -> &Path {
        self.stage.path()
    }

    /// Staged names of the same output that other runs left and that could not be proved dead: those of another
    /// machine, or from before a restart.
    pub fn leftovers(&self) -> &[PathBuf] {
        self.stage.leftovers()
    }

    /// Creates a file of `len` bytes: `name` in a staged folder, else the staged file itself.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], [`ErrorKind::NoSpace`].
    pub fn create(&self, name: &str, len: u64) -> Result<OutputFile> {
        if self.folder {
            OutputFile::create(&self.path().join(name), len)
        } else {
            OutputFile::open(self.path(), len)
        }
    }

    /// Makes the content durable and moves it into place in one step. The output gets the mode bits of what was there
    /// before.
    ///
    /// # Errors
    /// [`ErrorKind::Appeared`] if something is at the target that was not there before; [`ErrorKind::Io`] or
    /// [`ErrorKind::NoSpace`]. The target is then as it was, and the staged output is removed.
    pub fn publish(self) -> Result<Published> {
        keep_modes(&self.target, self.path());
        sync_tree(self.path())?;
        let place = |e: Errno| match e {
            Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR => {
                Error::from(Problem::Appeared).at(&self.target)
            }
            e => Error::io("move the finished output to", &self.target, e.into()),
        };
        let replaced = self.stage.publish(|| {
            match &self.existing {
                Existing::Replaced(known) if self.folder && !is_vacant(&self.target)? => {
                    let names = strangers(&self.target, known)?;
                    if !names.is_empty() {
                        return Err(Error::from(Problem::AppearedInside { names }).at(&self.target));
                    }
                    renameat_with(CWD, self.path(), CWD, &self.target, RenameFlags::EXCHANGE)
                        .map_err(place)?;
                    return Ok(Some(known));
                }
                // A folder can only replace nothing or an empty folder: otherwise the rename fails.
                _ if self.folder => rustix::fs::rename(self.path(), &self.target).map_err(place)?,
                Existing::Replaced(_) => rustix::fs::rename(self.path(), &self.target).map_err(place)?,
                Existing::Kept => rename_new(self.path(), &self.target).map_err(place)?,
            }
            Ok(None)
        })?;
        // The staged name now holds the old folder; the new one is in place.
        let kept = replaced.and_then(|known| clear(self.path(), &self.target, known));
        sync(&parent_of(&self.target))?;
        Ok(Published { kept })
    }
}

/// Whether a folder may be written at `target`; the check of [`Staged::folder`] for plans.
///
/// # Errors
/// As [`Staged::folder`].
pub fn check_folder(target: &Path, existing: &Existing) -> Result<()> {
    if target.file_name().is_none() {
        // Nothing can be renamed to `.` or `..`.
        return Err(Error::from(Problem::NoName).at(target));
    }
    let target = &resolved(target)?;
    if is_vacant(target)? {
        return Ok(());
    }
    if !target.is_dir() {
        return Err(Error::from(Problem::NoFolder).at(target));
    }
    let Existing::Replaced(known) = existing else {
        return Err(Error::from(Problem::Exists).at(target));
    };
    match strangers(target, known)? {
        none if none.is_empty() => Ok(()),
        names => Err(Error::from(Problem::Strangers { names }).at(target)),
    }
}

/// Whether a file may be written at `target`; the check of [`Staged::file`] for plans.
///
/// # Errors
/// As [`Staged::file`].
pub fn check_file(target: &Path, replace: bool) -> Result<()> {
    match fs::symlink_metadata(resolved(target)?) {
        Err(_) => Ok(()),
        Ok(meta) if meta.is_dir() => Err(Error::from(Problem::IsFolder).at(target)),
        Ok(meta) if !meta.is_file() => Err(Error::from(Problem::Irregular).at(target)),
        Ok(_) if replace => Ok(()),
        Ok(_) => Err(Error::from(Problem::Exists).at(target)),
    }
}

/// Everything in `folder` and below, as relative paths: files, links (not followed) and empty folders.
///
/// # Errors
/// [`ErrorKind::Io`]; [`ErrorKind::Occupied`] for more entries than an output can have.
pub fn contents(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut open = vec![PathBuf::new()];
    while let Some(inside) = open.pop() {
        let path = folder.join(&inside);
        let mut empty = true;
        for entry in fs::read_dir(&path).map_err(|e| Error::io("list", &path, e))? {
            let entry = entry.map_err(|e| Error::io("list", &path, e))?;
            empty = false;
            let name = inside.join(entry.file_name());
            if entry.file_type().map_err(|e| Error::io("look at", &path, e))?.is_dir() {
                open.push(name);
            } else {
                found.insert(name);
            }
            if found.len() + open.len() > MAX_ENTRIES {
                return Err(Error::from(Problem::Large).at(folder));
            }
        }
        if empty && !inside.as_os_str().is_empty() {
            found.insert(inside);
        }
    }
    Ok(found)
}

/// Bytes free for this user on the file system where `target` will be.
///
/// # Errors
/// [`ErrorKind::Io`] if the file system cannot tell.
pub fn free_space(target: &Path) -> Result<u64> {
    let mut place = parent_of(target);
    while !place.exists() {
        place = parent_of(&place);
    }
    let stat =
        rustix::fs::statvfs(&place).map_err(|e| Error::io("ask for free space at", &place, e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Names for a message: three of them, and how many more there are.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a PathBuf>) -> String {
    let mut names: Vec<String> = names.into_iter().map(|name| format!("`{}`", name.display())).collect();
    let more = names.len().saturating_sub(3);
    names.truncate(3);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

/// The entries of `folder` that are not `known`.
fn strangers(folder: &Path, known: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>> {
    Ok(contents(folder)?.into_iter().filter(|path| !known.contains(path)).collect())
}

/// Removes the `known` entries of the old folder. Anything left appeared at the moment of the exchange: it moves to a
/// visible place next to `target`, which is returned.
fn clear(old: &Path, target: &Path, known: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    for inside in known {
        let path = old.join(inside);
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        folders.extend(inside.ancestors().skip(1).map(|folder| old.join(folder)));
    }
    // Inner folders come after the outer ones whose paths they extend.
    folders.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
    fs::symlink_metadata(old).ok()?;
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    (1..1000)
        .map(|n| target.with_file_name(format!("{name}.kept-{n}")))
        .find(|kept| rename_new(old, kept).is_ok())
}

/// Renames to a name that must be free.
fn rename_new(from: &Path, to: &Path) -> std::result::Result<(), Errno> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some network file systems cannot: a hard link also fails if the name is taken.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::link(from, to)?;
            rustix::fs::unlink(from)
        }
        other => other,
    }
}

/// Gives what is staged the mode bits of what it replaces, file by file. A mode that cannot be set is not worth
/// losing the output for.
fn keep_modes(target: &Path, staged: &Path) {
    let Ok(meta) = fs::symlink_metadata(target) else { return };
    if meta.is_symlink() {
        return;
    }
    if meta.is_dir()
        && let Ok(names) = fs::read_dir(staged)
    {
        for name in names.flatten() {
            keep_modes(&target.join(name.file_name()), &name.path());
        }
    }
    if staged.is_dir() == meta.is_dir() {
        let _ = fs::set_permissions(staged, meta.permissions());
    }
}

/// What a symbolic link points to: the link itself stays, its target gets the new content.
fn resolved(target: &Path) -> Result<PathBuf> {
    match fs::symlink_metadata(target) {
        Ok(meta) if meta.is_symlink() => fs::canonicalize(target).map_err(|e| {
            let error = match (e.kind(), fs::read_link(target)) {
                (io::ErrorKind::NotFound, Ok(to)) => Problem::LinkToNothing { to }.into(),
                _ => Error::from(Problem::Link).caused_by(e),
            };
            error.at(target)
        }),
        _ => Ok(target.to_path_buf()),
    }
}

/// Whether nothing, or an empty folder, is at `target`.
fn is_vacant(target: &Path) -> Result<bool> {
    match fs::symlink_metadata(target) {
        Err(_) => Ok(true),
        Ok(meta) if !meta.is_dir() => Ok(false),
        Ok(_) => {
            let mut entries = fs::read_dir(target).map_err(|e| Error::io("list", target, e))?;
            Ok(entries.next().is_none())
        }
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
