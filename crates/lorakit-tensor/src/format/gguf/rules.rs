//! What a GGUF file must satisfy, asked by the reader of what it found and by the writer of what it is given.

use std::collections::HashSet;

use super::value::{Metadata, Value};
use crate::{Error, ErrorKind, Result, TensorInfo};

pub(super) const MAGIC: &[u8; 4] = b"GGUF";

/// Most bytes before the data. The largest vocabularies need a fraction of it.
pub(super) const MAX_HEADER_BYTES: u64 = 1 << 27;
/// Most keys, and most tensors.
pub(super) const MAX_ENTRIES: u64 = 1 << 20;

const MAX_KEY_BYTES: usize = 65_535;
/// ggml keeps names in 64 bytes, with a NUL at the end.
const MAX_NAME_BYTES: usize = 63;
pub(super) const MAX_DIMENSIONS: usize = 4;
const MAX_DIMENSION: u64 = 1 << 40;

const DEFAULT_ALIGNMENT: u64 = 32;
const ALIGNMENTS: std::ops::RangeInclusive<u32> = 8..=65_536;

/// The alignment that the metadata ask for.
pub(super) fn alignment(metadata: &Metadata) -> Result<u64> {
    let message = match metadata.get("general.alignment") {
        None => return Ok(DEFAULT_ALIGNMENT),
        Some(&Value::U32(a)) if a.is_power_of_two() && ALIGNMENTS.contains(&a) => return Ok(a.into()),
        Some(Value::U32(a)) => {
            format!("`general.alignment` is {a}; a power of two from 8 to 65536 is needed")
        }
        Some(other) => format!("`general.alignment` is of type {}; u32 is needed", other.type_name()),
    };
    Err(Error::new(ErrorKind::Corrupt, message))
}

/// Checks the length of a key.
pub(super) fn check_key(key: &str) -> Result<()> {
    match key.len() {
        0 => Err(Error::new(ErrorKind::Corrupt, "a metadata key is empty")),
        1..=MAX_KEY_BYTES => Ok(()),
        len => {
            let message =
                format!("key {:?} has {len} bytes; the format allows {MAX_KEY_BYTES}", excerpt(key));
            Err(Error::new(ErrorKind::Limit, message))
        }
    }
}

/// The bytes of a tensor, if its name, its dimensions and its type go together.
pub(super) fn check_tensor(info: &TensorInfo) -> Result<u64> {
    let refuse = |kind, message: String| Err(Error::new(kind, message).tensor(&excerpt(&info.name)));
    let name = &info.name;
    if name.is_empty() || name.chars().any(char::is_control) {
        return refuse(ErrorKind::Corrupt, "a name must not be empty or hold control characters".into());
    }
    if name.len() > MAX_NAME_BYTES {
        let message = format!("the name has {} bytes; GGUF allows {MAX_NAME_BYTES}", name.len());
        return refuse(ErrorKind::Limit, message);
    }
    let Some(&row) = info.shape.last().filter(|_| info.shape.len() <= MAX_DIMENSIONS) else {
        let message = format!("has {} dimensions; GGUF allows 1 to {MAX_DIMENSIONS}", info.shape.len());
        return refuse(ErrorKind::Unsupported, message);
    };
    if let Some(dimension) = info.shape.iter().find(|&&d| !(1..=MAX_DIMENSION).contains(&(d as u64))) {
        let message = format!("has a dimension of {dimension}; GGUF needs 1 to {MAX_DIMENSION}");
        return refuse(ErrorKind::Corrupt, message);
    }
    let block = info.dtype.block().elements;
    if row % block != 0 {
        let message = format!("rows of {row} values do not fill {} blocks of {block}", info.dtype);
        return refuse(ErrorKind::Corrupt, message);
    }
    match TensorInfo::count(&info.shape).and_then(|n| info.dtype.byte_len(n)) {
        Some(bytes) => Ok(bytes),
        None => refuse(ErrorKind::Corrupt, format!("shape {:?} has more than 2^64 bytes", info.shape)),
    }
}

/// Where the tensor after one of `bytes` bytes at `offset` begins.
pub(super) fn next_offset(offset: u64, bytes: u64, alignment: u64) -> Result<u64> {
    let next = offset.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(alignment));
    next.ok_or_else(|| Error::new(ErrorKind::Corrupt, "the tensors together have more than 2^64 bytes"))
}

/// Proves that no tensor name appears twice.
pub(super) fn unique_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<()> {
    match first_repeated(names) {
        Some(name) => Err(Error::new(ErrorKind::Corrupt, "appears twice").tensor(name)),
        None => Ok(()),
    }
}

/// Proves that no key appears twice.
pub(super) fn unique_keys(metadata: &Metadata) -> Result<()> {
    match first_repeated(metadata.iter().map(|(key, _)| key)) {
        Some(key) => Err(Error::new(ErrorKind::Corrupt, format!("key {:?} appears twice", excerpt(key)))),
        None => Ok(()),
    }
}

fn first_repeated<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.find(|name| !seen.insert(*name))
}

/// A name from a file, short enough for a message, which must still escape it.
pub(super) fn excerpt(name: &str) -> String {
    name.chars().take(80).collect()
}
