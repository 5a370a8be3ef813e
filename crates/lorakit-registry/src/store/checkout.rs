//! Artifacts as folders, for everything that reads folders.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use lorakit::plan::Progress;

use super::{Store, disk};
use crate::{Artifact, Reference, Result};

impl Store {
    /// The folder of the artifact that `reference` means, called by its name: hard links to its blobs, whose bytes are
    /// checked first. It is made if it is not there; it goes with the artifact.
    ///
    /// # Errors
    /// If a blob is missing or damaged, or the folder cannot be made.
    pub fn checkout(
        &self,
        artifact: &Artifact,
        reference: &Reference,
        progress: &dyn Progress,
    ) -> Result<PathBuf> {
        self.verify(artifact, &reference.to_string(), progress)?;
        let _lock = self.lock_adding()?;
        let whole = self.own("checkouts").join(artifact.digest.hex());
        let folder = whole.join(reference.name().short());
        if !self.is_checked_out(artifact, &folder) {
            let staged = disk::unique(&self.own("ingest").join("checkout"));
            let made = self.fill(artifact, &staged).and_then(|()| {
                disk::make_folder(&whole)?;
                if folder.exists() {
                    // Of an earlier copy of a blob.
                    fs::remove_dir_all(&folder).map_err(|e| disk::io("remove", &folder, e))?;
                }
                match fs::rename(&staged, &folder) {
                    // Another process made the same.
                    Err(_) if self.is_checked_out(artifact, &folder) => Ok(()),
                    other => other.map_err(|e| disk::io("create", &folder, e)),
                }
            });
            let _ = fs::remove_dir_all(&staged);
            made?;
        }
        Ok(folder)
    }

    /// Reads an artifact whole, and compares every byte with its digest.
    ///
    /// # Errors
    /// If a blob is missing or damaged.
    pub fn verify(&self, artifact: &Artifact, name: &str, progress: &dyn Progress) -> Result<()> {
        artifact.files.iter().try_for_each(|file| self.require(file.digest, name, progress))
    }

    fn is_checked_out(&self, artifact: &Artifact, folder: &Path) -> bool {
        let same = |a: &Path, b: &Path| match (fs::symlink_metadata(a), fs::symlink_metadata(b)) {
            (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
            _ => false,
        };
        artifact.files.iter().all(|file| same(&folder.join(&file.path), &self.blob(file.digest)))
    }

    /// Copies the files of an artifact into a folder: their bytes are shared where the file system can do that, but whoever
    /// changes a copy changes no blob.
    pub(crate) fn copy_out(&self, artifact: &Artifact, folder: &Path) -> Result<()> {
        for file in &artifact.files {
            let place = folder.join(&file.path);
            disk::make_folder(place.parent().unwrap_or(folder))?;
            fs::copy(self.blob(file.digest), &place)
                .and_then(|_| fs::set_permissions(&place, fs::Permissions::from_mode(0o644)))
                .map_err(|e| disk::io("copy to", &place, e))?;
        }
        Ok(())
    }

    /// Puts the files of an artifact into a new folder.
    fn fill(&self, artifact: &Artifact, folder: &Path) -> Result<()> {
        for file in &artifact.files {
            let place = folder.join(&file.path);
            disk::make_folder(place.parent().unwrap_or(folder))?;
            let blob = self.blob(file.digest);
            if fs::hard_link(&blob, &place).is_err() {
                fs::copy(&blob, &place).map_err(|e| disk::io("copy to", &place, e))?;
            }
        }
        Ok(())
    }
}
