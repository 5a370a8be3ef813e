//! What can be wrong with a GGUF file.

use super::rules::{
    MAX_DIMENSION, MAX_DIMENSIONS, MAX_ENTRIES, MAX_HEADER_BYTES, MAX_KEY_BYTES, MAX_NAME_BYTES,
};
use super::writer::MIN_ALIGNMENT;
use crate::{DType, problems};

problems! {
    /// What can be wrong with a GGUF file. Keys are excerpts.
    pub(crate) enum Problem {
        /// The magic number is missing.
        Magic = UnknownFormat, "does not begin with `GGUF`";
        /// Numbers have their bytes in the other order.
        BigEndian = Unsupported, "is a big-endian file; only little-endian ones are read";
        /// The version before lengths had 64 bits.
        FirstVersion = Unsupported, "is GGUF version 1, which is no longer supported; it must be 2 or 3";
        /// A version that is not known.
        Version { version: u32 } = Unsupported, "is GGUF version {version}; it must be 2 or 3";
        /// More tensors or keys than are read.
        TooMany { count: u64, what: &'static str } = Limit,
            "announces {count} {what}; at most {MAX_ENTRIES} are read";
        /// A header beyond the limit.
        LongHeader { len: u64, position: u64 } = Limit,
            "the header asks for {len} bytes at byte {position}; at most {MAX_HEADER_BYTES} are read";
        /// The file ends inside the header.
        HeaderCutShort { len: u64, position: u64, file_len: u64 } = Truncated,
            "is cut short: the header needs {len} bytes at byte {position}, and the file has {file_len}";

        /// A key of no bytes.
        EmptyKey = Corrupt, "a metadata key is empty";
        /// A key of too many bytes.
        LongKey { key: String, len: usize } = Limit,
            "key {key:?} has {len} bytes; the format allows {MAX_KEY_BYTES}";
        /// Two values of one key.
        RepeatedKey { key: String } = Corrupt, "key {key:?} appears twice";
        /// A value of a type that the format does not know.
        ValueType { key: String, id: u32 } = Corrupt,
            "key {key:?} has value type {id}; the format knows 0 to 12";
        /// An array whose elements are arrays.
        NestedArray { key: String } = Unsupported, "key {key:?} holds an array of arrays";
        /// A boolean that is neither 0 nor 1.
        Bool { position: u64, found: u8 } = Corrupt,
            "the bool at byte {position} is {found}; it must be 0 or 1";
        /// A key, a value or a name that is not UTF-8.
        NotUtf8 { position: u64 } = Corrupt, "the string at byte {position} is not UTF-8";
        /// An alignment that the format does not allow.
        Alignment { found: u32 } = Corrupt,
            "`general.alignment` is {found}; it must be a power of two from 8 to 65536";
        /// An alignment that is not a u32.
        AlignmentType { found: &'static str } = Corrupt,
            "`general.alignment` is of type {found}; it must be u32";

        /// A name that is empty or not printable.
        Name = Corrupt, "a name must not be empty or hold control characters";
        /// A name of too many bytes.
        LongName { len: usize } = Limit, "the name has {len} bytes; GGUF allows {MAX_NAME_BYTES}";
        /// A shape of no dimensions, or of too many.
        Rank { rank: usize } = Unsupported, "has {rank} dimensions; GGUF allows 1 to {MAX_DIMENSIONS}";
        /// A dimension that is 0 or too large.
        Dimension { dimension: usize } = Corrupt,
            "has a dimension of {dimension}; GGUF needs 1 to {MAX_DIMENSION}";
        /// A dimension beyond the addresses of this machine.
        Unaddressable { dimension: u64 } = Limit,
            "has a dimension of {dimension}, more than this machine can address";
        /// A type that ggml once had.
        RemovedType { id: u32 } = Unsupported, "has ggml type {id}, a removed type that nothing decodes";
        /// A type that ggml does not have.
        UnknownType { id: u32 } = Unsupported, "has ggml type {id}, which is not a known type";
        /// Rows that do not divide into blocks.
        Rows { row: usize, dtype: DType } = Corrupt,
            "rows of {row} values do not fill {dtype} blocks of {}", dtype.block().elements;
        /// A tensor of more bytes than can be counted.
        HugeTensor { shape: Vec<usize> } = Corrupt, "shape {shape:?} has more than 2^64 bytes";
        /// Tensors of more bytes than can be counted.
        HugeFile = Corrupt, "the tensors together have more than 2^64 bytes";
        /// Two tensors of one name.
        Repeated = Corrupt, "appears twice";
        /// A tensor that does not follow the one before it.
        Misplaced { offset: u64, expected: u64 } = Corrupt,
            "begins at data byte {offset}, expected {expected}";

        /// A key about the parts of a model has a value that is no number of parts.
        SplitKey { key: &'static str, found: &'static str, value: String } = Corrupt,
            "`{key}` is {value} of type {found}; it must be a number of parts or tensors";
        /// A part that is none of the parts.
        SplitNumber { number: Option<u64>, count: u64 } = Corrupt,
            "is one of {count} parts, and {}", number.map_or("no `split.no` says which".to_string(),
            |number| format!("has `split.no` {number}; it must be below {count}"));
        /// Another file begins where this one ends.
        Joined { at: u64 } = Corrupt,
            "is two files in one: another GGUF file begins at byte {at}. Parts of a model must stay files of their own, \
             or be joined by `llama-gguf-split`";

        /// An alignment that llama.cpp does not survive.
        SmallAlignment { alignment: u64 } = Unsupported,
            "`general.alignment` is {alignment}; llama.cpp needs {MIN_ALIGNMENT} or more";
        /// More tensors or keys than would be read.
        TooManyWritten { count: u64, what: &'static str } = Limit,
            "would hold {count} {what}; at most {MAX_ENTRIES} are read";
        /// A header longer than would be read.
        LongHeaderWritten { len: u64 } = Limit,
            "the header would have {len} bytes; at most {MAX_HEADER_BYTES} are read";
    }
}
