//! What a GGUF file must satisfy: the reader checks what it found, the writer what it is given.

use std::collections::HashSet;

use super::problem::Problem;
use super::value::{Metadata, Value};
use crate::problem::excerpt;
use crate::{Error, Result, TensorInfo};

pub(super) const MAGIC: &[u8; 4] = b"GGUF";

/// Most bytes before the data. The largest vocabularies need a fraction of it.
pub(super) const MAX_HEADER_BYTES: u64 = 1 << 27;
/// Most keys, and most tensors.
pub(super) const MAX_ENTRIES: u64 = 1 << 20;

pub(super) const MAX_KEY_BYTES: usize = 65_535;
/// ggml keeps names in 64 bytes, with a NUL at the end.
pub(super) const MAX_NAME_BYTES: usize = 63;
pub(super) const MAX_DIMENSIONS: usize = 4;
pub(super) const MAX_DIMENSION: u64 = 1 << 40;

const DEFAULT_ALIGNMENT: u64 = 32;
const ALIGNMENTS: std::ops::RangeInclusive<u32> = 8..=65_536;

/// The alignment that the metadata ask for.
pub(super) fn alignment(metadata: &Metadata) -> Result<u64> {
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&Value::U32(a)) if a.is_power_of_two() && ALIGNMENTS.contains(&a) => Ok(a.into()),
        Some(&Value::U32(found)) => Err(Problem::Alignment { found }.into()),
        Some(other) => Err(Problem::AlignmentType { found: other.type_name() }.into()),
    }
}

/// Checks the length of a key.
pub(super) fn check_key(key: &str) -> Result<()> {
    match key.len() {
        0 => Err(Problem::EmptyKey.into()),
        1..=MAX_KEY_BYTES => Ok(()),
        len => Err(Problem::LongKey { key: excerpt(key), len }.into()),
    }
}

/// The bytes of a tensor, if its name, its dimensions and its type go together.
pub(super) fn check_tensor(info: &TensorInfo) -> Result<u64> {
    byte_len(info).map_err(|problem| Error::from(problem).tensor(&excerpt(&info.name)))
}

fn byte_len(info: &TensorInfo) -> std::result::Result<u64, Problem> {
    let TensorInfo { name, shape, dtype } = info;
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Problem::Name);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(Problem::LongName { len: name.len() });
    }
    let Some(&row) = shape.last().filter(|_| shape.len() <= MAX_DIMENSIONS) else {
        return Err(Problem::Rank { rank: shape.len() });
    };
    if let Some(&dimension) = shape.iter().find(|&&d| !(1..=MAX_DIMENSION).contains(&(d as u64))) {
        return Err(Problem::Dimension { dimension });
    }
    if row % dtype.block().elements != 0 {
        return Err(Problem::Rows { row, dtype: *dtype });
    }
    let bytes = TensorInfo::count(shape).and_then(|n| dtype.byte_len(n));
    bytes.ok_or_else(|| Problem::HugeTensor { shape: shape.clone() })
}

/// Where the tensor after one of `bytes` bytes at `offset` begins.
pub(super) fn next_offset(offset: u64, bytes: u64, alignment: u64) -> Result<u64> {
    let next = offset.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(alignment));
    next.ok_or_else(|| Problem::HugeFile.into())
}

/// Proves that no tensor name appears twice.
pub(super) fn unique_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<()> {
    match first_repeated(names) {
        Some(name) => Err(Error::from(Problem::Repeated).tensor(name)),
        None => Ok(()),
    }
}

/// Proves that no key appears twice.
pub(super) fn unique_keys(metadata: &Metadata) -> Result<()> {
    match first_repeated(metadata.iter().map(|(key, _)| key)) {
        Some(key) => Err(Problem::RepeatedKey { key: excerpt(key) }.into()),
        None => Ok(()),
    }
}

fn first_repeated<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.find(|name| !seen.insert(*name))
}
