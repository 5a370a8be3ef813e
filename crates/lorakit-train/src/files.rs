//! Files of text that a user names: rows, settings, templates, schemas.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Result};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// Opens a file, or a pipe such as that of `<(zcat rows.jsonl.gz)`. A pipe to which nobody writes is empty; nobody waits
/// for a writer.
///
/// # Errors
/// If it cannot be opened.
pub fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    // From now on, reading waits for what a writer has not written yet.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

/// All bytes of a file: see [`open`].
///
/// # Errors
/// If it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a file: see [`open`].
///
/// # Errors
/// If it cannot be read, or is not UTF-8.
pub fn read_to_string(path: &Path) -> Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_pipe_without_a_writer_is_empty_and_one_with_a_slow_writer_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(read_to_string(&pipe).unwrap(), "");
        let mut writer = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            writer.write_all(b"row").unwrap();
        });
        let mut text = [0; 3];
        open(&pipe).unwrap().read_exact(&mut text).unwrap();
        thread.join().unwrap();
        assert_eq!(&text, b"row");
    }
}
