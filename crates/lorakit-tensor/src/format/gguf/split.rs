//! File names of models that are split into several GGUF files.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What the name of a part says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitName {
    /// The name before the numbers.
    pub stem: OsString,
    /// Which part this is, from 1.
    pub index: usize,
    /// How many parts there are.
    pub count: usize,
}

/// The numbers in `{stem}-{index:05}-of-{count:05}.gguf`, or `None` if `file_name` is not exactly of that form.
pub fn parse_split_name(file_name: &OsStr) -> Option<SplitName> {
    let mut parts = file_name.as_bytes().rsplitn(4, |&byte| byte == b'-');
    let (count, of, index, stem) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<usize>().ok();
    let (index, count) = (number(index)?, number(count.strip_suffix(b".gguf")?)?);
    let stem = OsStr::from_bytes(stem);
    let canonical =
        of == b"of" && (1..=count).contains(&index) && split_name(stem, index, count) == file_name;
    canonical.then(|| SplitName { stem: stem.to_os_string(), index, count })
}

/// The name of part `index` (from 1) of `count`.
pub fn split_name(stem: &OsStr, index: usize, count: usize) -> OsString {
    let mut name = stem.to_os_string();
    name.push(format!("-{index:05}-of-{count:05}.gguf"));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (stem, index, count) in [("model", 1, 1), ("a-00001-of-00002", 2, 7), ("big", 99_999, 100_000)] {
            let name = split_name(OsStr::new(stem), index, count);
            assert_eq!(parse_split_name(&name), Some(SplitName { stem: stem.into(), index, count }));
        }
        let stem = OsStr::from_bytes(b"m\xff");
        let name = split_name(stem, 1, 2);
        assert_eq!(name.as_bytes(), b"m\xff-00001-of-00002.gguf");
        assert_eq!(parse_split_name(&name), Some(SplitName { stem: stem.into(), index: 1, count: 2 }));
    }

    #[test]
    fn other_names_are_not_splits() {
        for name in [
            "model.gguf",
            "model-00001-of-00002.safetensors",
            "model-1-of-2.gguf",
            "model-00000-of-00002.gguf",
            "model-00003-of-00002.gguf",
            "model-+0001-of-00002.gguf",
            "model-00001-of-99999999999999999999999.gguf",
            "00001-of-00002.gguf",
        ] {
            assert_eq!(parse_split_name(OsStr::new(name)), None, "{name}");
        }
    }
}
