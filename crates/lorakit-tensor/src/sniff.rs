//! What a file is, by its first bytes; names and extensions lie.

use crate::Error;
#[cfg(doc)]
use crate::ErrorKind;
use crate::file_problem::Problem;

/// The tensor formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A safetensors file.
    Safetensors,
    /// A GGUF file.
    Gguf,
    /// A Torch zip archive holding a pickle.
    Torch,
}

impl Format {
    /// The name used in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Safetensors => "safetensors",
            Format::Gguf => "GGUF",
            Format::Torch => "Torch",
        }
    }
}

/// The format of a file that begins with `head` (at least 9 bytes where the file has them).
pub(crate) fn format(head: &[u8], extension: &str) -> Result<Format, Error> {
    if let Some(error) = stranger(head) {
        return Err(error);
    }
    // The length of a 640-byte header, which comes first, looks like the start of a pickle.
    if head.get(4..9) == Some(b"\0\0\0\0{") {
        return Ok(Format::Safetensors);
    }
    if head.starts_with(b"GGUF") || head.starts_with(b"FUGG") {
        return Ok(Format::Gguf);
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(&[0x80, 0x02]) {
        return Ok(Format::Torch);
    }
    if head.get(8) == Some(&b'{') {
        return Ok(Format::Safetensors);
    }
    match extension {
        "safetensors" => Ok(Format::Safetensors),
        "gguf" if head.len() < 4 => Ok(Format::Gguf),
        "bin" | "pt" | "pth" | "ckpt" if head.len() < 4 => Ok(Format::Torch),
        _ if head.starts_with(b"ggla") || head.starts_with(b"algg") => Err(Problem::GgmlAdapter.into()),
        _ => Err(Problem::NoTensorFile.into()),
    }
}

/// An error for what is commonly found where a tensor or JSON file should be: a file that begins with `head` is a
/// git-lfs pointer ([`ErrorKind::LfsPointer`]) or a web page ([`ErrorKind::Html`]).
pub fn stranger(head: &[u8]) -> Option<Error> {
    if head.starts_with(b"version https://git-lfs") {
        return Some(Problem::LfsPointer.into());
    }
    let text = head.trim_ascii_start();
    let starts = |tag: &[u8]| text.len() >= tag.len() && text[..tag.len()].eq_ignore_ascii_case(tag);
    if starts(b"<!doctype") || starts(b"<html") || starts(b"<?xml") || starts(b"<head") {
        return Some(Problem::WebPage.into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_not_taken_for_a_pickle() {
        let header = |len: u64| [&len.to_le_bytes()[..], b"{"].concat();
        for len in [640, 0x0280 + 0x1_0000, 8] {
            assert_eq!(format(&header(len), "safetensors").unwrap(), Format::Safetensors, "{len}");
        }
        assert_eq!(format(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9", "pt").unwrap(), Format::Torch);
        assert_eq!(format(b"GGUF\x03\0\0\0{", "").unwrap(), Format::Gguf);
    }
}
