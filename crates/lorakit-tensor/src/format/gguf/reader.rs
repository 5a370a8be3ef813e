//! Header bytes to metadata and tensor places.

use super::cursor::Cursor;
use super::element::Element;
use super::problem::Problem;
use super::rules::{self, MAGIC, MAX_DIMENSIONS};
use super::value::{Metadata, Value};
#[cfg(doc)]
use crate::ErrorKind;
use crate::format::Stored;
use crate::format::problem::TensorProblem;
use crate::problem::excerpt;
use crate::{DType, Error, Result, Storage, TensorInfo};

/// A parsed header.
#[derive(Debug)]
pub struct Header {
    /// Version of the format, 2 or 3.
    pub version: u32,
    /// Every tensor begins at a multiple of this, counted from `data_start`.
    pub alignment: u64,
    /// Keys and values in file order.
    pub metadata: Metadata,
    /// Tensors in data order.
    pub tensors: Vec<Stored>,
    /// Offset of the first data byte in the file.
    pub data_start: u64,
}

/// Fewest bytes of an entry: a key of one byte, a value type, a value of one byte.
const MIN_ENTRY_BYTES: u64 = 8 + 1 + 4 + 1;
/// Fewest bytes of a tensor info: a name of one byte, one dimension.
const MIN_INFO_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// Reads and checks the header of a GGUF file.
///
/// # Errors
/// [`ErrorKind::Truncated`] if header or data are cut short, [`ErrorKind::Limit`] or [`ErrorKind::Corrupt`] for
/// a header that breaks the rules, [`ErrorKind::Unsupported`] for other versions, big-endian files and unknown
/// tensor types, [`ErrorKind::UnknownFormat`] if it is not a GGUF file.
pub fn read_header(storage: &Storage) -> Result<Header> {
    read(storage).map_err(|e| e.at(storage.path()))
}

fn read(storage: &Storage) -> Result<Header> {
    let mut cursor = Cursor::new(storage);
    let version = read_version(&mut cursor, storage.len())?;
    let tensor_count = cursor.count("tensors", MIN_INFO_BYTES)?;
    let key_count = cursor.count("metadata keys", MIN_ENTRY_BYTES)?;

    let metadata = read_metadata(&mut cursor, key_count)?;
    let alignment = rules::alignment(&metadata)?;
    let mut tensors = read_infos(&mut cursor, tensor_count, alignment)?;
    let data_start = cursor.position().next_multiple_of(alignment);

    let mut data_end = data_start;
    for Stored { info, offset, .. } in &mut tensors {
        let end = data_start.saturating_add(*offset).saturating_add(info.byte_len());
        if end > storage.len() {
            let problem = TensorProblem::CutShort { end, file_len: storage.len() };
            return Err(Error::from(problem).tensor(&info.name));
        }
        *offset += data_start;
        data_end = end;
    }
    refuse_joined(storage, data_end, alignment)?;
    Ok(Header { version, alignment, metadata, tensors, data_start })
}

/// Refuses files that were joined end to end, of which only the first would be read.
fn refuse_joined(storage: &Storage, data_end: u64, alignment: u64) -> Result<()> {
    for at in [data_end, data_end.next_multiple_of(alignment)] {
        if at.saturating_add(MAGIC.len() as u64) <= storage.len() && *storage.read(at, MAGIC.len())? == *MAGIC
        {
            return Err(Problem::Joined { at }.into());
        }
    }
    Ok(())
}

fn read_version(cursor: &mut Cursor<'_>, file_len: u64) -> Result<u32> {
    let magic = cursor.take(file_len.min(4))?;
    let swapped = magic == b"FUGG";
    if !MAGIC.starts_with(magic) && !swapped {
        return Err(Problem::Magic.into());
    }
    if magic.len() < MAGIC.len() {
        return Err(TensorProblem::Tiny { len: file_len, format: "GGUF", least: 24 }.into());
    }
    let version = cursor.u32()?;
    let problem = match version {
        // No version comes near 2^16: one whose low half is empty has its bytes in the other order.
        _ if swapped || (version != 0 && version % (1 << 16) == 0) => Problem::BigEndian,
        2 | 3 => return Ok(version),
        1 => Problem::FirstVersion,
        _ => Problem::Version { version },
    };
    Err(problem.into())
}

fn read_metadata(cursor: &mut Cursor<'_>, count: usize) -> Result<Metadata> {
    let mut metadata = Metadata::with_capacity(count);
    for _ in 0..count {
        let key = String::read(cursor)?;
        rules::check_key(&key)?;
        let value = Value::read(cursor, &key)?;
        metadata.push(key, value);
    }
    rules::unique_keys(&metadata)?;
    Ok(metadata)
}

/// Reads the tensor infos and proves that they follow one another. Offsets count from the first data byte.
fn read_infos(cursor: &mut Cursor<'_>, count: usize, alignment: u64) -> Result<Vec<Stored>> {
    let mut tensors = Vec::with_capacity(count);
    let mut expected = 0;
    for _ in 0..count {
        let info = read_info(cursor)?;
        let bytes = rules::check_tensor(&info)?;
        let offset = cursor.u64()?;
        if offset != expected {
            return Err(Error::from(Problem::Misplaced { offset, expected }).tensor(&info.name));
        }
        expected = rules::next_offset(offset, bytes, alignment).map_err(|e| e.tensor(&info.name))?;
        tensors.push(Stored { info, offset, transposed: false, checksum: None });
    }
    rules::unique_names(tensors.iter().map(|t| t.info.name.as_str()))?;
    Ok(tensors)
}

fn read_info(cursor: &mut Cursor<'_>) -> Result<TensorInfo> {
    let name = String::read(cursor)?;
    let rank = cursor.u32()? as usize;
    if rank > MAX_DIMENSIONS {
        return Err(Error::from(Problem::Rank { rank }).tensor(&excerpt(&name)));
    }
    let mut shape = vec![0; rank];
    for slot in shape.iter_mut().rev() {
        let dimension = cursor.u64()?;
        *slot = usize::try_from(dimension).map_err(|e| {
            Error::from(Problem::Unaddressable { dimension }).tensor(&excerpt(&name)).caused_by(e)
        })?;
    }
    let id = cursor.u32()?;
    let dtype = DType::from_ggml_id(id).ok_or_else(|| {
        let problem = match id {
            4 | 5 | 31..=33 | 36..=38 => Problem::RemovedType { id },
            _ => Problem::UnknownType { id },
        };
        Error::from(problem).tensor(&excerpt(&name))
    })?;
    Ok(TensorInfo { name, dtype, shape })
}

#[cfg(test)]
mod tests {
    use super::super::tests::header_of;
    use super::*;
    use crate::ErrorKind;

    fn string(text: &[u8]) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes(), text].concat()
    }

    fn entry(key: &str, value_type: u32, value: &[u8]) -> Vec<u8> {
        [&string(key.as_bytes()), &value_type.to_le_bytes()[..], value].concat()
    }

    fn alignment(alignment: u32) -> Vec<u8> {
        entry("general.alignment", 4, &alignment.to_le_bytes())
    }

    fn array(element_type: u32, count: u64) -> Vec<u8> {
        [&element_type.to_le_bytes()[..], &count.to_le_bytes()].concat()
    }

    /// `dims` are innermost first, as in the file.
    fn info(name: &str, dims: &[u64], ggml_type: u32, offset: u64) -> Vec<u8> {
        let dims: Vec<u8> = [dims.len() as u64].iter().chain(dims).flat_map(|d| d.to_le_bytes()).collect();
        // The count of dimensions is a u32.
        [&string(name.as_bytes()), &dims[..4], &dims[8..], &ggml_type.to_le_bytes(), &offset.to_le_bytes()]
            .concat()
    }

    /// A file with 256 bytes of data.
    fn file(version: u32, keys: &[Vec<u8>], infos: &[Vec<u8>]) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.extend(version.to_le_bytes());
        file.extend((infos.len() as u64).to_le_bytes());
        file.extend((keys.len() as u64).to_le_bytes());
        file.extend(keys.concat());
        file.extend(infos.concat());
        file.resize(file.len().next_multiple_of(32) + 256, 0);
        file
    }

    #[track_caller]
    fn refused(file: &[u8], kind: ErrorKind, message: &str) {
        let error = header_of(file).expect_err(message);
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.path().is_some());
    }

    #[test]
    fn reads_versions_2_and_3_and_reverses_dimensions() {
        for version in [2, 3] {
            let header = header_of(&file(version, &[alignment(64)], &[info("w", &[3, 4, 5], 0, 0)])).unwrap();
            assert_eq!((header.version, header.alignment), (version, 64));
            assert_eq!(header.tensors[0].info.shape, [5, 4, 3]);
            assert_eq!((header.data_start, header.tensors[0].offset), (128, 128));
        }
    }

    #[test]
    fn refuses_strangers_and_other_versions() {
        refused(b"GGML and more", ErrorKind::UnknownFormat, "does not begin with `GGUF`");
        refused(&file(1, &[], &[]), ErrorKind::Unsupported, "version 1, which is no longer supported");
        refused(&file(0, &[], &[]), ErrorKind::Unsupported, "version 0");
        refused(&file(4, &[], &[]), ErrorKind::Unsupported, "version 4");
        refused(&file(3u32.swap_bytes(), &[], &[]), ErrorKind::Unsupported, "big-endian");
        refused(b"FUGG\0\0\0\x03", ErrorKind::Unsupported, "big-endian");
    }

    #[test]
    fn refuses_counts_that_the_file_cannot_hold() {
        let mut many = file(3, &[], &[]);
        many[8] = 255;
        refused(&many, ErrorKind::Truncated, "the header needs 8415 bytes at byte 16");
        many[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        refused(&many, ErrorKind::Limit, "announces 18446744073709551615 tensors");
        many[8..24].copy_from_slice(&[[0; 8], u64::MAX.to_le_bytes()].concat());
        refused(&many, ErrorKind::Limit, "announces 18446744073709551615 metadata keys");

        let key = |value_type, value: &[u8]| file(3, &[entry("k", value_type, value)], &[]);
        refused(&key(8, &1000u64.to_le_bytes()), ErrorKind::Truncated, "needs 1000 bytes");
        refused(&key(8, &u64::MAX.to_le_bytes()), ErrorKind::Limit, "asks for 18446744073709551615 bytes");
        refused(&key(9, &array(8, 100)), ErrorKind::Truncated, "needs 800 bytes");
        refused(&key(9, &array(12, 100)), ErrorKind::Truncated, "needs 800 bytes");
        refused(&key(9, &array(12, 1 << 61)), ErrorKind::Limit, "asks for");
    }

    #[test]
    fn refuses_bad_metadata() {
        let key = |value_type, value: &[u8]| file(3, &[entry("k", value_type, value)], &[]);
        refused(&key(13, &[]), ErrorKind::Corrupt, "key \"k\" has value type 13");
        refused(&key(9, &array(13, 1)), ErrorKind::Corrupt, "key \"k\" has value type 13");
        refused(&key(9, &array(9, 0)), ErrorKind::Unsupported, "array of arrays");
        refused(&key(7, &[2]), ErrorKind::Corrupt, "the bool at byte 37 is 2");
        refused(&key(8, &string(b"\xff")), ErrorKind::Corrupt, "the string at byte 37 is not UTF-8");
        let twice = [entry("k", 0, &[1]), entry("k", 0, &[1])];
        refused(&file(3, &twice, &[]), ErrorKind::Corrupt, "key \"k\" appears twice");
        refused(&file(3, &[entry("", 0, &[1])], &[]), ErrorKind::Corrupt, "key is empty");
        let long = "k".repeat(65_536);
        refused(&file(3, &[entry(&long, 0, &[1])], &[]), ErrorKind::Limit, "has 65536 bytes");
    }

    #[test]
    fn refuses_bad_alignments() {
        for bad in [0, 1, 4, 24, 1 << 17, 1 << 31] {
            let message = format!("is {bad}; it must be a power of two from 8 to 65536");
            refused(&file(3, &[alignment(bad)], &[]), ErrorKind::Corrupt, &message);
        }
        let signed = entry("general.alignment", 5, &32u32.to_le_bytes());
        refused(&file(3, &[signed], &[]), ErrorKind::Corrupt, "is of type i32; it must be u32");
    }

    #[test]
    fn refuses_bad_tensors() {
        let one = |name: &str, dims: &[u64], id| file(3, &[], &[info(name, dims, id, 0)]);
        let (corrupt, unsupported) = (ErrorKind::Corrupt, ErrorKind::Unsupported);
        assert!(header_of(&one(&"n".repeat(63), &[1], 0)).is_ok());
        refused(&one(&"n".repeat(64), &[1], 0), ErrorKind::Limit, "the name has 64 bytes");
        refused(&one("", &[1], 0), corrupt, "must not be empty");
        refused(&one("a\0b", &[1], 0), corrupt, "control characters");
        refused(&one("w", &[], 0), unsupported, "tensor `w`: has 0 dimensions");
        refused(&one("w", &[1; 5], 0), unsupported, "tensor `w`: has 5 dimensions");
        refused(&one("w", &[2, 0], 0), corrupt, "has a dimension of 0");
        refused(&one("w", &[(1 << 40) + 1], 0), corrupt, "has a dimension of 1099511627777");
        refused(&one("w", &[i64::MAX as u64, 2], 0), corrupt, "has a dimension of");
        refused(&one("w", &[1 << 40, 1 << 40], 0), corrupt, "more than 2^64 bytes");
        refused(&one("w", &[33, 32], 2), corrupt, "rows of 33 values do not fill Q4_0 blocks of 32");
        for removed in [4, 5, 31, 32, 33, 36, 37, 38] {
            let message = format!("tensor `w`: has ggml type {removed}, a removed type");
            refused(&one("w", &[32], removed), unsupported, &message);
        }
        refused(&one("w", &[32], 77), unsupported, "tensor `w`: has ggml type 77, which is not a known");
        let message = "tensor `w`: is cut short: this tensor ends at byte 324, and the file has 320";
        refused(&one("w", &[65], 0), ErrorKind::Truncated, message);
    }

    #[test]
    fn refuses_a_second_file_behind_the_first() {
        let tail = |bytes: &[u8]| [file(3, &[], &[info("w", &[62], 0, 0)]), bytes.to_vec()].concat();
        assert!(header_of(&tail(b"GG")).is_ok());
        // The file has room for 256 bytes of data, and the tensor takes 248.
        let mut unpadded = tail(b"");
        let end = unpadded.len() - 8;
        unpadded.truncate(end);
        unpadded.extend(file(3, &[], &[]));
        for joined in [unpadded, tail(&file(3, &[], &[]))] {
            refused(&joined, ErrorKind::Corrupt, "another GGUF file begins at byte");
        }
    }

    #[test]
    fn refuses_tensors_that_are_not_one_after_the_other() {
        let two = |offset| file(3, &[], &[info("a", &[1], 0, 0), info("b", &[1], 0, offset)]);
        assert!(header_of(&two(32)).is_ok());
        for bad in [0, 4, 64, u64::MAX] {
            let message = format!("tensor `b`: begins at data byte {bad}, expected 32");
            refused(&two(bad), ErrorKind::Corrupt, &message);
        }
        let twice = [info("a", &[1], 0, 0), info("a", &[1], 0, 32)];
        refused(&file(3, &[], &twice), ErrorKind::Corrupt, "tensor `a`: appears twice");
        let huge = |name, offset| info(name, &[1 << 40, 1 << 20], 28, offset);
        let overflow = [huge("a", 0), huge("b", 1 << 63)];
        refused(&file(3, &[], &overflow), ErrorKind::Corrupt, "together have more than 2^64 bytes");
    }
}
