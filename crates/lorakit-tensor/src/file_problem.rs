//! What can be wrong with a file, whatever its format, and with the files of a checkpoint.

use std::path::PathBuf;

use crate::problems;

problems! {
    /// What can be wrong with a file, whatever its format, and with the files of a checkpoint.
    pub(crate) enum Problem {
        /// Nothing is at the path.
        Absent = NotFound, "does not exist";
        /// A symbolic link is at the path, and nothing is where it points.
        LinkToNothing { to: PathBuf } = NotFound, "is a link to `{}`, which does not exist", to.display();
        /// The system refused a call.
        Refused { doing: String } = Io, "cannot {doing} it";
        /// A call found the disk full, or a quota used up.
        DiskFull { doing: String } = NoSpace, "cannot {doing} it";
        /// A read came to the end of the file too early.
        EndOfFile { doing: String } = Truncated, "cannot {doing} it";
        /// This process has as many files open as it may.
        OpenFiles { doing: String, limit: Option<u64> } = TooManyFiles,
            "cannot {doing} it: as many files are open as the limit{} allows",
            limit.map_or(String::new(), |n| format!(" ({n})"));

        /// A folder, a pipe or another special file is where a file should be.
        Irregular { found: &'static str } = Unsupported, "is {found}, not a regular file";
        /// It has no bytes.
        Empty = Empty, "is empty (0 bytes)";
        /// It is larger than what is read whole.
        TooLarge { len: u64, limit: u64 } = Limit,
            "has {len} bytes; at most {limit} are read of files like it";
        /// Bytes beyond its end are needed.
        BeyondEnd { len: u64, needed: usize, offset: u64 } = Truncated,
            "ends at byte {len}, but must hold {needed} bytes at {offset}";
        /// The system does not map it.
        Unmappable = Mapping, "cannot be mapped";
        /// A page of it could not be read.
        MapFault { offset: usize } = Mapping, "cannot be read at byte {offset}, where it is mapped";

        /// Another file has its name now.
        Replaced = Changed, "was replaced by another file while it was read";
        /// It is the same file with another modification time or a greater length.
        Written = Changed, "was written to while it was read";
        /// It lost bytes at its end.
        Shorter { now: u64, before: u64 } = Changed,
            "became shorter while it was read: {now} bytes of {before}";
        /// The output is an input.
        OutputIsInput { input: PathBuf } = SameFile, "is both the output and the input `{}`", input.display();
        /// The output is a folder around an input.
        OutputHoldsInput { input: PathBuf } = SameFile,
            "holds the input `{}`, which would be deleted", input.display();

        /// It begins as a git-lfs pointer does.
        LfsPointer = LfsPointer, "is a git-lfs pointer of a few bytes, not the file itself";
        /// It begins as HTML or XML does.
        WebPage = Html, "is a web page, not the file it should be";
        /// It begins as the format before GGUF did.
        GgmlAdapter = Unsupported,
            "is a ggml adapter of 2023 (magic `ggla`), a format llama.cpp itself dropped in 2024";
        /// It begins as no known format does.
        NoTensorFile = UnknownFormat,
            "is not a tensor file: its first bytes are none of safetensors, GGUF or a Torch archive";
        /// The JSON parser stumbled.
        NotJson { reason: String } = Corrupt, "is not valid JSON: {reason}";
        /// It is JSON of another kind.
        NotAnObject { found: &'static str } = Corrupt,
            "holds {found}, not a JSON object (`{{...}}`)";
        /// The bytes of a part do not have the stored sum.
        Checksum { part: String, found: u32, stated: u32 } = Corrupt,
            "{part} has the CRC-32 {found:08x}, and the archive's directory says {stated:08x}: the bytes are not those \
             that were saved";

        /// A folder has no file that could be a checkpoint.
        NoCheckpoint = NotFound,
            "is a folder without a checkpoint: no `*.safetensors`, `*.gguf` or `*.bin` file in it";
        /// A folder has more than one file that could be the checkpoint.
        ManyCheckpoints { count: usize, suffix: &'static str, first: PathBuf } = Several,
            "holds {count} `{suffix}` files (`{}`, ...) and no index", first.display();
        /// A shard of the index is not there.
        MissingShard { index: String } = MissingShard, "is missing; `{index}` names it";
        /// A part of a split file is not there.
        MissingPart { sibling: String, count: usize } = MissingShard,
            "is missing; `{sibling}` is one of {count} parts";
        /// The header says that the file is a part, and its name says something else.
        PartName { number: u64, count: u64 } = PartName,
            "is part {number} of {count} of a model by its header (`split.no`, `split.count`), and its name says \
             otherwise; it must be `NAME-{number:05}-of-{count:05}.gguf`, beside parts with the same NAME";
        /// The name says that the file is a part, and the header that it is whole.
        PartByName { index: usize, count: usize } = Unsupported,
            "is part {index} of {count} by its name, and a whole model by its header (no `split.count` above 1); rename \
             it if it is whole";
        /// The parts do not hold as many tensors as their headers say.
        PartTensors { count: usize, found: u64, stated: u64 } = Corrupt,
            "the {count} parts hold {found} tensors, and their headers say {stated} (`split.tensors.count`)";
        /// Shards have different formats.
        MixedFormats { found: &'static str, others: &'static str } = Corrupt,
            "is a {found} file among {others} shards";
        /// Two shards hold the same tensor.
        InTwoShards = Corrupt, "is in two shards";
        /// The index names another shard than the one with the tensor.
        InOtherShard { stated: String, found: String } = Corrupt,
            "the index says it is in `{stated}`, but it is in `{found}`";
        /// The index names a tensor that no shard holds.
        InNoShard { stated: String } = Corrupt, "the index says it is in `{stated}`, but no shard holds it";
        /// A shard holds a tensor that the index leaves out.
        Unlisted = Corrupt, "is in a shard, but the index does not list it";
    }
}
