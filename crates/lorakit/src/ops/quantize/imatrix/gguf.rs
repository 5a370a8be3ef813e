//! The GGUF format of llama-imatrix.

use std::collections::{BTreeMap, HashMap};

use lorakit_tensor::format::Stored;
use lorakit_tensor::format::gguf::{Metadata, Value, read_header};
use lorakit_tensor::{DType, Storage};

use super::content::Content;
use crate::ops::quantize::Problem;
use crate::{Error, Result};

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

pub(super) fn read(storage: &Storage) -> Result<Content> {
    let header = read_header(storage)?;
    let tensors: HashMap<&str, &Stored> =
        header.tensors.iter().map(|tensor| (tensor.info.name.as_str(), tensor)).collect();

    let mut importance = BTreeMap::new();
    for tensor in &header.tensors {
        if let Some(name) = tensor.info.name.strip_suffix(SUMS) {
            let counts = tensors.get(format!("{name}{COUNTS}").as_str());
            let counts = counts.ok_or_else(|| alone(&tensor.info.name, COUNTS))?;
            let (sums, counts) = (floats(storage, tensor)?, floats(storage, counts)?);
            importance.insert(name.to_string(), mean_squares(sums, &counts).map_err(|e| e.tensor(name))?);
        } else if let Some(name) = tensor.info.name.strip_suffix(COUNTS)
            && !tensors.contains_key(format!("{name}{SUMS}").as_str())
        {
            return Err(alone(&tensor.info.name, SUMS));
        }
    }
    if importance.is_empty() {
        return Err(Problem::NoSums { suffix: SUMS }.into());
    }

    let chunks = required(&header.metadata, "imatrix.chunk_count", "an integer", Value::as_u64)?;
    required(&header.metadata, "imatrix.chunk_size", "an integer", Value::as_u64)?;
    let datasets = required(&header.metadata, "imatrix.datasets", "an array of strings", Value::as_strings)?;
    let chunks = chunks.try_into().unwrap_or(u32::MAX);
    Ok(Content { importance, datasets: datasets.to_vec(), chunks })
}

/// Sums divided by the count of their matrix, rounded once.
fn mean_squares(mut sums: Vec<f32>, counts: &[f32]) -> Result<Vec<f32>> {
    if counts.is_empty() || !sums.len().is_multiple_of(counts.len()) {
        return Err(Problem::SumsAndCounts { sums: sums.len(), counts: counts.len() }.into());
    }
    let columns = sums.len() / counts.len();
    for (matrix, count) in sums.chunks_exact_mut(columns).zip(counts) {
        // The tool's counts are whole numbers.
        let count = count.round();
        if count.is_nan() || count < 0.0 {
            return Err(Problem::Count { count }.into());
        }
        matrix.iter_mut().for_each(|sum| *sum = if count > 0.0 { *sum / count } else { 1.0 });
    }
    Ok(sums)
}

fn floats(storage: &Storage, tensor: &Stored) -> Result<Vec<f32>> {
    if tensor.info.dtype != DType::F32 {
        let problem = Problem::NotFloats { dtype: tensor.info.dtype };
        return Err(Error::from(problem).tensor(&tensor.info.name));
    }
    let bytes = storage.read(tensor.offset, tensor.info.byte_len() as usize)?;
    Ok(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

fn required<'a, T>(
    metadata: &'a Metadata,
    key: &'static str,
    needed: &'static str,
    convert: impl FnOnce(&'a Value) -> Option<T>,
) -> Result<T> {
    metadata.get(key).and_then(convert).ok_or_else(|| {
        let found = metadata.get(key).map_or("absent".to_string(), |v| format!("of type {}", v.type_name()));
        Problem::Key { key, found, needed }.into()
    })
}

fn alone(tensor: &str, other: &'static str) -> Error {
    Error::from(Problem::Alone { other }).tensor(tensor)
}
