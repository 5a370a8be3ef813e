//! Rows of files: JSONL, a JSON array, CSV, each also compressed.

mod frames;
mod json;
mod table;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, Value};

use self::frames::Frames;
use self::json::{Array, Lines};
use self::table::Table;

use super::problem::Problem;
use crate::{Error, Result};

/// A row, and the line on which it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) fields: Map<String, Value>,
}

type Rows = Box<dyn Iterator<Item = Result<Row>>>;

/// The file of training data that `path` names: itself, or `train.jsonl` and so on in a folder.
pub(super) fn file(path: &Path, part: &str) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let names = ["jsonl", "json", "csv", "tsv"]
        .into_iter()
        .flat_map(|kind| ["", ".gz", ".zst"].map(|end| format!("{part}.{kind}{end}")));
    let found: Vec<PathBuf> = names.map(|name| path.join(name)).filter(|path| path.exists()).collect();
    match <[PathBuf; 1]>::try_from(found) {
        Ok([one]) => Ok(one),
        Err(none) if none.is_empty() => Err(Error::from(Problem::NoPart { part: part.to_string() }).at(path)),
        Err(several) => {
            let found = several.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_string));
            Err(Error::from(Problem::SeveralParts { found: found.collect() }).at(path))
        }
    }
}

/// The rows of the file at `path`, one after another.
pub(super) fn rows(path: &Path) -> Result<Rows> {
    let file = crate::files::open(path).map_err(|error| io("open", path, error))?;
    let mut plain = unpacked(path, BufReader::with_capacity(1 << 16, file))?;
    let start = plain.fill_buf().map_err(|error| io("read", path, error))?;
    if start.is_empty() {
        return Err(Error::from(Problem::NoRows).at(path));
    }
    if start.starts_with(b"\xEF\xBB\xBF") {
        plain.consume(3);
    }
    let start = plain.fill_buf().map_err(|error| io("read", path, error))?;
    let first = start.iter().copied().find(|byte| !byte.is_ascii_whitespace());
    if let Some(delimiter) = delimiter(path) {
        return Ok(Box::new(Table::new(path, plain, delimiter)?));
    }
    match first {
        Some(b'[') => Ok(Box::new(Array::new(path, plain)?)),
        _ => Ok(Box::new(Lines::new(path, plain))),
    }
}

/// What separates the columns of a table; none if the name is not that of one.
fn delimiter(path: &Path) -> Option<u8> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.trim_end_matches(".gz").trim_end_matches(".zst");
    match name.rsplit_once('.')?.1 {
        "csv" => Some(b','),
        "tsv" => Some(b'\t'),
        _ => None,
    }
}

/// Decompresses what begins as gzip or Zstandard data do.
fn unpacked(path: &Path, mut packed: BufReader<File>) -> Result<Box<dyn BufRead>> {
    let start = packed.fill_buf().map_err(|error| io("read", path, error))?;
    let skippable = matches!(start, [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..]);
    Ok(if start.starts_with(&[0x1F, 0x8B]) {
        Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(packed)))
    } else if start.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) || skippable {
        Box::new(BufReader::with_capacity(1 << 16, Frames::new(packed)))
    } else {
        Box::new(packed)
    })
}

fn io(doing: &str, path: &Path, error: std::io::Error) -> Error {
    lorakit_tensor::Error::io(doing, path, error).into()
}
