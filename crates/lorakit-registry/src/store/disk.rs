//! Files made durable: written beside their place, synced, linked or renamed, the folder synced.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FallocateFlags, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::Value;

use crate::Result;
use crate::problem::Problem;
use lorakit_tensor::Error as FileError;

/// Most bytes of a file that is read as a whole: an index of a hundred thousand tags.
const LARGEST: u64 = 64 << 20;
/// How often, and how far apart, a file that another program may be overwriting is read again.
pub(super) const TRIES: usize = 20;
pub(super) const PAUSE: Duration = Duration::from_millis(10);

/// The error of the operating system at `path`.
pub(crate) fn io(doing: &str, path: &Path, error: std::io::Error) -> crate::Error {
    FileError::io(doing, path, error).into()
}

/// A name that nothing else has: of this process, and of no other that is alive.
pub(crate) fn unique(beside: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = beside.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".tmp-{}-{:x}-{count}", std::process::id(), time.as_nanos()));
    beside.with_file_name(name)
}

/// Makes a folder and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| io("create", path, e))
}

/// Opens a file for reading: a link in its place is not followed, and a pipe is not waited for.
pub(crate) fn open(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

/// The bytes of a small file. A pipe in its place is not waited for.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let reading = |e| io("read", path, e);
    let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(reading)?;
    let meta = file.metadata().map_err(reading)?;
    if !meta.is_file() {
        let reason = "it is not a regular file".to_string();
        return Err(crate::Error::from(Problem::Index { reason }).at(path));
    }
    if meta.len() > LARGEST {
        let problem = Problem::Large { what: "the file", bytes: meta.len(), limit: LARGEST };
        return Err(crate::Error::from(problem).at(path));
    }
    let mut content = Vec::with_capacity(meta.len() as usize);
    file.take(LARGEST).read_to_end(&mut content).map_err(reading)?;
    Ok(content)
}

/// The JSON in a small file.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let content = read(path)?;
    serde_json::from_slice(&content).map_err(|error| {
        let reason = if content.is_empty() { "it is empty".to_string() } else { error.to_string() };
        crate::Error::from(Problem::Index { reason }).at(path)
    })
}

/// As [`read_json`], of a file that other programs overwrite in place: they may have written only a part of it yet.
pub(crate) fn read_shared_json(path: &Path) -> Result<Value> {
    for _ in 0..TRIES {
        match read_json(path) {
            Err(_) if path.exists() => std::thread::sleep(PAUSE),
            read => return read,
        }
    }
    read_json(path)
}

/// Writes a file that must not replace another; what is there already is kept.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let staged = write_staged(path, content)?;
    let linked = fs::hard_link(&staged, path);
    let _ = fs::remove_file(&staged);
    match linked {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(io("create", path, e)),
        _ => {}
    }
    sync_folder_of(path)
}

/// Replaces a file of JSON by one rename, and returns what stood there until then: what other programs wrote to the last,
/// even those that write in place. `None` if it is no JSON, or the file system cannot exchange files.
pub(crate) fn exchange(path: &Path, content: &[u8]) -> Result<Option<Value>> {
    let staged = write_staged(path, content)?;
    let replaced = match renameat_with(CWD, &staged, CWD, path, RenameFlags::EXCHANGE) {
        // A program that opened it before may be writing yet.
        Ok(()) => Ok(read_shared_json(&staged).ok()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOENT) => {
            fs::rename(&staged, path).map(|()| None)
        }
        Err(e) => Err(e.into()),
    };
    let _ = fs::remove_file(&staged);
    let replaced = replaced.map_err(|e| io("replace", path, e))?;
    // An error means that it is the old one. That the new name is durable is asked for, but nothing depends on it.
    let _ = sync_folder_of(path);
    Ok(replaced)
}

fn write_staged(path: &Path, content: &[u8]) -> Result<PathBuf> {
    let staged = unique(path);
    let written = create(&staged).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    match written {
        Ok(()) => Ok(staged),
        Err(e) => {
            let _ = fs::remove_file(&staged);
            Err(io("write", path, e))
        }
    }
}

/// A new file for writing.
pub(crate) fn create(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    OpenOptions::new().write(true).create_new(true).custom_flags(flags).mode(0o644).open(path)
}

/// Reserves the room of a file, so that a full disk is found before it is written.
pub(crate) fn reserve(file: &File, bytes: u64) -> std::io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        // Some file systems cannot.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        other => other.map_err(Into::into),
    }
}

/// Makes the entries of the folder of `path` durable.
pub(crate) fn sync_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some file systems cannot sync a folder.
        Err(e) if e.kind() == ErrorKind::InvalidInput => Ok(()),
        other => other.map_err(|e| io("make durable", folder, e)),
    }
}
