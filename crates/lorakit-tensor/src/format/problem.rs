//! What can be wrong with tensors in any format, and with safetensors files.

use super::safetensors::{MAX_HEADER_BYTES, MAX_RANK, MAX_TENSORS};
use crate::{DType, problems};

problems! {
    /// What can be wrong with tensors in more than one format.
    pub(crate) enum TensorProblem {
        /// The file has fewer bytes than an empty one of the format.
        Tiny { len: u64, format: &'static str, least: u64 } = Truncated,
            "is cut short: {len} bytes, and the smallest {format} file has {least}";
        /// The bytes of a tensor reach beyond the end of the file.
        CutShort { end: u64, file_len: u64 } = Truncated,
            "is cut short: this tensor ends at byte {end}, and the file has {file_len}";
        /// A name is empty, too long or not printable.
        Name { limit: usize } = Corrupt, "a name must have 1 to {limit} bytes and no control characters";
        /// The format has no such dtype.
        Unstorable { dtype: DType, format: &'static str } = Unsupported,
            "{dtype} cannot be stored in a {format} file";
    }
}

problems! {
    /// What can be wrong with a safetensors file, and with an index of shards.
    pub(crate) enum Problem {
        /// The length before the header is beyond the limit.
        LongHeader { len: u64 } = Limit,
            "announces a header of {len} bytes; the format allows {MAX_HEADER_BYTES}";
        /// The file ends inside the header.
        HeaderCutShort { len: u64, left: u64 } = Truncated,
            "is cut short: its header needs {len} bytes, and {left} follow";
        /// The header does not begin as JSON does.
        NoBrace = Corrupt, "the header does not begin with `{{`";
        /// The header is not JSON, or breaks a rule about its content.
        Header { reason: String } = Corrupt, "the header is not valid: {reason}";

        /// A dtype that the specification does not list.
        DType { name: String } = Unsupported, "has dtype `{name}`, which is not in the specification";
        /// A shape of too many dimensions.
        Rank { rank: usize } = Limit, "has {rank} dimensions, more than {MAX_RANK}";
        /// A dimension beyond what this machine can address.
        Dimension = Corrupt, "a dimension is too large";
        /// A number of values beyond what is read.
        Shape { shape: Vec<usize> } = Limit, "has the shape {shape:?}, whose sizes are beyond what is read";
        /// Values that do not fill whole blocks, or more bytes than can be counted.
        Blocks = Corrupt, "the shape does not fit its dtype";
        /// Offsets that do not span the length of the tensor.
        Offsets { shape: Vec<usize>, dtype: DType, needed: u64, begin: u64, end: u64 } = Corrupt,
            "shape {shape:?} of {dtype} needs {needed} bytes, but the header gives it bytes {begin} to {end}";
        /// A tensor begins inside another.
        Overlap { begin: u64, expected: u64 } = Corrupt,
            "overlaps the tensor before it: begins at data byte {begin}, expected {expected}";
        /// Bytes before a tensor belong to no tensor.
        Hole { begin: u64, expected: u64 } = Corrupt,
            "leaves a hole before it: begins at data byte {begin}, expected {expected}";
        /// Bytes after the last tensor.
        Trailing { extra: u64 } = Corrupt,
            "{extra} bytes follow the last tensor, which no header entry explains";

        /// More tensors than a file may hold.
        TooMany { count: usize } = Limit, "would hold {count} tensors; a file holds {MAX_TENSORS} at most";
        /// Two tensors of one name.
        Repeated = Corrupt, "would be written twice";
        /// A header that readers would refuse.
        LongHeaderWritten { len: usize } = Limit,
            "the header would have {len} bytes; the format allows {MAX_HEADER_BYTES}";

        /// An index without its map.
        NoWeightMap = Corrupt, "has no `weight_map` object";
        /// The index gives something other than a string as the file of a tensor.
        NoShardName = Corrupt, "the weight map gives no file name";
        /// The index could lead out of its folder.
        ShardName { name: String } = UnsafePath,
            "the weight map points to `{name}`, which is not a plain file name";
    }
}
