//! Pickle opcodes: those that `torch.save` emits, and the names of those that are refused.

pub(super) const MARK: u8 = b'(';
pub(super) const STOP: u8 = b'.';
pub(super) const PROTO: u8 = 0x80;
pub(super) const FRAME: u8 = 0x95;

pub(super) const NONE: u8 = b'N';
pub(super) const NEWTRUE: u8 = 0x88;
pub(super) const NEWFALSE: u8 = 0x89;
pub(super) const BININT: u8 = b'J';
pub(super) const BININT1: u8 = b'K';
pub(super) const BININT2: u8 = b'M';
pub(super) const LONG1: u8 = 0x8a;
pub(super) const BINFLOAT: u8 = b'G';
pub(super) const BINUNICODE: u8 = b'X';
pub(super) const SHORT_BINUNICODE: u8 = 0x8c;

pub(super) const EMPTY_TUPLE: u8 = b')';
pub(super) const TUPLE: u8 = b't';
pub(super) const TUPLE1: u8 = 0x85;
pub(super) const TUPLE2: u8 = 0x86;
pub(super) const TUPLE3: u8 = 0x87;
pub(super) const EMPTY_LIST: u8 = b']';
pub(super) const APPEND: u8 = b'a';
pub(super) const APPENDS: u8 = b'e';
pub(super) const EMPTY_DICT: u8 = b'}';
pub(super) const SETITEM: u8 = b's';
pub(super) const SETITEMS: u8 = b'u';

pub(super) const BINPUT: u8 = b'q';
pub(super) const LONG_BINPUT: u8 = b'r';
pub(super) const MEMOIZE: u8 = 0x94;
pub(super) const BINGET: u8 = b'h';
pub(super) const LONG_BINGET: u8 = b'j';

pub(super) const GLOBAL: u8 = b'c';
pub(super) const STACK_GLOBAL: u8 = 0x93;
pub(super) const INST: u8 = b'i';
pub(super) const BINPERSID: u8 = b'Q';
pub(super) const REDUCE: u8 = b'R';
pub(super) const BUILD: u8 = b'b';

/// An opcode that is never interpreted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It would make an object by calling something.
    Calls(&'static str),
    /// It makes data, but `torch.save` has no use for it.
    Unused(&'static str),
}

/// The name of a pickle opcode that is not listed above.
pub(super) fn refused(code: u8) -> Option<Refused> {
    use Refused::{Calls, Unused};
    Some(match code {
        b'o' => Calls("OBJ"),
        b'P' => Calls("PERSID"),
        0x81 => Calls("NEWOBJ"),
        0x92 => Calls("NEWOBJ_EX"),
        0x82 => Calls("EXT1"),
        0x83 => Calls("EXT2"),
        0x84 => Calls("EXT4"),
        b'0' => Unused("POP"),
        b'1' => Unused("POP_MARK"),
        b'2' => Unused("DUP"),
        b'F' => Unused("FLOAT"),
        b'I' => Unused("INT"),
        b'L' => Unused("LONG"),
        b'S' => Unused("STRING"),
        b'T' => Unused("BINSTRING"),
        b'U' => Unused("SHORT_BINSTRING"),
        b'V' => Unused("UNICODE"),
        b'B' => Unused("BINBYTES"),
        b'C' => Unused("SHORT_BINBYTES"),
        b'd' => Unused("DICT"),
        b'l' => Unused("LIST"),
        b'g' => Unused("GET"),
        b'p' => Unused("PUT"),
        0x8b => Unused("LONG4"),
        0x8d => Unused("BINUNICODE8"),
        0x8e => Unused("BINBYTES8"),
        0x8f => Unused("EMPTY_SET"),
        0x90 => Unused("ADDITEMS"),
        0x91 => Unused("FROZENSET"),
        0x96 => Unused("BYTEARRAY8"),
        0x97 => Unused("NEXT_BUFFER"),
        0x98 => Unused("READONLY_BUFFER"),
        _ => return None,
    })
}
