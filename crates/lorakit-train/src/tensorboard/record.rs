//! The frame of a record, as `tensorflow/core/lib/io/record_writer.h` describes it.

use crc::{CRC_32_ISCSI, Crc};

const CASTAGNOLI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// A record: the length of `data` in 8 bytes and their checksum, then `data` and its checksum, all little-endian.
pub(super) fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    for part in [length.as_slice(), data] {
        record.extend_from_slice(part);
        record.extend(masked(part).to_le_bytes());
    }
    record
}

/// The CRC-32C of bytes, rotated and moved: the checksum of data that hold checksums would otherwise be weak.
fn masked(bytes: &[u8]) -> u32 {
    CASTAGNOLI.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}
