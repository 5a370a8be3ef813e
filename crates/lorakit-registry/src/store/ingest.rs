//! Content on its way into a store, in the order of restic: staged beside the blobs, its room reserved, copied and
//! summed, synced, linked to its digest, the folder synced. Tags move only afterwards.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use lorakit::plan::{Progress, Silent};
use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps, renameat_with, utimensat};
use sha2::{Digest as _, Sha256};

use super::blobs::{PIECE, tell};
use super::lock::Lock;
use super::{Store, disk};
use crate::problem::Problem;
use crate::{Digest, Error, Result};

/// A folder of staged files. It is removed when this is dropped; what was [kept](Ingest::keep) stays as blobs.
#[derive(Debug)]
pub(crate) struct Ingest {
    store: Store,
    folder: PathBuf,
    _lock: Lock,
}

/// A folder in a store in which something is made that will be added. It is removed when this is dropped.
#[derive(Debug)]
pub struct Workbench(Ingest);

impl Workbench {
    /// The folder.
    pub fn folder(&self) -> &Path {
        self.0.folder()
    }
}

impl Store {
    /// A new folder on the file system of the store; nothing is removed from the store meanwhile.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn workbench(&self) -> Result<Workbench> {
        Ingest::begin(self).map(Workbench)
    }
}

/// A staged file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Staged {
    /// Its path in the folder.
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

impl Ingest {
    /// Begins; nothing is removed from the store meanwhile.
    pub(crate) fn begin(store: &Store) -> Result<Self> {
        let lock = store.lock_adding()?;
        let folder = disk::unique(&store.own("ingest").join("add"));
        disk::make_folder(&folder)?;
        disk::make_folder(&store.blobs())?;
        Ok(Ingest { store: store.clone(), folder, _lock: lock })
    }

    /// The folder of what is staged.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Copies a file to `path` in the folder. `progress` is told how many bytes were copied.
    pub(crate) fn copy(&self, source: &Path, path: &Path, progress: &dyn Progress) -> Result<Staged> {
        let reading = |e| disk::io("read", source, e);
        let mut from = File::open(source).map_err(reading)?;
        let before = from.metadata().map_err(reading)?;
        if !before.is_file() {
            let file = path.display().to_string();
            return Err(Error::from(Problem::NotPlain { file }).at(source));
        }
        let place = self.folder.join(path);
        if let Some(folder) = place.parent() {
            disk::make_folder(folder)?;
        }
        let writing = |e| disk::io("write", &place, e);
        let mut to = disk::create(&place).map_err(writing)?;
        disk::reserve(&to, before.len()).map_err(writing)?;
        let (mut sum, mut piece, mut bytes) = (Sha256::new(), vec![0; PIECE], 0);
        loop {
            let read = from.read(&mut piece).map_err(reading)?;
            if read == 0 {
                break;
            }
            sum.update(&piece[..read]);
            to.write_all(&piece[..read]).map_err(writing)?;
            bytes += read as u64;
            tell(progress, read as u64)?;
        }
        let after = fs::metadata(source).map_err(reading)?;
        let stamp = |meta: &fs::Metadata| {
            (
                meta.dev(),
                meta.ino(),
                meta.len(),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ctime(),
                meta.ctime_nsec(),
            )
        };
        if bytes != before.len() || stamp(&before) != stamp(&after) {
            return Err(Error::from(Problem::SourceChanged).at(source));
        }
        to.set_permissions(fs::Permissions::from_mode(0o444)).map_err(writing)?;
        to.sync_all().map_err(writing)?;
        Ok(Staged { path: path.to_path_buf(), digest: Digest::from_sum(sum.finalize().into()), bytes })
    }

    /// Makes a staged file a blob.
    pub(crate) fn keep(&self, staged: &Staged) -> Result<()> {
        let place = self.folder.join(&staged.path);
        let blob = self.store.blob(staged.digest);
        match fs::hard_link(&place, &blob) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => self.reuse(staged)?,
            // Some file systems have no hard links.
            Err(e) => match renameat_with(CWD, &place, CWD, &blob, RenameFlags::NOREPLACE) {
                Ok(()) => {}
                Err(_) => return Err(disk::io("link to its place", &blob, e)),
            },
        }
        disk::sync_folder_of(&blob)
    }

    /// Makes some bytes a blob.
    pub(crate) fn keep_bytes(&self, content: &[u8]) -> Result<Staged> {
        let digest = Digest::of(content);
        let place = disk::unique(&self.folder.join(".bytes"));
        let path = PathBuf::from(place.file_name().unwrap_or_default());
        let writing = |e| disk::io("write", &place, e);
        let mut to = disk::create(&place).map_err(writing)?;
        to.write_all(content).map_err(writing)?;
        to.set_permissions(fs::Permissions::from_mode(0o444)).map_err(writing)?;
        to.sync_all().map_err(writing)?;
        let staged = Staged { path, digest, bytes: content.len() as u64 };
        self.keep(&staged)?;
        Ok(staged)
    }

    /// A blob that is there already: touched, so that nobody sweeps it, and replaced if its bytes are others.
    fn reuse(&self, staged: &Staged) -> Result<()> {
        let blob = self.store.blob(staged.digest);
        if self.store.check_blob(staged.digest, &Silent)?.is_err() {
            self.store.quarantine(staged.digest);
            let place = self.folder.join(&staged.path);
            return match fs::hard_link(&place, &blob) {
                // Another process was first.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
                other => other.map_err(|e| disk::io("replace", &blob, e)),
            };
        }
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        // Who may not touch it may not sweep it either.
        let _ = utimensat(CWD, &blob, &times, AtFlags::SYMLINK_NOFOLLOW);
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
