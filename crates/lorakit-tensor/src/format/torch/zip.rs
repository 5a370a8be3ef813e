//! The zip container of `torch.save`: stored entries, found through the central directory.
//!
//! Only what Torch writes is read: one disk, no comment, no compression, no encryption. Zip64 is understood for
//! sizes and offsets, which Torch uses from the first byte on.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::problem::Problem;
use crate::checksum::Checksum;
use crate::{Result, Storage};

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END64: &[u8] = b"PK\x06\x06";
const LOCATOR64: &[u8] = b"PK\x06\x07";

const LOCAL_BYTES: usize = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: u64 = 22;
const END64_BYTES: u64 = 56;
const LOCATOR64_BYTES: u64 = 20;
pub(super) const MAX_DIRECTORY_BYTES: u64 = 64 << 20;

const ENCRYPTED: u16 = 1;
/// Sizes follow the data; the local header may hold zeros.
const HAS_DESCRIPTOR: u16 = 1 << 3;
/// A 32-bit field with this value defers to the zip64 extra field.
const DEFERRED: u64 = u32::MAX as u64;
const ZIP64_EXTRA: u16 = 1;

/// Where the bytes of an entry are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// An archive whose directory has been read.
#[derive(Debug)]
pub(super) struct Archive<'a> {
    storage: &'a Storage,
    entries: BTreeMap<String, Entry>,
    directory: Span,
}

/// What the central directory says about an entry.
#[derive(Debug)]
struct Entry {
    flags: u16,
    method: u16,
    crc: u32,
    sizes: [u64; 2],
    header: u64,
}

impl<'a> Archive<'a> {
    /// Reads the central directory.
    pub(super) fn open(storage: &'a Storage) -> Result<Self> {
        let (count, directory) = end_record(storage)?;
        if directory.len > MAX_DIRECTORY_BYTES {
            return Err(Problem::LongDirectory { len: directory.len }.into());
        }
        let bytes = storage.read(directory.offset, directory.len as usize)?;
        let mut entries = BTreeMap::new();
        let mut rest = &*bytes;
        while !rest.is_empty() {
            let number = entries.len() + 1;
            let (name, entry, after) = central(rest).ok_or(Problem::DirectoryEntry { number })?;
            rest = after;
            let name = std::str::from_utf8(name).map_err(|_| Problem::EntryName)?;
            if entries.insert(name.to_string(), entry).is_some() {
                return Err(Problem::RepeatedEntry { name: name.escape_debug().to_string() }.into());
            }
        }
        if entries.len() as u64 != count {
            return Err(Problem::EntryCount { announced: count, listed: entries.len() }.into());
        }
        Ok(Archive { storage, entries, directory })
    }

    /// The names of all entries, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Where the bytes of entry `name` are, or `None` if there is no such entry.
    ///
    /// The data begin where the *local* header says, so that header must tell the same story as the directory.
    pub(super) fn locate(&self, name: &str) -> Result<Option<Span>> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let escaped = || name.escape_debug().to_string();
        if entry.flags & ENCRYPTED != 0 {
            return Err(Problem::Encrypted { name: escaped() }.into());
        }
        if entry.method != 0 {
            return Err(Problem::Compressed { name: escaped() }.into());
        }
        let [compressed, len] = entry.sizes;
        let disagrees = || Problem::LocalHeader { name: escaped() };
        if compressed != len {
            return Err(disagrees().into());
        }
        let header = entry.header.checked_add(LOCAL_BYTES as u64).filter(|&end| end <= self.directory.offset);
        let fixed = header.map(|_| self.storage.read(entry.header, LOCAL_BYTES)).ok_or_else(disagrees)??;
        let (name_len, extra_len) = local(&fixed, entry).ok_or_else(disagrees)?;
        let variable = entry.header + LOCAL_BYTES as u64;
        let offset = variable + (name_len + extra_len) as u64;
        let end = offset.checked_add(len).filter(|&end| end <= self.directory.offset);
        end.ok_or_else(|| Problem::IntoDirectory { name: escaped() })?;
        let tail = self.storage.read(variable, name_len + extra_len)?;
        let (local_name, extra) = tail.split_at_checked(name_len).ok_or_else(disagrees)?;
        let sizes = [u32_at(&fixed, 18), u32_at(&fixed, 22)].map(Option::unwrap_or_default);
        if local_name != name.as_bytes() || !sizes_agree(sizes, extra, entry) {
            return Err(disagrees().into());
        }
        Ok(Some(Span { offset, len }))
    }

    /// The checksum of entry `name`, whose bytes are at `span`. There is none if the directory says 0: Torch writes
    /// that if `torch.serialization.set_crc32_options(False)` was called, and for tensors that are filled in later
    /// (`skip_data`). Torch itself does not look at sums.
    pub(super) fn checksum(&self, name: &str, span: Span) -> Option<Checksum> {
        let stated = self.entries.get(name)?.crc;
        let name = format!("zip entry `{}`", name.escape_debug());
        (stated != 0).then(|| Checksum::new(name, span.offset, span.len, stated))
    }

    /// The bytes of an entry of at most `limit` bytes, which must have the sum that the directory gives.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Option<Cow<'a, [u8]>>> {
        let Some(span) = self.locate(name)? else { return Ok(None) };
        if span.len > limit {
            let name = name.escape_debug().to_string();
            return Err(Problem::LongEntry { name, len: span.len, limit }.into());
        }
        if let Some(checksum) = self.checksum(name, span) {
            checksum.check(self.storage)?;
        }
        self.storage.read(span.offset, span.len as usize).map(Some)
    }
}

/// Entry count and extent of the central directory, which must end where the end records begin.
fn end_record(storage: &Storage) -> Result<(u64, Span)> {
    let mut end = storage.len().checked_sub(END_BYTES).ok_or(Problem::NoEnd)?;
    let record = storage.read(end, END_BYTES as usize)?;
    if !record.starts_with(END) {
        return Err(Problem::NoEnd.into());
    }
    let [disk, disk_of_directory, on_disk, count, comment] =
        [4, 6, 8, 10, 20].map(|at| u16_at(&record, at).unwrap_or(u16::MAX));
    let size = u32_at(&record, 12).ok_or(Problem::EndRecord)?;
    let offset = u32_at(&record, 16).ok_or(Problem::EndRecord)?;
    if disk != 0 || disk_of_directory != 0 || on_disk != count || comment != 0 {
        return Err(Problem::EndRecord.into());
    }
    let mut found = (u64::from(count), Span { offset, len: size });
    if let Some(locator_at) = end.checked_sub(LOCATOR64_BYTES)
        && let locator = storage.read(locator_at, LOCATOR64_BYTES as usize)?
        && locator.starts_with(LOCATOR64)
    {
        end = locator_at.checked_sub(END64_BYTES).ok_or(Problem::EndRecord)?;
        let record = storage.read(end, END64_BYTES as usize)?;
        let [count64, size64, offset64] = [32, 40, 48].map(|at| u64_at(&record, at).unwrap_or(u64::MAX));
        let same = |narrow: u64, limit: u64, wide: u64| narrow == limit || narrow == wide;
        let agrees = record.starts_with(END64)
            && u64_at(&locator, 8) == Some(end)
            && same(found.0, u64::from(u16::MAX), count64)
            && same(size, DEFERRED, size64)
            && same(offset, DEFERRED, offset64);
        if !agrees {
            return Err(Problem::EndRecord.into());
        }
        found = (count64, Span { offset: offset64, len: size64 });
    }
    let (_, Span { offset, len }) = found;
    if offset.checked_add(len) != Some(end) {
        return Err(Problem::DirectoryPlace { len, offset, end }.into());
    }
    Ok(found)
}

/// The first entry of a central directory: name, content, and the bytes after it.
fn central(bytes: &[u8]) -> Option<(&[u8], Entry, &[u8])> {
    let (fixed, rest) = bytes.split_at_checked(CENTRAL_BYTES)?;
    if !fixed.starts_with(CENTRAL) {
        return None;
    }
    let (name, rest) = rest.split_at_checked(usize::from(u16_at(fixed, 28)?))?;
    let (extra, rest) = rest.split_at_checked(usize::from(u16_at(fixed, 30)?))?;
    let (_comment, rest) = rest.split_at_checked(usize::from(u16_at(fixed, 32)?))?;
    let [len, compressed, header] =
        widen([u32_at(fixed, 24)?, u32_at(fixed, 20)?, u32_at(fixed, 42)?], extra)?;
    let entry = Entry {
        flags: u16_at(fixed, 8)?,
        method: u16_at(fixed, 10)?,
        crc: u32_at(fixed, 16)? as u32,
        sizes: [compressed, len],
        header,
    };
    Some((name, entry, rest))
}

/// Lengths of name and extra field of a local header, if flags and method are those of the directory.
fn local(fixed: &[u8], entry: &Entry) -> Option<(usize, usize)> {
    let agrees =
        fixed.starts_with(LOCAL) && u16_at(fixed, 6)? == entry.flags && u16_at(fixed, 8)? == entry.method;
    agrees.then_some((usize::from(u16_at(fixed, 26)?), usize::from(u16_at(fixed, 28)?)))
}

/// Whether the sizes of a local header are those of the directory, or left open for a descriptor.
fn sizes_agree(local: [u64; 2], extra: &[u8], entry: &Entry) -> bool {
    if entry.flags & HAS_DESCRIPTOR != 0 && local == [0, 0] {
        return true;
    }
    let [compressed, len] = local;
    widen([len, compressed], extra) == Some([entry.sizes[1], entry.sizes[0]])
}

/// Replaces deferred 32-bit fields by the values of the zip64 extra field, which holds just those, in this order.
fn widen<const N: usize>(fields: [u64; N], mut extra: &[u8]) -> Option<[u64; N]> {
    if !fields.contains(&DEFERRED) {
        return Some(fields);
    }
    while let (Some(id), Some(len)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let (body, rest) = extra[4..].split_at_checked(usize::from(len))?;
        if id == ZIP64_EXTRA {
            let mut wide = body.chunks_exact(8).map(|chunk| u64_at(chunk, 0));
            let mut result = fields;
            for field in result.iter_mut().filter(|field| **field == DEFERRED) {
                *field = wide.next()??;
            }
            return Some(result);
        }
        extra = rest;
    }
    None
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u32::from_le_bytes).map(u64::from)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn deferred_fields_come_from_the_zip64_extra_field() {
        let size = 6_000_000_000u64;
        let mut extra = vec![0x46, 0x42, 2, 0, 0, 0, 1, 0, 8, 0];
        extra.extend(size.to_le_bytes());
        assert_eq!(widen([7, DEFERRED, 9], &extra), Some([7, size, 9]));
        assert_eq!(widen([7, 8, 9], &[]), Some([7, 8, 9]));
        assert_eq!(widen([DEFERRED, DEFERRED], &extra), None);
        assert_eq!(widen([DEFERRED], &extra[..8]), None);
    }

    #[test]
    fn entries_beyond_four_gigabytes_are_located() {
        let big = 5u64 << 30;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big.bin");
        let file = std::fs::File::create(&path).unwrap();
        let name = b"a/data/0";

        let mut local = LOCAL.to_vec();
        local.extend([45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        local.extend([0xff; 8]);
        local.extend([name.len() as u8, 0, 20, 0]);
        local.extend(name);
        local.extend([1, 0, 16, 0]);
        local.extend([big.to_le_bytes(), big.to_le_bytes()].concat());
        let directory_at = local.len() as u64 + big;

        let mut tail = CENTRAL.to_vec();
        tail.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        tail.extend([0xff; 8]);
        tail.extend([name.len() as u8, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        tail.extend(name);
        tail.extend([1, 0, 16, 0]);
        tail.extend([big.to_le_bytes(), big.to_le_bytes()].concat());
        let directory_len = tail.len() as u64;
        let end64_at = directory_at + directory_len;
        tail.extend(END64);
        tail.extend([44u64.to_le_bytes(), [45, 0, 45, 0, 0, 0, 0, 0], [0; 8]].concat().split_at(20).0);
        tail.extend([1u64, 1, directory_len, directory_at].map(u64::to_le_bytes).concat());
        tail.extend(LOCATOR64);
        tail.extend([0; 4]);
        tail.extend(end64_at.to_le_bytes());
        tail.extend([1, 0, 0, 0]);
        tail.extend(END);
        tail.extend([0, 0, 0, 0, 1, 0, 1, 0]);
        tail.extend([0xff; 8]);
        tail.extend([0, 0]);

        // A hole stands for the data, so the file takes no room.
        use std::os::unix::fs::FileExt;
        file.write_all_at(&local, 0).unwrap();
        file.write_all_at(&tail, directory_at).unwrap();
        for mode in [crate::ReadMode::Mapped, crate::ReadMode::Positioned] {
            let storage = Storage::open(&path, mode).unwrap();
            let archive = Archive::open(&storage).unwrap();
            let span = archive.locate("a/data/0").unwrap().unwrap();
            assert_eq!(span, Span { offset: local.len() as u64, len: big });
        }
    }

    #[test]
    fn contradictions_between_the_three_records_are_refused() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/torch/module.bin");
        let whole = std::fs::read(path).unwrap();
        let end = whole.len();
        let locate = |bytes: &[u8]| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let storage = Storage::open(file.path(), crate::ReadMode::Mapped).unwrap();
            Archive::open(&storage)?.locate("module/data.pkl")
        };
        assert!(locate(&whole).unwrap().is_some());

        let directory = whole.windows(4).position(|w| w == CENTRAL).unwrap();
        for (what, at, kind) in [
            ("local magic", 0, ErrorKind::Corrupt),
            ("local flags", 7, ErrorKind::Corrupt),
            ("local method", 8, ErrorKind::Corrupt),
            ("local size", 18, ErrorKind::Corrupt),
            ("local name", 30, ErrorKind::Corrupt),
            ("encryption", directory + 8, ErrorKind::Unsupported),
            ("method", directory + 10, ErrorKind::Unsupported),
            ("size", directory + 20, ErrorKind::Corrupt),
            ("header offset", directory + 45, ErrorKind::Corrupt),
            ("zip64 count", end - 98 + 32, ErrorKind::Corrupt),
            ("zip64 offset", end - 98 + 48, ErrorKind::Corrupt),
            ("locator", end - 42 + 8, ErrorKind::Corrupt),
            ("count", end - 22 + 10, ErrorKind::Corrupt),
            ("comment", end - 2, ErrorKind::Corrupt),
        ] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let error = locate(&bytes).expect_err(what);
            assert_eq!(error.kind(), kind, "{what}: {error}");
        }
        assert_eq!(locate(&[&whole[..], b"!"].concat()).unwrap_err().kind(), ErrorKind::Truncated);
    }
}
