//! Values that several commands take.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, PossibleValue, TypedValueParser};
use lorakit::{Choice, DType};

use super::listed::Listed;

/// An entry of a table of the library: its names are the possible values, and for a misspelt one the nearest is
/// suggested.
pub(super) fn choice<T: Choice>() -> impl TypedValueParser<Value = T> {
    let value = |choice: &T| PossibleValue::new(choice.name()).aliases(choice.aliases()).help(choice.about());
    one_of(T::all().iter().map(|choice| (value(choice), *choice)).collect())
}

/// A dtype, or `None` to keep the present one.
pub(crate) type DtypeOrKeep = Option<DType>;

/// The dtypes that tensors are computed as, each with its other names.
const FLOATS: &[(&str, &[&str], DType)] = &[
    ("f32", &["float32", "fp32"], DType::F32),
    ("f16", &["float16", "fp16"], DType::F16),
    ("bf16", &["bfloat16"], DType::BF16),
];

/// A float dtype.
pub(super) fn float() -> impl TypedValueParser<Value = DType> {
    one_of(floats().collect())
}

/// A float dtype, or `keep`.
pub(super) fn float_or_keep() -> impl TypedValueParser<Value = DtypeOrKeep> {
    one_of(kept().collect())
}

/// The quantised types of factors.
const BLOCKS: &[(&str, DType)] = &[("q8_0", DType::Q8_0), ("q4_0", DType::Q4_0)];

/// A float dtype, `keep`, or a quantised type: the one that llama.cpp's converter writes, and for adapters a smaller one.
pub(super) fn converted() -> impl TypedValueParser<Value = DtypeOrKeep> {
    let blocks = BLOCKS.iter().map(|(name, dtype)| (PossibleValue::new(*name), Some(*dtype)));
    one_of(kept().chain(blocks).collect())
}

/// How `reduce` stores factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Whichever dtypes lose least at a size, where there is a choice; else each as it is.
    Auto,
    /// Each as it is.
    Keep,
    /// All as this dtype.
    As(DType),
}

/// How `reduce` stores factors.
pub(super) fn stored() -> impl TypedValueParser<Value = Stored> {
    let own = [("auto", Stored::Auto), ("keep", Stored::Keep)];
    let own = own.map(|(name, stored)| (PossibleValue::new(name), stored));
    let floats = floats().map(|(value, dtype)| (value, Stored::As(dtype)));
    let blocks = BLOCKS.iter().map(|(name, dtype)| (PossibleValue::new(*name), Stored::As(*dtype)));
    one_of(own.into_iter().chain(floats).chain(blocks).collect())
}

fn kept() -> impl Iterator<Item = (PossibleValue, DtypeOrKeep)> {
    let floats = floats().map(|(value, dtype)| (value, Some(dtype)));
    [(PossibleValue::new("keep"), None)].into_iter().chain(floats)
}

fn floats() -> impl Iterator<Item = (PossibleValue, DType)> {
    FLOATS.iter().map(|(name, aliases, dtype)| (PossibleValue::new(*name).aliases(*aliases), *dtype))
}

/// One of `values`, in any case. Help pages and errors list them.
pub(super) fn one_of<T: Clone + Send + Sync + 'static>(
    values: Vec<(PossibleValue, T)>,
) -> impl TypedValueParser<Value = T> {
    Listed::new(values)
}

/// A rank, `16` or `rank=16`.
pub(super) fn rank(text: &str) -> Result<usize, String> {
    match text.strip_prefix("rank=").unwrap_or(text).parse() {
        Ok(n) if (1..=65536).contains(&n) => Ok(n),
        _ => Err("must be a whole number from 1 to 65536".into()),
    }
}

/// A share, above 0 and at most 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("must be above 0 and at most 1".into()),
    }
}

/// A number of threads; more than the cores of the largest machines is a typing mistake.
pub(super) fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n <= 1024 => Ok(n),
        _ => Err("must be a number from 1 to 1024, or 0 for one thread per core".into()),
    }
}

/// Whether the name is that of a GGUF file.
pub(crate) fn is_gguf_file(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
}

/// A switch that a variable sets. On a command line it has no value.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("must be 1 or 0 (or true, false, yes, no, on, off)".into()),
    }
}

/// How often a switch is given, or what a variable says of it.
pub(super) fn level(text: &str) -> Result<u8, String> {
    text.parse().or_else(|_| switch(text).map(u8::from))
}

/// Parses [`parse_weighted`]; file names are bytes and need not be UTF-8.
pub(super) fn weighted() -> impl TypedValueParser<Value = (PathBuf, f64)> {
    OsStringValueParser::new().try_map(parse_weighted)
}

/// `PATH=WEIGHT`, or a path alone. A path that exists is never cut.
fn parse_weighted(text: OsString) -> Result<(PathBuf, f64), String> {
    let whole = PathBuf::from(text);
    let bytes = whole.as_os_str().as_bytes();
    match bytes.iter().rposition(|&byte| byte == b'=') {
        Some(at) if !whole.exists() => {
            let weight = String::from_utf8_lossy(&bytes[at + 1..]);
            let weight: f64 = weight.parse().map_err(|_| format!("`{weight}` is not a number"))?;
            if !weight.is_finite() {
                return Err(format!("weight {weight} is not finite"));
            }
            Ok((PathBuf::from(OsStr::from_bytes(&bytes[..at])), weight))
        }
        _ => Ok((whole, 1.0)),
    }
}
