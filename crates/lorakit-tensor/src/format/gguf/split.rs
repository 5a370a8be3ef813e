//! Models that are split into several GGUF files: what the header of a part says, and its name.
//!
//! Source: `tools/gguf-split` and `src/llama-model-loader.cpp` of llama.cpp.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::problem::Problem;
use super::value::Metadata;
use crate::Result;

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// What the header of a part says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Which part it is, from 1.
    pub(crate) number: u64,
    /// How many parts there are, two or more.
    pub(crate) count: u64,
    /// How many tensors all parts hold together, if it says so.
    pub(crate) tensors: Option<u64>,
}

/// Takes the keys of a part out of its metadata: they are about the file, not about the model, and would be wrong in
/// any file that is made from it. `None` for a file that is whole.
pub(crate) fn take_part(metadata: &mut Metadata) -> Result<Option<Part>> {
    let mut take = |key| match metadata.remove(key) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            None => Err(Problem::SplitKey { key, found: value.type_name(), value: value.to_string() }),
            number => Ok(number),
        },
    };
    let (number, count, tensors) = (take(NUMBER)?, take(COUNT)?, take(TENSORS)?);
    match (number, count) {
        (_, None | Some(0 | 1)) => Ok(None),
        (Some(number), Some(count)) if number < count => {
            Ok(Some(Part { number: number + 1, count, tensors }))
        }
        (number, Some(count)) => Err(Problem::SplitNumber { number, count }.into()),
    }
}

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
    use super::super::Value;
    use super::*;

    #[test]
    fn the_header_of_a_part_is_read_and_taken_out() {
        let part = |keys: &[(&str, Value)]| {
            let mut metadata = Metadata::default();
            metadata.set("general.architecture", Value::String("llama".into()));
            keys.iter().for_each(|(key, value)| metadata.set(key, value.clone()));
            let part = take_part(&mut metadata);
            assert!(part.is_err() || metadata.len() == 1);
            part.map_err(|e| e.to_string())
        };
        let (no, count, tensors) = ("split.no", "split.count", "split.tensors.count");
        assert_eq!(part(&[]), Ok(None));
        assert_eq!(part(&[(no, Value::U16(0)), (count, Value::U16(1)), (tensors, Value::I32(3))]), Ok(None));
        let second = Part { number: 2, count: 2, tensors: Some(3) };
        let keys = [(no, Value::U16(1)), (count, Value::U16(2)), (tensors, Value::I32(3))];
        assert_eq!(part(&keys), Ok(Some(second)));
        assert_eq!(part(&keys[..2]), Ok(Some(Part { tensors: None, ..second })));
        for (keys, message) in [
            (vec![(count, Value::U16(2))], "of 2 parts, and no `split.no`"),
            (vec![(no, Value::U16(2)), (count, Value::U16(2))], "`split.no` 2"),
            (vec![(count, Value::String("2".into()))], "`split.count` is 2 of type string"),
            (vec![(count, Value::I32(-2))], "`split.count` is -2 of type i32"),
        ] {
            let error = part(&keys).expect_err(message);
            assert!(error.contains(message), "{error}");
        }
    }

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
