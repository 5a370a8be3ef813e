//! Blobs: found, read and checked by their digests.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use lorakit::plan::Progress;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::{Store, disk};
use crate::problem::Problem;
use crate::{Digest, Error, Result};

/// Most bytes of a manifest. The distribution specification asks for at least as many.
pub(crate) const LARGEST_MANIFEST: u64 = 4 << 20;
/// Bytes read at a time.
pub(super) const PIECE: usize = 1 << 20;

/// What is wrong with a blob.
#[derive(Debug)]
pub(super) enum Wrong {
    /// There is no such file.
    Absent,
    /// It is a link, a folder or something else.
    Irregular,
    /// Its bytes have another digest.
    Other(Digest),
    /// It may be right, but the system does not let it be read.
    Unreadable(std::io::Error),
}

impl Store {
    /// Where a blob is.
    pub(super) fn blob(&self, digest: Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Opens a blob, and says how long it is.
    pub(super) fn open_blob(&self, digest: Digest) -> std::result::Result<(File, u64), Wrong> {
        // What a link and a socket answer.
        let irregular = [Errno::LOOP, Errno::NXIO].map(|e| Some(e.raw_os_error()));
        let file = disk::open(&self.blob(digest)).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Wrong::Absent,
            _ if irregular.contains(&e.raw_os_error()) => Wrong::Irregular,
            _ => Wrong::Unreadable(e),
        })?;
        match file.metadata() {
            Ok(meta) if meta.is_file() => Ok((file, meta.len())),
            _ => Err(Wrong::Irregular),
        }
    }

    /// Reads the whole blob and compares its digest. `progress` is told how many bytes were read.
    pub(super) fn check_blob(
        &self,
        digest: Digest,
        progress: &dyn Progress,
    ) -> Result<std::result::Result<(), Wrong>> {
        let (mut file, _) = match self.open_blob(digest) {
            Ok(opened) => opened,
            Err(Wrong::Unreadable(e)) => return Err(disk::io("read", &self.blob(digest), e)),
            Err(wrong) => return Ok(Err(wrong)),
        };
        let found = sum(&mut file, &self.blob(digest), progress)?;
        Ok(if found == digest { Ok(()) } else { Err(Wrong::Other(found)) })
    }

    /// The bytes of a manifest, or of another small blob, which `of` needs.
    ///
    /// # Errors
    /// `Incomplete` if it is not there; `Corrupt` if its bytes are others; `Unsafe` if it is too large.
    pub(crate) fn read_manifest(&self, digest: Digest, of: &str) -> Result<Vec<u8>> {
        let mut tries = disk::TRIES;
        loop {
            let (mut file, bytes) = self.open_blob(digest).map_err(|wrong| self.refuse(digest, wrong, of))?;
            if bytes > LARGEST_MANIFEST {
                let problem = Problem::Large { what: "the manifest", bytes, limit: LARGEST_MANIFEST };
                return Err(Error::from(problem).at(&self.blob(digest)));
            }
            let mut content = Vec::with_capacity(bytes as usize);
            file.read_to_end(&mut content).map_err(|e| disk::io("read", &self.blob(digest), e))?;
            match Digest::of(&content) {
                found if found == digest => return Ok(content),
                // A program that copies the same artifact into the store overwrites its manifest in place.
                _ if tries > 0 => std::thread::sleep(disk::PAUSE),
                found => return Err(self.refuse(digest, Wrong::Other(found), of)),
            }
            tries -= 1;
        }
    }

    /// Where a blob that `of` needs is.
    pub(crate) fn blob_path(&self, digest: Digest, of: &str) -> Result<PathBuf> {
        self.open_blob(digest).map_err(|wrong| self.refuse(digest, wrong, of))?;
        Ok(self.blob(digest))
    }

    /// Checks a blob that `of` needs; damaged ones go to quarantine.
    pub(crate) fn require(&self, digest: Digest, of: &str, progress: &dyn Progress) -> Result<()> {
        self.check_blob(digest, progress)?.map_err(|wrong| self.refuse(digest, wrong, of))
    }

    /// The error of a blob that is wrong. What has other bytes is moved away, so that nobody reads it and the same file,
    /// added again, takes its place.
    pub(super) fn refuse(&self, digest: Digest, wrong: Wrong, of: &str) -> Error {
        let (name, of) = (digest.to_string(), of.to_string());
        let problem = match wrong {
            Wrong::Absent => Problem::NoBlob { digest: name, of },
            Wrong::Irregular => Problem::Irregular { digest: name, of },
            Wrong::Other(found) => {
                let moved = self.quarantine(digest).is_some();
                Problem::Blob { digest: name, found: found.to_string(), of, moved }
            }
            Wrong::Unreadable(e) => return disk::io("read", &self.blob(digest), e),
        };
        Error::from(problem).at(&self.blob(digest))
    }

    /// Moves a blob out of the way. A store that cannot be written keeps it.
    pub(super) fn quarantine(&self, digest: Digest) -> Option<PathBuf> {
        let folder = self.own("quarantine");
        if self.input {
            return None;
        }
        disk::make_folder(&folder).ok()?;
        let place = disk::unique(&folder.join(digest.hex()));
        fs::rename(self.blob(digest), &place).ok().map(|()| place)
    }
}

/// The digest of what is left of a file.
fn sum(file: &mut File, path: &Path, progress: &dyn Progress) -> Result<Digest> {
    let mut sum = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).map_err(|e| disk::io("read", path, e))? {
            0 => return Ok(Digest::from_sum(sum.finalize().into())),
            read => {
                sum.update(&piece[..read]);
                tell(progress, read as u64)?;
            }
        }
    }
}

/// Tells that so many bytes are done; stops if the caller wants to.
pub(super) fn tell(progress: &dyn Progress, bytes: u64) -> Result<()> {
    progress.advance(bytes);
    lorakit::inside::go_on(progress, "everything was read")
}
