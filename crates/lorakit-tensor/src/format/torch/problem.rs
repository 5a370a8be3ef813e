//! What can be wrong with a Torch file: with its archive, its pickle, and the tensors that it describes.

use super::heap::{MAX_DEPTH, MAX_OBJECTS};
use super::pickle::{MAX_MARKS, MAX_OPCODES};
use super::tensor::MAX_RANK;
use super::zip::MAX_DIRECTORY_BYTES;
use crate::{DType, problems};

problems! {
    /// What can be wrong with an archive and its state dict. Names are escaped.
    pub(crate) enum Problem {
        /// A pickle without an archive around it.
        Legacy = Unsupported, "is a legacy Torch file (before 1.6); load it once in Torch and save it again";
        /// A zip archive of something else.
        ForeignArchive = Unsupported, "is a zip archive, but not one of `torch.save`: it has no `data.pkl`";
        /// A compiled module.
        TorchScript = Unsupported,
            "is a TorchScript program, not a state dict; save `model.state_dict()` instead";
        /// More than one pickle, or one in an inner folder.
        Ambiguous = Corrupt, "is ambiguous: `data.pkl` is not in the one top folder of the archive";
        /// Bytes in the other order.
        BigEndian = Unsupported, "was saved on a big-endian machine; only little-endian data are read";
        /// The pickle is listed but not there.
        NoPickle = Corrupt, "has no `data.pkl`";

        /// The last bytes are not an end record.
        NoEnd = Truncated, "does not end as a zip archive does: it is cut short, or bytes follow the archive";
        /// Fields of the end record make no sense.
        EndRecord = Corrupt, "the end record of its zip archive is malformed";
        /// The directory does not reach the end record.
        DirectoryPlace { len: u64, offset: u64, end: u64 } = Corrupt,
            "its zip directory is {len} bytes at {offset}, but the end record stands at {end}";
        /// A directory beyond the limit.
        LongDirectory { len: u64 } = Limit,
            "its zip directory has {len} bytes; {MAX_DIRECTORY_BYTES} are allowed";
        /// An entry of the directory makes no sense.
        DirectoryEntry { number: usize } = Corrupt, "entry {number} of its zip directory is malformed";
        /// An entry whose name is not UTF-8.
        EntryName = Corrupt, "a name in its zip directory is not UTF-8";
        /// Two entries of one name.
        RepeatedEntry { name: String } = Corrupt, "its zip directory lists `{name}` twice";
        /// The directory does not have the length that the end record says.
        EntryCount { announced: u64, listed: usize } = Corrupt,
            "its zip directory announces {announced} entries and lists {listed}";
        /// An entry with a password.
        Encrypted { name: String } = Unsupported, "zip entry `{name}` is encrypted";
        /// An entry that is compressed.
        Compressed { name: String } = Unsupported,
            "zip entry `{name}` is compressed, and `torch.save` stores it plainly";
        /// An entry that is described twice, and differently.
        LocalHeader { name: String } = Corrupt,
            "zip entry `{name}` has a local header that contradicts the directory";
        /// An entry without an end before the directory.
        IntoDirectory { name: String } = Corrupt, "zip entry `{name}` reaches into the zip directory";
        /// An entry beyond the limit.
        LongEntry { name: String, len: u64, limit: u64 } = Limit,
            "zip entry `{name}` has {len} bytes; {limit} are allowed";

        /// Something other than a dict was saved.
        NoDict = Unsupported, "holds no dict of tensors; save `model.state_dict()`";
        /// A dict of other things was saved.
        NoTensor = Unsupported, "holds no tensor at the top of its state dict";
        /// Tensors that would be lost.
        HiddenTensors { key: String } = Unsupported,
            "holds tensors inside `{key}`, beside its state dict; save the state dict alone";
        /// A tensor's name that is not a string.
        Key = Corrupt, "its state dict has a key that is not a string";
        /// Two tensors of one name.
        Repeated = Corrupt, "is in the state dict twice";
        /// A storage without bytes.
        NoStorage { key: String } = Corrupt, "its storage `{key}` is not in the archive";
        /// A storage with too many bytes or too few.
        StorageLen { key: String, elements: u64, len: u64 } = Corrupt,
            "its storage `{key}` should have {elements} elements, but the zip entry has {len} bytes";
        /// A tensor that reaches beyond its storage.
        Window { shape: Vec<usize>, dtype: DType, offset: u64, len: u64 } = Corrupt,
            "shape {shape:?} of {dtype} from element {offset} does not fit its storage of {len} bytes";
        /// A tensor whose values are not contiguous.
        View { strides: Vec<u64>, shape: Vec<usize> } = Unsupported,
            "is a view with strides {strides:?} of shape {shape:?}; only whole tensors and plain transposes can be \
             read: save it with `.contiguous()`";
        /// A tensor whose values differ from the stored ones.
        LazyView = Unsupported,
            "holds a conjugated or negated view; save it with `.resolve_conj().resolve_neg()`";
    }
}

problems! {
    /// What can be wrong with a pickle, and with what it says of tensors. Names are escaped.
    pub(crate) enum PickleProblem {
        /// A name that is not on the allow-list.
        Name { name: String } = UnsafePickle,
            "its pickle names `{name}`, which is not part of a state dict; nothing was executed";
        /// An instance of a class.
        Call { name: String } = UnsafePickle, "its pickle calls `{name}`";
        /// An opcode that calls.
        CallingOpcode { name: &'static str, at: usize } = UnsafePickle,
            "its pickle has opcode {name} at byte {at}, which calls; nothing was executed";
        /// An opcode that makes data, and has no use here.
        UnusedOpcode { name: &'static str, at: usize } = Unsupported,
            "its pickle has opcode {name} at byte {at}, which `torch.save` never writes";
        /// Opcodes that do not work out.
        Damaged { at: usize, damage: Damage } = Corrupt, "its pickle is damaged at byte {at}: it {damage}";

        /// Opcodes beyond the limit.
        Opcodes = Limit, "its pickle has more than {MAX_OPCODES} opcodes";
        /// Open marks beyond the limit.
        Marks = Limit, "its pickle nests marks more than {MAX_MARKS} deep";
        /// A stack beyond the limit.
        Stack = Limit, "its pickle stacks more than {MAX_OBJECTS} values";
        /// A memo beyond the limit.
        Memo = Limit, "its pickle remembers more than {MAX_OBJECTS} values";
        /// Objects beyond the limit.
        Objects = Limit, "its pickle makes more than {MAX_OBJECTS} objects";
        /// Nesting beyond the limit.
        Depth = Limit, "its pickle nests objects more than {MAX_DEPTH} deep";

        /// A persistent id of something else.
        NoStorage = Corrupt, "its pickle refers to something outside that is not a storage";
        /// A storage whose type is another name.
        StorageType = Corrupt, "its pickle has a storage whose type is not one of storages";
        /// A storage that could be any file of the archive.
        StorageKey = Corrupt, "its pickle has a storage whose key is not a number";
        /// A storage with a negative number of elements.
        StorageSize = Corrupt, "its pickle has a storage of negative size";
        /// Too many arguments or too few.
        ArgumentCount { count: usize } = Corrupt,
            "its pickle describes a tensor by {count} arguments, not 6 or 7";
        /// Arguments without a dtype in its place, or too many or too few.
        Arguments = Corrupt, "its pickle describes a tensor by arguments that do not fit";
        /// A tensor on something else.
        TensorStorage = Corrupt, "its pickle has a tensor without storage";
        /// A tensor that reads its storage as another type.
        TensorDType = Corrupt, "its pickle has a tensor whose dtype is not that of its storage";
        /// A tensor whose offset is not an integer.
        NoOffset = Corrupt, "its pickle has a tensor without offset";
        /// A tensor that begins before its storage.
        NegativeOffset = Corrupt, "its pickle has a tensor with negative offset";
        /// Sizes or strides that are not a tuple.
        NoSizes = Corrupt, "its pickle has a tensor without sizes or strides";
        /// Sizes or strides that are negative, or not integers.
        Number = Corrupt, "its pickle has a size or stride that is not a whole number";
        /// A size beyond what this machine can address.
        Size = Corrupt, "its pickle has a tensor with too large a size";
        /// Not as many sizes as strides.
        SizesAndStrides = Corrupt, "its pickle has a tensor with more sizes than strides, or fewer";
        /// Dimensions beyond the limit.
        Rank { rank: usize } = Limit, "its pickle has a tensor of {rank} dimensions, more than {MAX_RANK}";
    }
}

problems! {
    /// What a damaged pickle does. Names are those of the allow-list.
    pub(crate) enum Damage {
        /// A protocol before 2, or one that is not known.
        Protocol { found: u8 } = Corrupt, "is of protocol {found}; 2 to 5 are known";
        /// A byte that is not an opcode.
        Opcode { found: u8 } = Corrupt, "has byte {found:#04x} where an opcode should be";
        /// The end inside an opcode.
        Bytes { needed: usize, left: usize } = Corrupt, "needs {needed} bytes, and {left} are left";
        /// The end inside a line.
        EndlessName = Corrupt, "has a name without end";
        /// A name that is not UTF-8.
        Name = Corrupt, "has a name that is not UTF-8";
        /// A string that is not UTF-8.
        String = Corrupt, "has a string that is not UTF-8";
        /// A list was expected below items.
        NoList = Corrupt, "appends to something that is not a list";
        /// A dict was expected below items, and the items in pairs.
        NoItems = Corrupt, "sets items of something that is not a dict, or a key without a value";
        /// A dict was expected below attributes.
        Attributes = Corrupt, "gives attributes to something that is not a dict";
        /// A name on the stack is not two strings.
        StackedName = Corrupt, "names something without two strings";
        /// A call on the stack is not a name and a tuple.
        NoCall = Corrupt, "calls something that is not a name with arguments";
        /// A call has the wrong number or kind of arguments.
        Arguments { name: String } = Corrupt, "calls `{name}` with arguments that do not fit";
        /// Nothing is above the mark.
        EmptyStack = Corrupt, "needs a value, and the stack is empty";
        /// Too little is above the mark.
        ShortStack { count: usize } = Corrupt, "needs {count} values, and the stack has fewer";
        /// No mark is open.
        NoMark = Corrupt, "closes a mark that is not open";
        /// The memo has no such slot.
        Recalled { slot: u32 } = Corrupt, "recalls value {slot}, which was never stored";
        /// The end came before everything was used.
        LeftOver = Corrupt, "stops with values or bytes left over";
    }
}

#[cfg(test)]
impl crate::problem::Sample for Damage {
    fn sample(_: &str) -> Self {
        Damage::NoList
    }
}
