//! Exit codes; part of the command's contract.

use lorakit::ErrorKind;
use lorakit_tensor::ErrorKind as FileError;

use crate::interrupt;

/// The command did what it was asked to do.
pub const OK: u8 = 0;
/// The input is bad, or the answer is.
pub const BAD_INPUT: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// A file could not be read or written, or changed while it was read.
pub const IO: u8 = 3;
/// Stopped by SIGHUP: the terminal was closed.
pub const HUNG_UP: u8 = 129;
/// Stopped by Ctrl-C (SIGINT), or by the program that runs the command as a library.
pub const INTERRUPTED: u8 = 130;
/// Stopped by SIGTERM.
pub const TERMINATED: u8 = 143;

/// The exit code of an error; for an interrupted command it says by which signal.
pub fn of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::File(
            FileError::Io
            | FileError::NoSpace
            | FileError::Appeared
            | FileError::Changed
            | FileError::Mapping
            | FileError::TooManyFiles,
        ) => IO,
        ErrorKind::File(FileError::Exists | FileError::Occupied | FileError::SameFile) | ErrorKind::Usage => {
            USAGE
        }
        ErrorKind::Interrupted => interrupt::exit_code(),
        _ => BAD_INPUT,
    }
}
