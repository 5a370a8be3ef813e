//! Torch: the archive that `torch.save` writes since version 1.6 (`adapter_model.bin`, `.pt`, `.pth`, `.ckpt`).
//!
//! ```text
//! ┌─ zip archive, nothing compressed ─────────────────────────────────────────────┐
//! │ <prefix>/data.pkl    the state dict as a pickle: names, shapes, strides       │
//! │ <prefix>/byteorder   "little"; absent in old files                            │
//! │ <prefix>/data/0      elements of storage 0, aligned to 64 bytes               │
//! │ <prefix>/data/1      elements of storage 1                                    │
//! │ ...                  `version` and others, which are not looked at            │
//! │ central directory, end records                                                │
//! └───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A pickle is a program for a stack machine, and Python's machine may call any function it names. This one
//! cannot: no opcode has code behind it that reaches beyond the stack, a name is looked up in a fixed table of labels
//! (`global.rs`) and a file with any other is refused, and a "call" of one of the permitted names only records sizes,
//! strides and a storage number. The result is a list of windows on the file, checked against its directory. Work and
//! memory are bounded: opcodes, objects, memo, nesting and the pickle itself have limits, and no value is copied
//! deeply.

mod global;
mod heap;
mod opcode;
mod pickle;
pub(crate) mod problem;
mod tensor;
mod zip;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use self::heap::{Heap, Value};
use self::problem::Problem;
use self::tensor::{Placement, TensorRef};
use self::zip::Archive;
use super::Stored;
use super::problem::TensorProblem;
#[cfg(doc)]
use crate::ErrorKind;
use crate::checksum::Checksum;
use crate::{Error, Result, Storage, TensorInfo};

const MAX_PICKLE_BYTES: u64 = 64 << 20;
const MAX_NAME_BYTES: usize = 1024;
/// Keys under which training programs put the state dict.
const WRAPPERS: &[&str] = &["state_dict", "model", "module"];

/// Reads the state dict of a Torch archive, in data order. Tied tensors share an offset.
///
/// # Errors
/// [`ErrorKind::UnsafePickle`] if the pickle names anything but parts of a state dict;
/// [`ErrorKind::Unsupported`] for files of Torch before 1.6, TorchScript, compressed entries and strided views;
/// [`ErrorKind::Truncated`], [`ErrorKind::Corrupt`] or [`ErrorKind::Limit`] for a file that breaks the rules, or whose
/// pickle does not have the CRC-32 that the archive gives. The sum of a tensor is checked when it is first read.
pub fn read_header(storage: &Storage) -> Result<Vec<Stored>> {
    read(storage).map_err(|e| e.at(storage.path()))
}

fn read(storage: &Storage) -> Result<Vec<Stored>> {
    let head = storage.read(0, storage.len().min(4) as usize)?;
    if head.starts_with(&[0x80]) {
        return Err(Problem::Legacy.into());
    }
    let archive = Archive::open(storage)?;
    let prefix = prefix(&archive)?;
    if let Some(order) = archive.read(&format!("{prefix}/byteorder"), 16)?
        && *order != *b"little"
    {
        return Err(Problem::BigEndian.into());
    }
    let Some(bytes) = archive.read(&format!("{prefix}/data.pkl"), MAX_PICKLE_BYTES)? else {
        return Err(Problem::NoPickle.into());
    };
    let (heap, top) = pickle::load(&bytes)?;

    let mut tensors = Vec::new();
    let mut checksums = HashMap::new();
    for (name, tensor) in state_dict(&heap, top)? {
        let stored = place(&archive, prefix, name, tensor, &mut checksums).map_err(|e| e.tensor(name))?;
        tensors.push(stored);
    }
    tensors.sort_by_key(|stored| stored.offset);
    Ok(tensors)
}

/// The folder inside the archive that holds `data.pkl`.
fn prefix<'a>(archive: &'a Archive<'_>) -> Result<&'a str> {
    let mut prefixes = archive.names().filter_map(|name| name.strip_suffix("/data.pkl"));
    let prefix = match (prefixes.next(), prefixes.next()) {
        (Some(prefix), None) if !prefix.contains('/') => prefix,
        (None, _) => return Err(Problem::ForeignArchive.into()),
        _ => return Err(Problem::Ambiguous.into()),
    };
    let inside = |name: &str| name.strip_prefix(prefix).and_then(|n| n.strip_prefix('/')).map(str::to_string);
    if archive.names().filter_map(inside).any(|name| name == "constants.pkl" || name.starts_with("code/")) {
        return Err(Problem::TorchScript.into());
    }
    Ok(prefix)
}

/// The named tensors of a state dict, in file order. Other values are passed over if they are plain data; a
/// tensor anywhere else is an error, so none is lost silently.
fn state_dict<'h, 'a>(heap: &'h Heap<'a>, top: Value<'a>) -> Result<Vec<(&'a str, &'h TensorRef<'a>)>> {
    let Some(pairs) = heap.dict(top) else {
        return Err(Problem::NoDict.into());
    };
    let wrapped = |&(key, value): &(Value<'a>, Value<'a>)| match key {
        Value::Str(key) if WRAPPERS.contains(&key) => heap.dict(value),
        _ => None,
    };
    let direct = pairs.iter().any(|&(_, value)| heap.tensor(value).is_some());
    let mut inner = pairs.iter().filter_map(wrapped);
    let chosen = match (direct, inner.next(), inner.next()) {
        (false, Some(inner), None) => inner,
        _ => pairs,
    };
    if !std::ptr::eq(chosen, pairs) {
        let others = pairs.iter().filter(|pair| wrapped(pair).is_none());
        refuse_hidden_tensors(heap, others)?;
    }

    let mut tensors = Vec::new();
    let mut seen = HashSet::new();
    for &(key, value) in chosen {
        let Value::Str(name) = key else {
            return Err(Problem::Key.into());
        };
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            let problem = TensorProblem::Name { limit: MAX_NAME_BYTES };
            return Err(Error::from(problem).tensor(&name.chars().take(80).collect::<String>()));
        }
        if !seen.insert(name) {
            return Err(Error::from(Problem::Repeated).tensor(name));
        }
        if let Some(tensor) = heap.tensor(value) {
            tensors.push((name, tensor));
        }
    }
    refuse_hidden_tensors(heap, chosen.iter().filter(|&&(_, value)| heap.tensor(value).is_none()))?;
    if tensors.is_empty() {
        return Err(Problem::NoTensor.into());
    }
    Ok(tensors)
}

fn refuse_hidden_tensors<'h, 'a: 'h>(
    heap: &Heap<'a>,
    pairs: impl Iterator<Item = &'h (Value<'a>, Value<'a>)> + Clone,
) -> Result<()> {
    let Some(index) = heap.tensor_holder(pairs.clone().map(|&(_, value)| value)) else { return Ok(()) };
    let key = match pairs.clone().nth(index) {
        Some((Value::Str(key), _)) => key.chars().take(80).collect(),
        _ => String::new(),
    };
    Err(Problem::HiddenTensors { key: key.escape_debug().to_string() }.into())
}

/// Where a tensor is. Tensors of one storage share its checksum, which is found by its key.
fn place<'a>(
    archive: &Archive<'_>,
    prefix: &str,
    name: &str,
    tensor: &TensorRef<'a>,
    checksums: &mut HashMap<&'a str, Option<Arc<Checksum>>>,
) -> Result<Stored> {
    let key = tensor.storage.key;
    let member = format!("{prefix}/data/{key}");
    let Some(entry) = archive.locate(&member)? else {
        return Err(Problem::NoStorage { key: key.to_string() }.into());
    };
    let Placement { offset, transposed } = tensor.place(entry)?;
    let info = TensorInfo { name: name.to_string(), dtype: tensor.dtype, shape: tensor.shape.clone() };
    let checksum = checksums.entry(key).or_insert_with(|| archive.checksum(&member, entry).map(Arc::new));
    Ok(Stored { info, offset, transposed, checksum: checksum.clone() })
}
