//! `REGEX=TYPE`: types that the user gives to tensors.

use std::fmt;

use fancy_regex::Regex;
use lorakit_tensor::DType;

use super::error::MixError;
use super::unwritten::nearest_types;
use crate::{codec, encoder};

/// A type for all tensors whose name holds a match of a pattern.
#[derive(Debug, Clone)]
pub struct TypeOverride {
    pattern: Regex,
    dtype: DType,
    text: String,
}

impl TypeOverride {
    /// Parses `REGEX=TYPE`. Case does not matter on either side; the last `=` separates.
    ///
    /// llama-quantize makes the pattern lower case instead, which also turns `\D` into `\d`.
    ///
    /// # Errors
    /// [`MixError::Form`], [`MixError::Pattern`] or [`MixError::Type`].
    pub fn parse(text: &str) -> Result<TypeOverride, MixError> {
        let (pattern, dtype) = text
            .rsplit_once('=')
            .filter(|(pattern, dtype)| !pattern.is_empty() && !dtype.is_empty())
            .ok_or_else(|| MixError::Form { text: text.to_string() })?;
        let dtype = writable(dtype)?;
        let pattern = Regex::new(&format!("(?i){pattern}"))
            .map_err(|e| MixError::Pattern { pattern: pattern.to_string(), problem: e.to_string() })?;
        Ok(TypeOverride { pattern, dtype, text: text.to_string() })
    }

    /// The type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Whether the override is meant for a tensor of that name. If matching gives up on a name, the pattern does not
    /// match it.
    pub fn matches(&self, name: &str) -> bool {
        self.pattern.is_match(name).unwrap_or(false)
    }
}

impl fmt::Display for TypeOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The type called `name`, in any case, if GGUF files can hold it and values can be encoded in it.
///
/// # Errors
/// [`MixError::Type`], [`MixError::ReadOnly`].
pub fn writable(name: &str) -> Result<DType, MixError> {
    let held = |dtype: &DType| *dtype != DType::F64 && dtype.ggml_id().is_some() && codec(*dtype).is_some();
    let dtype =
        DType::from_name(name).filter(held).ok_or_else(|| MixError::Type { name: name.to_string() })?;
    match encoder(dtype) {
        Some(_) => Ok(dtype),
        None => Err(MixError::ReadOnly { dtype, nearest: nearest_types(dtype) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_matches_anywhere_in_any_case() {
        let parsed = TypeOverride::parse(r"BLK\.\d+\.attn_(?=v)=q6_k").unwrap();
        assert_eq!(parsed.dtype(), DType::Q6_K);
        assert!(parsed.matches("blk.3.attn_v.weight"));
        assert!(!parsed.matches("blk.3.attn_k.weight"));
        assert_eq!(parsed.to_string(), r"BLK\.\d+\.attn_(?=v)=q6_k");
    }

    #[test]
    fn refuses_with_what_is_wrong() {
        for (text, message) in [
            ("attn_v", "`attn_v` is not of the form REGEX=TYPE"),
            ("=q8_0", "`=q8_0` is not of the form REGEX=TYPE"),
            ("attn_v=", "`attn_v=` is not of the form REGEX=TYPE"),
            ("(=q8_0", "`(` is not a regular expression"),
            ("attn_v=q4_k_m", "`q4_k_m` is not the name of a type"),
            ("attn_v=f64", "`f64` is not the name of a type"),
            ("attn_v=bool", "`bool` is not the name of a type"),
            ("attn_v=iq2_xxs", "IQ2_XXS can be read, but not written yet; the nearest types"),
            ("attn_v=q8_k", "`q8_k` is not the name of a type"),
        ] {
            let error = TypeOverride::parse(text).expect_err(text).to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
