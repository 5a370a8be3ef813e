//! The files of a folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::files::Files;
use super::names::Ignored;
use super::problem::Problem;
use crate::{Digest, Error, Result};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// A model in a folder, with the folders in it. Its files must be regular files.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    signature: Option<String>,
}

impl Folder {
    /// The model in `root`, which may be a link to a folder.
    pub fn new(root: &Path) -> Self {
        Folder { root: root.to_path_buf(), signature: None }
    }

    /// Leaves out the file in which its signature is, or will be, wherever that is.
    #[must_use]
    pub fn signed_by(mut self, signature: &Path) -> Self {
        self.signature = self.name_of(signature);
        self
    }

    /// The name in this model of a file, which need not exist; `None` if it is elsewhere.
    fn name_of(&self, path: &Path) -> Option<String> {
        let parent = match path.parent()? {
            parent if parent.as_os_str().is_empty() => Path::new("."),
            parent => parent,
        };
        let folder = parent.canonicalize().ok()?;
        let inside = folder.strip_prefix(self.root.canonicalize().ok()?).ok()?.join(path.file_name()?);
        inside.to_str().map(String::from)
    }

    /// Appends the files in the folder called `inside`, which is empty or ends in `/`.
    fn walk(&self, inside: &str, ignored: &Ignored, files: &mut Vec<(String, u64)>) -> Result<()> {
        let folder = self.root.join(inside);
        let failed = |e| Error::from(lorakit_tensor::Error::io("list", &folder, e));
        let mut entries =
            fs::read_dir(&folder).map_err(failed)?.collect::<io::Result<Vec<_>>>().map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let refuse = |problem: Problem| Err(Error::from(problem).at(&path));
            let Ok(part) = entry.file_name().into_string() else { return refuse(Problem::NotUtf8) };
            let name = format!("{inside}{part}");
            if ignored.covers(&name) || self.signature.as_ref() == Some(&name) {
                continue;
            }
            // Of the entry itself: a link is not followed.
            let meta = entry.metadata().map_err(|e| lorakit_tensor::Error::io("look at", &path, e))?;
            if meta.is_symlink() {
                return refuse(Problem::Link);
            } else if meta.is_dir() {
                self.walk(&format!("{name}/"), ignored, files)?;
            } else if meta.is_file() {
                files.push((name, meta.len()));
            } else {
                return refuse(Problem::Special);
            }
        }
        Ok(())
    }
}

impl Files for Folder {
    /// # Errors
    /// `ErrorKind::Unsafe` for a symbolic link, and for what is neither a file nor a folder.
    fn list(&self, ignored: &Ignored) -> Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        self.walk("", ignored, &mut files)?;
        Ok(files)
    }

    fn sha256(&self, name: &str, range: Range<u64>) -> Result<Digest> {
        let path = self.root.join(name);
        match hash(&path, range.clone()) {
            Ok(Some(digest)) => Ok(digest),
            Ok(None) => Err(Error::from(Problem::Short { end: range.end }).at(&path)),
            Err(e) => Err(lorakit_tensor::Error::io("read", &path, e).into()),
        }
    }

    fn signature(&self) -> Option<&str> {
        self.signature.as_deref()
    }
}

/// The SHA-256 of a range of a file, `None` if the file ends before it.
fn hash(path: &Path, range: Range<u64>) -> io::Result<Option<Digest>> {
    // What was a file when the folder was listed may have become a link, or a pipe that nobody writes to.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let mut file: File = OpenOptions::new().read(true).custom_flags(flags as i32).open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut left = range.end.saturating_sub(range.start);
    let mut sum = Sha256::new();
    let mut chunk = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
    while left > 0 {
        let want = chunk.len().min(usize::try_from(left).unwrap_or(CHUNK));
        let count = match file.read(&mut chunk[..want]) {
            Ok(0) => return Ok(None),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        sum.update(&chunk[..count]);
        left -= count as u64;
    }
    Ok(Some(Digest::from_sum(sum.finalize().into())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn files_are_listed_with_their_paths_and_without_what_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["b/c/d", "a", "b/.git", ".git/HEAD", "model.sig", ".gitignore"] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), name).unwrap();
        }
        // An ignored path may be anything.
        symlink("/nowhere", root.join(".github")).unwrap();
        let files = Folder::new(root).signed_by(&root.join("b/../model.sig"));
        assert_eq!(files.signature(), Some("model.sig"));
        let list = files.list(&Ignored::default()).unwrap();
        assert_eq!(list, [("a".into(), 1), ("b/.git".into(), 6), ("b/c/d".into(), 5)]);
        assert_eq!(files.sha256("b/c/d", 0..5).unwrap(), Digest::of(b"b/c/d"));
        assert_eq!(files.sha256("b/c/d", 2..4).unwrap(), Digest::of(b"c/"));
        assert_eq!(Folder::new(root).signed_by(Path::new("/elsewhere/model.sig")).signature(), None);
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_and_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut told = Vec::new();
        let mut refused = |kind| {
            let error = Folder::new(folder.path()).list(&Ignored::default()).unwrap_err();
            assert_eq!((error.kind(), error.path()), (kind, Some(path.as_path())));
            told.push(error.to_string().replace(&folder.path().display().to_string(), "."));
            fs::remove_file(&path).unwrap();
        };
        symlink("/etc/passwd", &path).unwrap();
        refused(ErrorKind::Unsafe);
        symlink("/etc", &path).unwrap();
        refused(ErrorKind::Unsafe);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        refused(ErrorKind::Unsafe);
        insta::assert_snapshot!(told.join("\n"), @"
        `./x`: is a symbolic link; a signed model must consist of regular files
        `./x`: is a symbolic link; a signed model must consist of regular files
        `./x`: is neither a file nor a folder; a signed model must consist of regular files
        ");
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let files = Folder::new(folder.path());
        fs::write(folder.path().join("a"), "1234").unwrap();
        let kind = |range| files.sha256("a", range).unwrap_err().kind();
        assert_eq!(kind(0..5), ErrorKind::File(lorakit_tensor::ErrorKind::Changed));
        symlink("a", folder.path().join("b")).unwrap();
        assert!(files.sha256("b", 0..1).is_err());
        mknodat(CWD, folder.path().join("p"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(files.sha256("p", 0..1).is_err());
    }
}
