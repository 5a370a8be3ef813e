//! Files of lines that wait to be sent.
//!
//! A line is appended in one write, and counts once its line break is there: what a kill has cut off is no line. The file
//! is locked while it is written or sent, so that nobody sends or shortens it meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use lorakit_tensor::publish::{Existing, Staged};
use rustix::fs::{FlockOperation, flock};

use crate::error::Result;

/// How files of spans end, and files of scores.
pub(crate) const SPANS: &str = ".otlp.jsonl";
pub(crate) const SCORES: &str = ".scores.jsonl";

/// A file that is appended to. It appears with its first line.
pub(crate) struct Spool {
    path: PathBuf,
    file: Option<File>,
    /// Bytes in it.
    written: u64,
}

impl Spool {
    pub(crate) fn new(path: PathBuf) -> Self {
        Spool { path, file: None, written: 0 }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line; how many bytes the file has then.
    pub(crate) fn append(&mut self, line: &str) -> io::Result<u64> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(create(&self.path)?),
        };
        let line = format!("{line}\n");
        if let Err(error) = file.write_all(line.as_bytes()) {
            // A part of a line would spoil the next one.
            let _ = file.set_len(self.written);
            return Err(error);
        }
        self.written += line.len() as u64;
        Ok(self.written)
    }
}

/// Only the user may read what a trace may hold.
fn create(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
    lock(&file)?;
    Ok(file)
}

/// Keeps others from writing or sending it, for as long as `file` is open.
pub(crate) fn lock(file: &File) -> io::Result<()> {
    Ok(flock(file, FlockOperation::NonBlockingLockExclusive)?)
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Without its line break.
    pub(crate) text: String,
    /// Where it begins.
    pub(crate) begin: u64,
    /// Where the next one begins.
    pub(crate) end: u64,
}

/// The whole lines of a file from `from` up to `to`: as many as `bytes` holds, but at least one, and at most `most`.
pub(crate) fn lines(file: &mut File, from: u64, to: u64, bytes: u64, most: usize) -> io::Result<Vec<Line>> {
    let mut room = bytes.min(to - from);
    loop {
        let mut read = vec![0; room as usize];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut read)?;
        let mut found = Vec::new();
        let mut begin = from;
        for line in read.split_inclusive(|byte| *byte == b'\n').take(most) {
            let Some(text) = line.strip_suffix(b"\n") else { break };
            let end = begin + line.len() as u64;
            found.push(Line { text: String::from_utf8_lossy(text).into_owned(), begin, end });
            begin = end;
        }
        if !found.is_empty() || room == to - from {
            return Ok(found);
        }
        room = (room * 2).min(to - from);
    }
}

/// Leaves only these ranges of the file at `path`; without any, removes it, and its folder if that is then empty.
///
/// # Errors
/// If the file cannot be read, written or removed.
pub(crate) fn keep(path: &Path, ranges: &[(u64, u64)]) -> Result<()> {
    if ranges.is_empty() {
        fs::remove_file(path).map_err(|error| lorakit_tensor::Error::io("remove", path, error))?;
        if let Some(folder) = path.parent() {
            let _ = fs::remove_dir(folder);
        }
        return Ok(());
    }
    let all = fs::read(path).map_err(|error| lorakit_tensor::Error::io("read", path, error))?;
    let place = |at: u64| usize::try_from(at).map_or(all.len(), |at| at.min(all.len()));
    let part = |(begin, end): &(u64, u64)| all.get(place(*begin)..place(*end)).unwrap_or_default();
    let kept: Vec<u8> = ranges.iter().flat_map(part).copied().collect();
    let staged = Staged::file(path, Existing::Replaced(Default::default()))?;
    staged.create("", kept.len() as u64)?.write_at(&kept, 0)?;
    let _ = staged.publish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn whole_lines_are_read_as_far_as_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traces/a.otlp.jsonl");
        let mut spool = Spool::new(path.clone());
        assert!(!path.exists());
        for line in ["one", "two", "three is longer"] {
            spool.append(line).unwrap();
        }
        let end = fs::metadata(&path).unwrap().len();
        assert_eq!(spool.written, end);
        let mut file = File::open(&path).unwrap();
        let mut read = |from: u64, bytes: u64, most: usize| lines(&mut file, from, end, bytes, most).unwrap();
        assert_eq!(texts(&read(0, 100, 9)), ["one", "two", "three is longer"]);
        assert_eq!(texts(&read(0, 9, 9)), ["one", "two"]);
        assert_eq!(texts(&read(0, 100, 1)), ["one"]);
        assert_eq!(texts(&read(8, 2, 9)), ["three is longer"], "a line that is longer than the room");
        assert!(lock(&file).is_err(), "whoever writes it keeps others out");
        drop(spool);
        lock(&file).unwrap();
    }

    #[test]
    fn what_was_cut_off_is_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.otlp.jsonl");
        fs::write(&path, "one\ntw").unwrap();
        let mut file = File::open(&path).unwrap();
        assert_eq!(texts(&lines(&mut file, 0, 6, 100, 9).unwrap()), ["one"]);
        assert_eq!(lines(&mut file, 4, 6, 1, 9).unwrap(), []);
    }

    #[test]
    fn what_is_kept_is_kept_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traces/a.otlp.jsonl");
        fs::create_dir(folder.path().join("traces")).unwrap();
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        keep(&path, &[(0, 4), (8, 14)]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\nthree\n");
        keep(&path, &[]).unwrap();
        assert!(!folder.path().join("traces").exists());
    }
}
