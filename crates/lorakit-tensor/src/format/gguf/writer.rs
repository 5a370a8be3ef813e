//! Metadata and tensor infos to header bytes.

use super::element::write_str;
use super::problem::Problem;
use super::rules::{self, MAGIC, MAX_ENTRIES, MAX_HEADER_BYTES};
use super::value::Metadata;
#[cfg(doc)]
use crate::ErrorKind;
use crate::format::problem::TensorProblem;
use crate::{Error, Result, TensorInfo};

const VERSION: u32 = 3;
/// llama.cpp parses files with smaller alignments, then aborts in its CPU backend.
pub(super) const MIN_ALIGNMENT: u64 = 32;

/// The bytes before the data, and where each tensor goes.
#[derive(Debug)]
pub struct Layout {
    /// Everything before the data, padded to the alignment.
    pub header: Vec<u8>,
    /// Absolute offset of each tensor, in the order given.
    pub offsets: Vec<u64>,
    /// Length of the whole file. Bytes between tensors and after the last one are zeros.
    pub len: u64,
}

/// Lays out a version 3 file of `tensors` in the order given, aligned to `general.alignment` or else 32 bytes.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a dtype or a rank that GGUF cannot hold and an alignment below 32;
/// [`ErrorKind::Limit`] or [`ErrorKind::Corrupt`] for what [`read_header`](super::read_header) would refuse.
pub fn layout(metadata: &Metadata, tensors: &[TensorInfo]) -> Result<Layout> {
    let alignment = rules::alignment(metadata)?;
    if alignment < MIN_ALIGNMENT {
        return Err(Problem::SmallAlignment { alignment }.into());
    }
    rules::unique_names(tensors.iter().map(|info| info.name.as_str()))?;

    let mut header = MAGIC.to_vec();
    header.extend(VERSION.to_le_bytes());
    write_count(tensors.len(), "tensors", &mut header)?;
    write_count(metadata.len(), "metadata keys", &mut header)?;
    for (key, value) in metadata.iter() {
        rules::check_key(key)?;
        write_str(key, &mut header);
        value.write(&mut header);
    }
    let mut offsets = Vec::with_capacity(tensors.len());
    let mut end = 0;
    for info in tensors {
        let bytes = rules::check_tensor(info)?;
        write_info(info, end, &mut header)?;
        offsets.push(end);
        end = rules::next_offset(end, bytes, alignment).map_err(|e| e.tensor(&info.name))?;
    }
    header.resize(header.len().next_multiple_of(alignment as usize), 0);

    let data_start = header.len() as u64;
    if data_start > MAX_HEADER_BYTES {
        return Err(Problem::LongHeaderWritten { len: data_start }.into());
    }
    // Every offset is at most `end`, so this one check covers them all.
    let len = rules::next_offset(data_start, end, alignment)?;
    offsets.iter_mut().for_each(|offset| *offset += data_start);
    Ok(Layout { header, offsets, len })
}

fn write_count(count: usize, what: &'static str, out: &mut Vec<u8>) -> Result<()> {
    let count = count as u64;
    if count > MAX_ENTRIES {
        return Err(Problem::TooManyWritten { count, what }.into());
    }
    out.extend(count.to_le_bytes());
    Ok(())
}

fn write_info(info: &TensorInfo, offset: u64, out: &mut Vec<u8>) -> Result<()> {
    let Some(id) = info.dtype.ggml_id() else {
        let problem = TensorProblem::Unstorable { dtype: info.dtype, format: "GGUF" };
        return Err(Error::from(problem).tensor(&info.name));
    };
    write_str(&info.name, out);
    out.extend((info.shape.len() as u32).to_le_bytes());
    for &dimension in info.shape.iter().rev() {
        out.extend((dimension as u64).to_le_bytes());
    }
    out.extend(id.to_le_bytes());
    out.extend(offset.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Value;
    use super::*;
    use crate::{DType, ErrorKind};

    fn tensor(name: &str, dtype: DType, shape: &[usize]) -> TensorInfo {
        TensorInfo { name: name.to_string(), dtype, shape: shape.to_vec() }
    }

    #[track_caller]
    fn refused(tensors: &[TensorInfo], kind: ErrorKind) {
        assert_eq!(layout(&Metadata::default(), tensors).expect_err("is wrong").kind(), kind);
    }

    #[test]
    fn pads_every_tensor() {
        let tensors = [tensor("a", DType::F32, &[3]), tensor("b", DType::Q8_0, &[2, 32])];
        let laid = layout(&Metadata::default(), &tensors).unwrap();
        let start = laid.header.len() as u64;
        assert_eq!(start % 32, 0);
        assert_eq!((laid.offsets, laid.len), (vec![start, start + 32], start + 32 + 96));
    }

    #[test]
    fn refuses_what_readers_refuse() {
        refused(&[tensor("w", DType::C64, &[1])], ErrorKind::Unsupported);
        refused(&[tensor("w", DType::F32, &[])], ErrorKind::Unsupported);
        refused(&[tensor("w", DType::F32, &[1; 5])], ErrorKind::Unsupported);
        refused(&[tensor("w", DType::F32, &[0, 2])], ErrorKind::Corrupt);
        refused(&[tensor("w", DType::Q4_K, &[256, 32])], ErrorKind::Corrupt);
        refused(&[tensor(&"n".repeat(64), DType::F32, &[1])], ErrorKind::Limit);
        refused(&[tensor("w", DType::F32, &[1]), tensor("w", DType::F32, &[1])], ErrorKind::Corrupt);
        let huge = |name| tensor(name, DType::F64, &[1 << 40, 1 << 20]);
        refused(&[huge("a"), huge("b")], ErrorKind::Corrupt);
    }

    #[test]
    fn refuses_metadata_that_llama_cpp_would_not_survive() {
        let with = |key: &str, value| {
            let mut metadata = Metadata::default();
            metadata.set(key, value);
            layout(&metadata, &[]).map_err(|e| e.kind()).map(|laid| laid.len)
        };
        assert_eq!(with("general.alignment", Value::U32(64)), Ok(64));
        assert_eq!(with("general.alignment", Value::U32(16)), Err(ErrorKind::Unsupported));
        assert_eq!(with("general.alignment", Value::U32(48)), Err(ErrorKind::Corrupt));
        assert_eq!(with("general.alignment", Value::U64(32)), Err(ErrorKind::Corrupt));
        assert_eq!(with("", Value::U32(0)), Err(ErrorKind::Corrupt));
        assert_eq!(with(&"k".repeat(65_536), Value::U32(0)), Err(ErrorKind::Limit));
    }
}
