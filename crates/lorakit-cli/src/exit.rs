//! Exit codes; part of the command's contract.

use lorakit::ErrorKind;
use lorakit_tensor::ErrorKind as FileError;

/// The command did what it was asked.
pub const OK: u8 = 0;
/// The input is bad, or the answer is.
pub const BAD_INPUT: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// A file could not be read or written.
pub const IO: u8 = 3;
/// Interrupted.
pub const INTERRUPTED: u8 = 130;

/// The exit code of an error.
pub fn of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::File(FileError::Io | FileError::NoSpace | FileError::Appeared | FileError::Changed) => IO,
        ErrorKind::File(FileError::Exists | FileError::Occupied | FileError::SameFile) | ErrorKind::Usage => {
            USAGE
        }
        ErrorKind::Interrupted => INTERRUPTED,
        _ => BAD_INPUT,
    }
}
