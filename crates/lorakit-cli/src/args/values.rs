//! Values that several commands take.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::{OsStringValueParser, TypedValueParser};
use lorakit::fit::MoeLayout;
use lorakit::lineage::Lineage;
use lorakit_tensor::DType;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DtypeChoice {
    Keep,
    #[value(aliases = ["float32", "fp32"])]
    F32,
    #[value(aliases = ["float16", "fp16"])]
    F16,
    #[value(alias = "bfloat16")]
    Bf16,
}

impl DtypeChoice {
    pub(crate) fn dtype(self) -> Option<DType> {
        match self {
            DtypeChoice::Keep => None,
            DtypeChoice::F32 => Some(DType::F32),
            DtypeChoice::F16 => Some(DType::F16),
            DtypeChoice::Bf16 => Some(DType::BF16),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum MoeChoice {
    Auto,
    RankMajor,
    ExpertMajor,
}

impl MoeChoice {
    pub(crate) fn layout(self) -> MoeLayout {
        match self {
            MoeChoice::Auto => MoeLayout::Auto,
            MoeChoice::RankMajor => MoeLayout::RankMajor,
            MoeChoice::ExpertMajor => MoeLayout::ExpertMajor,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LineageChoice {
    Auto,
    Always,
    Never,
}

impl LineageChoice {
    pub(crate) fn lineage(self) -> Lineage {
        match self {
            LineageChoice::Auto => Lineage::Auto,
            LineageChoice::Always => Lineage::Always,
            LineageChoice::Never => Lineage::Never,
        }
    }
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

/// A number of threads; more than the largest machines have cores is a slip of the hand.
pub(super) fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n <= 1024 => Ok(n),
        _ => Err("must be a number from 1 to 1024, or 0 for one thread per core".into()),
    }
}

/// Parses [`parse_weighted`]; names of files are bytes and need not be UTF-8.
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
