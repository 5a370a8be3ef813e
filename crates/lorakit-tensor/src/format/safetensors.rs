//! Safetensors: one JSON header, then the data.
//!
//! ```text
//! ┌──────────────┬──────────────────────────────┬────────────────────────────────┐
//! │ u64 LE       │ JSON, N bytes, space-padded  │ tensor data, no gaps           │
//! │ N            │ {"name":{"dtype","shape",    │ offsets count from here        │
//! │              │  "data_offsets":[begin,end]}}│                                │
//! └──────────────┴──────────────────────────────┴────────────────────────────────┘
//! ```
//!
//! Reading is stricter than the reference crate: repeated names, unknown fields, holes, overlaps and trailing
//! bytes are refused before any data is looked at. Writing is deterministic: tensors in the order given,
//! metadata sorted by key.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};

use super::Stored;
use super::problem::{Problem, TensorProblem};
#[cfg(doc)]
use crate::ErrorKind;
use crate::{DType, Error, Reader, Result, Storage, TensorInfo};

/// Longest header that is read, in bytes; the limit of the reference implementation.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Most tensors in one file.
pub const MAX_TENSORS: usize = 262_144;
pub(super) const MAX_RANK: usize = 8;
const MAX_NAME_BYTES: usize = 1024;

/// A parsed header.
#[derive(Debug)]
pub struct Header {
    /// Tensors in data order.
    pub tensors: Vec<Stored>,
    /// The `__metadata__` strings.
    pub metadata: BTreeMap<String, String>,
}

/// Reads and checks the header of a safetensors file.
///
/// # Errors
/// [`ErrorKind::Truncated`] if header or data are cut short, [`ErrorKind::Limit`] or [`ErrorKind::Corrupt`] for
/// a header that breaks the rules, [`ErrorKind::Unsupported`] for an unknown dtype.
pub fn read_header(storage: &Storage) -> Result<Header> {
    read(storage).map_err(|e| e.at(storage.path()))
}

fn read(storage: &Storage) -> Result<Header> {
    let len = storage.len();
    if len < 10 {
        return Err(TensorProblem::Tiny { len, format: "safetensors", least: 10 }.into());
    }
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&storage.read(0, 8)?);
    let n = u64::from_le_bytes(prefix);
    if n > MAX_HEADER_BYTES {
        return Err(Problem::LongHeader { len: n }.into());
    }
    if n > len - 8 {
        return Err(Problem::HeaderCutShort { len: n, left: len - 8 }.into());
    }
    let text = storage.read(8, n as usize)?;
    if text.first() != Some(&b'{') {
        return Err(Problem::NoBrace.into());
    }
    let mut json = serde_json::Deserializer::from_slice(&text);
    let raw = HeaderSeed
        .deserialize(&mut json)
        .and_then(|raw| json.end().map(|()| raw))
        .map_err(|e| Problem::Header { reason: e.to_string() })?;
    place(raw, 8 + n, len)
}

/// Turns relative offsets into absolute ones and proves that tensors tile the data section exactly.
fn place(raw: RawHeader, data_start: u64, file_len: u64) -> Result<Header> {
    let mut spans = Vec::with_capacity(raw.tensors.len());
    for (name, entry) in raw.tensors {
        let [begin, end] = entry.data_offsets;
        let info = entry.info(name)?;
        check_offsets(&info, begin, end).map_err(|problem| Error::from(problem).tensor(&info.name))?;
        spans.push((begin, end, info));
    }
    // Empty tensors share their offset with a neighbour; they come first.
    spans.sort_by(|a, b| (a.0, a.1, &a.2.name).cmp(&(b.0, b.1, &b.2.name)));

    let mut tensors = Vec::with_capacity(spans.len());
    let mut expected = 0;
    for (begin, end, info) in spans {
        if begin != expected {
            let problem = if begin < expected {
                Problem::Overlap { begin, expected }
            } else {
                Problem::Hole { begin, expected }
            };
            return Err(Error::from(problem).tensor(&info.name));
        }
        expected = end;
        let absolute = data_start.checked_add(end).filter(|&end| end <= file_len);
        if absolute.is_none() {
            let problem = TensorProblem::CutShort { end: data_start.saturating_add(end), file_len };
            return Err(Error::from(problem).tensor(&info.name));
        }
        tensors.push(Stored { info, offset: data_start + begin, transposed: false, checksum: None });
    }
    if data_start + expected != file_len {
        return Err(Problem::Trailing { extra: file_len - data_start - expected }.into());
    }
    Ok(Header { tensors, metadata: raw.metadata })
}

/// Proves that a tensor has as many bytes as its shape and dtype need.
fn check_offsets(info: &TensorInfo, begin: u64, end: u64) -> std::result::Result<(), Problem> {
    let TensorInfo { dtype, ref shape, .. } = *info;
    let count = TensorInfo::count(shape).ok_or_else(|| Problem::Shape { shape: shape.clone() })?;
    let needed = dtype.byte_len(count).ok_or(Problem::Blocks)?;
    if end.checked_sub(begin) == Some(needed) {
        Ok(())
    } else {
        Err(Problem::Offsets { shape: shape.clone(), dtype, needed, begin, end })
    }
}

#[derive(Default)]
struct RawHeader {
    tensors: Vec<(String, Entry)>,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl Entry {
    fn info(&self, name: String) -> Result<TensorInfo> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            let problem = TensorProblem::Name { limit: MAX_NAME_BYTES };
            return Err(Error::from(problem).tensor(&name.chars().take(80).collect::<String>()));
        }
        let Some(dtype) = DType::from_safetensors(&self.dtype) else {
            let problem = Problem::DType { name: self.dtype.escape_debug().to_string() };
            return Err(Error::from(problem).tensor(&name));
        };
        if self.shape.len() > MAX_RANK {
            return Err(Error::from(Problem::Rank { rank: self.shape.len() }).tensor(&name));
        }
        let shape: Option<Vec<usize>> = self.shape.iter().map(|&d| usize::try_from(d).ok()).collect();
        let shape = shape.ok_or_else(|| Error::from(Problem::Dimension).tensor(&name))?;
        Ok(TensorInfo { name, dtype, shape })
    }
}

struct HeaderSeed;

impl<'de> DeserializeSeed<'de> for HeaderSeed {
    type Value = RawHeader;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<RawHeader, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<RawHeader, A::Error> {
        let mut header = RawHeader::default();
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format!("`{}` appears twice", name.escape_debug())));
            }
            if name == "__metadata__" {
                header.metadata = map.next_value_seed(MetadataSeed)?;
                continue;
            }
            if header.tensors.len() == MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
            header.tensors.push((name, map.next_value()?));
        }
        Ok(header)
    }
}

struct MetadataSeed;

impl<'de> DeserializeSeed<'de> for MetadataSeed {
    type Value = BTreeMap<String, String>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> std::result::Result<Self::Value, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MetadataSeed {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings as `__metadata__`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut metadata = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            if metadata.insert(key, value).is_some() {
                return Err(A::Error::custom("a `__metadata__` key appears twice"));
            }
        }
        Ok(metadata)
    }
}

/// The bytes before the data, and where each tensor goes.
#[derive(Debug)]
pub struct Layout {
    /// Length prefix and JSON, padded so that data begin at a multiple of 8.
    pub header: Vec<u8>,
    /// Absolute offset of each tensor, in the order given.
    pub offsets: Vec<u64>,
    /// Length of the whole file.
    pub len: u64,
}

/// Lays out a file of `tensors` in the order given.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a dtype that safetensors cannot hold, [`ErrorKind::Limit`] for a header that
/// readers would refuse.
pub fn layout(metadata: &BTreeMap<String, String>, tensors: &[TensorInfo]) -> Result<Layout> {
    layout_padded(metadata, tensors, 0)
}

/// Most bytes that a tensor takes in a header.
pub fn entry_bytes(info: &TensorInfo) -> u64 {
    const NUMBER: usize = 20;
    let fixed = r#""":{"dtype":"F8_E4M3","shape":[],"data_offsets":[,]},"#.len();
    let escaped = |c: char| if c == '"' || c == '\\' { 2 } else { c.len_utf8() };
    let name: usize = info.name.chars().map(escaped).sum();
    (fixed + name + (NUMBER + 1) * info.shape.len() + 2 * NUMBER) as u64
}

/// As [`layout`], with a header of at least `header_len` bytes: the length that a file keeps when its last tensors turn
/// out shorter than reserved.
///
/// # Errors
/// As [`layout`].
pub fn layout_padded(
    metadata: &BTreeMap<String, String>,
    tensors: &[TensorInfo],
    header_len: usize,
) -> Result<Layout> {
    if tensors.len() > MAX_TENSORS {
        return Err(Problem::TooMany { count: tensors.len() }.into());
    }
    let mut json = serde_json::Map::new();
    if !metadata.is_empty() {
        json.insert("__metadata__".into(), serde_json::json!(metadata));
    }
    let mut relative = Vec::with_capacity(tensors.len());
    let mut end = 0u64;
    for info in tensors {
        if !info.dtype.in_safetensors() {
            let problem = TensorProblem::Unstorable { dtype: info.dtype, format: "safetensors" };
            return Err(Error::from(problem).tensor(&info.name));
        }
        let begin = end;
        end += info.byte_len();
        relative.push(begin);
        let entry = serde_json::json!({
            "dtype": info.dtype.name(), "shape": info.shape, "data_offsets": [begin, end],
        });
        if json.insert(info.name.clone(), entry).is_some() {
            return Err(Error::from(Problem::Repeated).tensor(&info.name));
        }
    }
    let mut text = serde_json::Value::Object(json).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8).max(header_len.saturating_sub(8)), b' ');
    if text.len() as u64 > MAX_HEADER_BYTES {
        return Err(Problem::LongHeaderWritten { len: text.len() }.into());
    }
    let data_start = 8 + text.len() as u64;
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend_from_slice(&text);
    let offsets = relative.iter().map(|begin| data_start + begin).collect();
    Ok(Layout { header, offsets, len: data_start + end })
}

/// `model-00001-of-00003.safetensors`: the name of shard `number` (from 1) of `count`, or `model.safetensors`
/// when there is only one.
pub fn shard_name(stem: &str, number: usize, count: usize) -> String {
    match count {
        1 => format!("{stem}.safetensors"),
        _ => format!("{stem}-{number:05}-of-{count:05}.safetensors"),
    }
}

/// The name of the index of shards: `model.safetensors.index.json` for the stem `model`.
pub fn index_name(stem: &str) -> String {
    format!("{stem}.safetensors.index.json")
}

/// Whether `name` may be part of a checkpoint of this stem: one file, numbered shards, or their index.
pub fn is_file_of(stem: &str, name: &str) -> bool {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let Some(rest) = name.strip_prefix(stem) else { return false };
    let shard = rest.strip_prefix('-').and_then(|rest| rest.strip_suffix(".safetensors")?.split_once("-of-"));
    [".safetensors", ".safetensors.index.json"].contains(&rest)
        || shard.is_some_and(|(index, count)| number(index) && number(count))
}

/// The text of `model.safetensors.index.json` for `(tensor, file)` pairs.
pub fn index_json<'a>(total_size: u64, weight_map: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let map: BTreeMap<&str, &str> = weight_map.collect();
    let index = serde_json::json!({ "metadata": { "total_size": total_size }, "weight_map": map });
    let mut text = serde_json::to_vec_pretty(&index).unwrap_or_default();
    text.push(b'\n');
    text
}

/// Reads an index file into `(tensor, shard file name)` pairs, in file order.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if it is not an index, [`ErrorKind::UnsafePath`] if a shard name is anything but a plain
/// file name.
pub fn read_index(path: &Path, reader: &Reader) -> Result<Vec<(String, String)>> {
    let json = reader.json_object_within(path, crate::json::MAX_INDEX_BYTES)?;
    let Some(map) = json.get("weight_map").and_then(|m| m.as_object()) else {
        return Err(Error::from(Problem::NoWeightMap).at(path));
    };
    let mut pairs = Vec::with_capacity(map.len());
    for (tensor, file) in map {
        let Some(file) = file.as_str() else {
            return Err(Error::from(Problem::NoShardName).at(path).tensor(tensor));
        };
        let plain = (1..=255).contains(&file.len())
            && !file.starts_with('.')
            && file.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !plain {
            let problem = Problem::ShardName { name: file.escape_debug().to_string() };
            return Err(Error::from(problem).at(path).tensor(tensor));
        }
        pairs.push((tensor.clone(), file.to_string()));
    }
    Ok(pairs)
}
