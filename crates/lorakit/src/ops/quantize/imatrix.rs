//! Importance matrices: how strongly each column of each weight is used, as llama.cpp's `llama-imatrix` measured it.
//!
//! ```text
//! legacy (.dat, little-endian)                           GGUF
//!   i32 entries                                            imatrix.datasets [str], imatrix.chunk_count u32,
//!   entries x i32 length, name                             imatrix.chunk_size u32
//!             i32 calls                                    NAME.in_sum2 F32 [matrices, columns]: sums of squares
//!             i32 values, f32[values]: means x calls       NAME.counts  F32 [matrices, 1]: of how many tokens
//!   i32 chunks, i32 length, dataset        (optional)
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lorakit_tensor::format::gguf::Value;
use lorakit_tensor::{Checkpoint, ReadMode, Storage, TensorInfo, TensorSource};

use crate::adapter::{Finding, Severity};
use crate::{Error, ErrorKind, Result, TensorRef};

/// An importance matrix: mean squares of activations, by the name of the tensor they meet.
#[derive(Debug)]
pub struct Imatrix {
    path: PathBuf,
    entries: BTreeMap<String, Vec<f32>>,
    dataset: Option<String>,
    chunks: u32,
}

impl Imatrix {
    /// Reads a file of either format.
    ///
    /// # Errors
    /// [`ErrorKind::Imatrix`] if it is no importance matrix, is cut short, or holds values that are negative or not
    /// finite.
    pub fn open(path: &Path, mode: ReadMode) -> Result<Self> {
        let storage = Storage::open(path, mode)?;
        let bytes = storage.read(0, storage.len() as usize)?;
        let matrix = match bytes.starts_with(b"GGUF") {
            true => from_gguf(path, mode),
            false => from_legacy(path, &bytes),
        }?;
        for (name, values) in &matrix.entries {
            if let Some(at) = values.iter().position(|v| !v.is_finite() || *v < 0.0) {
                let message = format!("holds {} for column {at}, and importances are at least 0", values[at]);
                return Err(Error::new(ErrorKind::Imatrix, message).at(path).tensor(name));
            }
        }
        Ok(matrix)
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The text it was measured on, as the file names it.
    pub fn dataset(&self) -> Option<&str> {
        self.dataset.as_deref()
    }

    /// The pieces of that text.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// The importances of tensor `name`, `(matrices, columns)`, if it has any.
    pub fn get(&self, name: &str, columns: usize, matrices: usize) -> Option<&[f32]> {
        self.entries.get(name).map(Vec::as_slice).filter(|values| values.len() == columns * matrices)
    }

    /// Checks that this is the importance matrix of the model whose `tensors` are to be weighed; notes what it does
    /// not cover.
    ///
    /// # Errors
    /// [`ErrorKind::Imatrix`] if an entry has another number of columns, or no tensor has an entry.
    pub(crate) fn check(&self, tensors: &[TensorInfo]) -> Result<Option<Finding>> {
        let fail = |message: String| Error::new(ErrorKind::Imatrix, message).at(&self.path);
        let mut bare = Vec::new();
        for tensor in tensors {
            let columns = tensor.shape.last().copied().unwrap_or(1);
            let matrices = if let [experts, _, _] = tensor.shape[..] { experts } else { 1 };
            match self.entries.get(&tensor.name) {
                None => bare.push(tensor.name.as_str()),
                // The embedding is looked up, not multiplied: its entry, if there is one, is of something else.
                Some(values) if values.len() != columns * matrices && tensor.name != "token_embd.weight" => {
                    let message = format!(
                        "is of another model: it has {} importances, and the tensor has {matrices} x {columns} columns",
                        values.len()
                    );
                    return Err(fail(message).tensor(&tensor.name));
                }
                Some(_) => {}
            }
        }
        let Some(first) = bare.first() else { return Ok(None) };
        if bare.len() == tensors.len() {
            let known = self.entries.keys().next().map_or("none", String::as_str);
            let message = format!(
                "is of another model: it has no entry for any of the {} tensors to weigh (its first is `{known}`, \
                 theirs `{first}`)",
                tensors.len()
            );
            return Err(fail(message));
        }
        let message = format!(
            "has no entry for {} of the {} tensors that would be weighed; they are quantised without",
            bare.len(),
            tensors.len()
        );
        let subject = self.path.display().to_string();
        Ok(Some(Finding::new(Severity::Note, "imatrix-coverage", &subject, message)))
    }
}

fn from_gguf(path: &Path, mode: ReadMode) -> Result<Imatrix> {
    let fail = |message: &str| Error::new(ErrorKind::Imatrix, message).at(path);
    let file = Arc::new(Checkpoint::open(path, mode)?);
    let sums = file.tensors().iter().any(|t| t.name.ends_with(".in_sum2"));
    let (Some(metadata), true) = (file.gguf(), sums) else {
        return Err(fail("is a GGUF file without importances (`NAME.in_sum2`)"));
    };
    let datasets = metadata.get("imatrix.datasets").and_then(Value::as_strings);
    let chunks = metadata.get("imatrix.chunk_count").and_then(Value::as_u64);
    let (Some(datasets), Some(chunks), true) =
        (datasets, chunks, metadata.get("imatrix.chunk_size").is_some())
    else {
        return Err(fail("lacks one of `imatrix.datasets`, `imatrix.chunk_count` and `imatrix.chunk_size`"));
    };
    let mut entries = BTreeMap::new();
    for (index, info) in file.tensors().iter().enumerate() {
        let Some(name) = info.name.strip_suffix(".in_sum2") else { continue };
        let counts = file
            .find(&format!("{name}.counts"))
            .ok_or_else(|| fail("has sums and no `.counts`").tensor(name))?;
        let mut values = TensorRef::new(file.clone(), index).values()?;
        let counts = TensorRef::new(file.clone(), counts).values()?;
        if counts.is_empty() || !values.len().is_multiple_of(counts.len()) || values.is_empty() {
            let message = format!("has {} sums and {} counts", values.len(), counts.len());
            return Err(fail(&message).tensor(name));
        }
        let columns = values.len() / counts.len();
        for (values, count) in values.chunks_exact_mut(columns).zip(counts) {
            // An expert that no token reached weighs all its columns alike.
            match count.round() {
                count if count > 0.0 => values.iter_mut().for_each(|v| *v /= count),
                _ => values.fill(1.0),
            }
        }
        entries.insert(name.to_string(), values);
    }
    let chunks = u32::try_from(chunks).unwrap_or(u32::MAX);
    Ok(Imatrix { path: path.to_path_buf(), entries, dataset: datasets.first().cloned(), chunks })
}

fn from_legacy(path: &Path, bytes: &[u8]) -> Result<Imatrix> {
    let mut rest = bytes;
    let cut = || {
        let message = "is no importance matrix: neither a GGUF file nor a complete file of the older format";
        Error::new(ErrorKind::Imatrix, message).at(path)
    };
    let entries_count = integer(&mut rest).filter(|n| *n > 0).ok_or_else(cut)?;
    let mut entries = BTreeMap::new();
    for _ in 0..entries_count {
        let name = text(&mut rest).ok_or_else(cut)?;
        let calls = integer(&mut rest).ok_or_else(cut)?;
        let count = integer(&mut rest).filter(|n| *n > 0).ok_or_else(cut)? as usize;
        let values = rest.split_off(..count.checked_mul(4).ok_or_else(cut)?).ok_or_else(cut)?;
        let divisor = if calls > 0 { calls as f32 } else { 1.0 };
        let values = values.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes) / divisor).collect();
        entries.insert(name, values);
    }
    let chunks = integer(&mut rest).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let dataset = text(&mut rest).filter(|name| !name.is_empty());
    Ok(Imatrix { path: path.to_path_buf(), entries, dataset, chunks })
}

fn integer(rest: &mut &[u8]) -> Option<i32> {
    let (bytes, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(i32::from_le_bytes(*bytes))
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(integer(rest)?).ok()?;
    Some(String::from_utf8_lossy(rest.split_off(..length)?).into_owned())
}
