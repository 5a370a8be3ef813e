//! The JSON that describes a 4-bit weight.

use std::fmt::Write;

use lorakit_tensor::{DType, Result, TensorInfo, json};

use super::problem::Problem;
use super::repr::{REPR_MAX, repr};
use super::{BLOCK_SIZES, FourBit, double_quant};

/// What `P.quant_state.bitsandbytes__*` says about a weight.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantState {
    /// The type of the codes.
    pub quant_type: FourBit,
    /// Values of one block: one of [`BLOCK_SIZES`].
    pub block_size: usize,
    /// The dtype of the weight before packing and after unpacking: `F32`, `F16` or `BF16`.
    pub dtype: DType,
    /// Dimensions of the weight, outermost first.
    pub shape: Vec<usize>,
    /// Set if the scales are quantised themselves.
    pub nested: Option<Nested>,
}

/// How scales are quantised: `F32` scales of blocks of [`double_quant::BLOCK`], after subtracting an offset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nested {
    /// The mean of the scales.
    pub offset: f32,
}

const DTYPES: [(DType, &str); 3] =
    [(DType::BF16, "bfloat16"), (DType::F16, "float16"), (DType::F32, "float32")];
const KEYS: [&str; 4] = ["quant_type", "blocksize", "dtype", "shape"];
const NESTED_KEYS: [&str; 3] = ["nested_blocksize", "nested_dtype", "nested_offset"];

impl QuantState {
    /// Values of the weight.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&d| d as u64).product()
    }

    /// The text that Python's `json.dumps` writes.
    ///
    /// # Panics
    /// If the dtype is not `F32`, `F16` or `BF16`.
    pub fn to_json(&self) -> String {
        self.write(self.nested.map(|nested| repr(f64::from(nested.offset))))
    }

    /// The most bytes that [`Self::to_json`] takes for any offset, to be reserved before the offset is known. JSON
    /// may be padded with spaces.
    ///
    /// # Panics
    /// As [`Self::to_json`].
    pub fn json_len_max(&self) -> usize {
        self.write(self.nested.map(|_| "0".repeat(REPR_MAX))).len()
    }

    fn write(&self, offset: Option<String>) -> String {
        let dtype = DTYPES.iter().find(|(dtype, _)| *dtype == self.dtype);
        let (_, dtype) = dtype.unwrap_or_else(|| panic!("a 4-bit weight cannot have been {}", self.dtype));
        let shape: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        let (quant_type, block_size, shape) = (self.quant_type.name(), self.block_size, shape.join(", "));
        let mut json = format!(
            r#"{{"quant_type": "{quant_type}", "blocksize": {block_size}, "dtype": "{dtype}", "shape": [{shape}]"#
        );
        if let Some(offset) = offset {
            let block = double_quant::BLOCK;
            let written = write!(
                json,
                r#", "nested_blocksize": {block}, "nested_dtype": "float32", "nested_offset": {offset}"#
            );
            debug_assert!(written.is_ok(), "a string takes any text");
        }
        json.push('}');
        json
    }

    /// Reads the text. As in bitsandbytes, missing and unknown keys are refused.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](lorakit_tensor::ErrorKind::Corrupt) for text that is not this JSON;
    /// [`ErrorKind::Unsupported`](lorakit_tensor::ErrorKind::Unsupported) for a type, a dtype or a block size that
    /// bitsandbytes does not have.
    pub fn parse(text: &[u8]) -> Result<QuantState> {
        let json = json::parse(text)?;
        let map = json.as_object().ok_or(Problem::NotAnObject)?;
        if let Some(key) =
            map.keys().find(|k| !KEYS.contains(&k.as_str()) && !NESTED_KEYS.contains(&k.as_str()))
        {
            return Err(Problem::UnknownKey { key: key.clone() }.into());
        }
        let nested = NESTED_KEYS.iter().any(|key| map.contains_key(*key));
        let needed = KEYS.iter().chain(if nested { NESTED_KEYS.as_slice() } else { &[] });
        if let Some(key) = needed.into_iter().find(|key| !map.contains_key(**key)) {
            return Err(Problem::NoKey { key }.into());
        }
        let text = |key: &'static str| map[key].as_str().ok_or(Problem::NotAString { key });
        let size = |key: &'static str| {
            let size = map[key].as_u64().and_then(|n| usize::try_from(n).ok());
            size.ok_or(Problem::NotASize { key })
        };

        let quant_type = text("quant_type")?;
        let quant_type =
            FourBit::from_name(quant_type).ok_or_else(|| Problem::Type { name: quant_type.to_string() })?;
        let block_size = size("blocksize")?;
        if !BLOCK_SIZES.contains(&block_size) {
            return Err(Problem::BlockSize { values: block_size }.into());
        }
        let dtype = text("dtype")?;
        let known = DTYPES.iter().find(|(_, name)| *name == dtype.strip_prefix("torch.").unwrap_or(dtype));
        let (dtype, _) = *known.ok_or_else(|| Problem::Before { dtype: dtype.to_string() })?;
        let shape = map["shape"].as_array().and_then(|dims| {
            dims.iter().map(|d| d.as_u64().and_then(|n| usize::try_from(n).ok())).collect::<Option<Vec<_>>>()
        });
        let shape = shape.ok_or(Problem::NotAShape)?;
        if TensorInfo::count(&shape).is_none_or(|n| n > 1 << 60) {
            return Err(Problem::TooManyValues { shape }.into());
        }
        let nested = if nested {
            let block_size = size("nested_blocksize")?;
            Some(parse_nested(block_size, text("nested_dtype")?, map["nested_offset"].as_f64())?)
        } else {
            None
        };
        Ok(QuantState { quant_type, block_size, dtype, shape, nested })
    }
}

fn parse_nested(block_size: usize, dtype: &str, offset: Option<f64>) -> Result<Nested> {
    if block_size != double_quant::BLOCK || dtype.strip_prefix("torch.").unwrap_or(dtype) != "float32" {
        return Err(Problem::Scales { dtype: dtype.to_string(), values: block_size }.into());
    }
    let offset = offset.ok_or(Problem::NotAnOffset)?;
    Ok(Nested { offset: offset as f32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(nested: Option<f32>) -> QuantState {
        QuantState {
            quant_type: FourBit::Nf4,
            block_size: 64,
            dtype: DType::BF16,
            shape: vec![64, 64],
            nested: nested.map(|offset| Nested { offset }),
        }
    }

    #[test]
    fn json_is_read_back() {
        for state in [
            state(None),
            state(Some(2.645_189e-6)),
            state(Some(1.0)),
            QuantState { shape: vec![], ..state(None) },
        ] {
            assert_eq!(QuantState::parse(state.to_json().as_bytes()).unwrap(), state);
        }
        let padded = format!("{}   ", state(Some(0.5)).to_json());
        assert_eq!(QuantState::parse(padded.as_bytes()).unwrap(), state(Some(0.5)));
    }

    #[test]
    fn the_longest_json_is_known_before_the_offset() {
        assert_eq!(state(None).json_len_max(), state(None).to_json().len());
        let longest = state(Some(-1.000_123_4e-38));
        assert_eq!(longest.json_len_max(), longest.to_json().len());
        assert!(state(Some(0.5)).to_json().len() < longest.json_len_max());
    }

    #[test]
    fn what_bitsandbytes_would_not_read_is_refused() {
        let good = state(Some(0.5)).to_json();
        let cases = [
            ("", "is not valid JSON: EOF while parsing a value at line 1 column 0".into()),
            ("[]", "is not a JSON object".into()),
            ("{}", "has no `quant_type`".into()),
            (&good.replace("\"dtype\": \"bfloat16\", ", ""), "has no `dtype`".to_string()),
            (&good.replace(", \"nested_offset\": 0.5", ""), "has no `nested_offset`".into()),
            (
                &good.replace("nested_offset", "nested"),
                "has the key `nested`, which bitsandbytes does not write".into(),
            ),
            (&good.replace("nf4", "int8"), "is of the type `int8`; the known ones are nf4, fp4".into()),
            (
                &good.replace(": 64,", ": 100,"),
                "has blocks of 100 values; the known ones are [32, 64, 128, 256, 512, 1024, 2048, 4096]"
                    .into(),
            ),
            (&good.replace(": 64,", ": \"64\","), "`blocksize` is not a whole number".into()),
            (
                &good.replace("bfloat16", "float64"),
                "was `float64` before; the known types are bfloat16, float16, float32".into(),
            ),
            (&good.replace("[64, 64]", "[64, -1]"), "`shape` is not a list of whole numbers".into()),
            (
                &good.replace("[64, 64]", "[9223372036854775807, 64]"),
                "its shape [9223372036854775807, 64] has too many values".into(),
            ),
            (
                &good.replace("[64, 64]", "[0, 1099511627776]"),
                "its shape [0, 1099511627776] has too many values".into(),
            ),
            (
                &good.replace(": 256,", ": 128,"),
                "its scales are float32 in blocks of 128; they must be float32 in blocks of 256".into(),
            ),
            (&good.replace("0.5", "null"), "`nested_offset` is not a number".into()),
        ];
        for (text, message) in cases {
            assert_eq!(QuantState::parse(text.as_bytes()).unwrap_err().to_string(), message, "{text}");
        }
    }
}
