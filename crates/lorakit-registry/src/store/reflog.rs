//! Every move of a tag, in the order in which they were made.
//!
//! ```text
//! 1f3a09c2 {"at":1764547200,"tag":"sql:v1","new":"sha256:...","why":"add"}
//! ```
//!
//! A line begins with eight digits of the SHA-256 of the rest. One that does not fit was torn by a crash before its tag
//! moved, and is skipped. Lines are only ever appended.

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use serde::{Deserialize, Serialize};

use super::{Store, disk};
use crate::{Digest, Result};

/// One move of a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// When, in seconds since 1970.
    pub at: u64,
    /// The tag, as the index names it.
    pub tag: String,
    /// What it points to since then; nothing if it was removed.
    #[serde(default)]
    pub new: Option<Digest>,
    /// What moved it: a verb.
    pub why: String,
}

impl Store {
    /// Every move that can be read, the oldest first.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn moves(&self) -> Result<Vec<Move>> {
        let path = self.own("reflog");
        if !path.exists() {
            return Ok(Vec::new());
        }
        Ok(disk::read(&path)?.split(|byte| *byte == b'\n').filter_map(read_line).collect())
    }

    /// Appends moves, makes them durable, and returns how long the file was before. If that fails, it is that long again.
    /// The caller holds the lock of refs.
    pub(super) fn log(&self, moves: &[Move]) -> Result<u64> {
        let path = self.own("reflog");
        let is_new = !path.exists();
        let writing = |e| disk::io("write", &path, e);
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(writing)?;
        let before = file.metadata().map_err(writing)?.len();
        let mut lines = Vec::new();
        let written = (|| {
            if before > 0 {
                // A torn line is ended, so that the next one is read.
                let mut last = [b'\n'];
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
                lines.extend((last[0] != b'\n').then_some(b'\n'));
            }
            for one in moves {
                lines.extend(line(one)?.bytes());
            }
            file.write_all(&lines)?;
            file.sync_data()
        })();
        let written = written.map_err(writing);
        let durable = written.and_then(|()| if is_new { disk::sync_folder_of(&path) } else { Ok(()) });
        if durable.is_err() {
            self.unlog(before);
        }
        durable.map(|()| before)
    }

    /// Takes back what was appended to a reflog that had so many bytes: readers must not see a move that failed. The caller
    /// holds the lock of refs.
    pub(super) fn unlog(&self, before: u64) {
        let cut = OpenOptions::new().write(true).open(self.own("reflog")).and_then(|file| {
            file.set_len(before)?;
            file.sync_data()
        });
        // The disk that failed to write may fail at this too; the error of the move says so already.
        drop(cut);
    }
}

fn line(one: &Move) -> std::io::Result<String> {
    let text = serde_json::to_string(one)?;
    Ok(format!("{} {text}\n", sum(text.as_bytes())))
}

fn read_line(line: &[u8]) -> Option<Move> {
    let (found, text) = (line.get(..8)?, line.get(9..)?);
    (sum(text).as_bytes() == found).then(|| serde_json::from_slice(text).ok()).flatten()
}

fn sum(text: &[u8]) -> String {
    let mut hex = Digest::of(text).hex();
    hex.truncate(8);
    hex
}
