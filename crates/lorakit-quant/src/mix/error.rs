//! What a mix refuses.

use std::error::Error;
use std::fmt;

use lorakit_tensor::DType;

/// Why there is no type for a tensor, or why an override cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MixError {
    /// An override is not of the form `REGEX=TYPE`.
    Form {
        /// The override.
        text: String,
    },
    /// The pattern of an override is not a regular expression.
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A name does not belong to a type that can be written.
    Type {
        /// The name.
        name: String,
    },
    /// Values of a type are read but not written.
    ReadOnly {
        /// The type.
        dtype: DType,
        /// The writable types nearest to it in size.
        nearest: [DType; 2],
    },
    /// Rows do not divide into blocks, and no other type is allowed.
    Fallback {
        /// The tensor.
        tensor: String,
        /// Length of a row.
        columns: usize,
        /// The type that does not fit.
        wanted: DType,
        /// The type that would fit; `None` if there is no rule for it.
        fallback: Option<DType>,
        /// Whether the type was given for this tensor alone, by an option.
        given: bool,
    },
    /// In a model with experts, a rule needs the layer of a tensor, but its name holds none.
    Layer {
        /// The tensor.
        tensor: String,
        /// How many layers there are.
        layers: u64,
    },
}

impl MixError {
    /// The tensor this is about.
    pub fn tensor(&self) -> Option<&str> {
        match self {
            MixError::Fallback { tensor, .. } | MixError::Layer { tensor, .. } => Some(tensor),
            _ => None,
        }
    }
}

impl fmt::Display for MixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MixError::Form { text } => {
                write!(f, "the override `{}` is not of the form REGEX=TYPE", text.escape_debug())
            }
            MixError::Pattern { pattern, problem } => {
                write!(f, "`{}` is not a regular expression: {problem}", pattern.escape_debug())
            }
            MixError::Type { name } => {
                write!(f, "`{}` is not the name of a type that can be written", name.escape_debug())
            }
            MixError::ReadOnly { dtype, nearest: [a, b] } => write!(
                f,
                "{dtype} can be read, but not written yet; the nearest types that can be written are {a} and {b}"
            ),
            MixError::Fallback { tensor, columns, wanted, fallback, .. } => {
                let block = wanted.block().elements;
                write!(
                    f,
                    "`{}` has rows of {columns} values, which are not whole {wanted} blocks of {block}; ",
                    tensor.escape_debug()
                )?;
                match fallback {
                    Some(dtype) => write!(f, "the type that fits is {dtype}"),
                    None => write!(f, "no type stands in for {wanted}"),
                }
            }
            MixError::Layer { tensor, layers } => {
                write!(f, "`{}` names no layer below {layers}, which its rule needs", tensor.escape_debug())
            }
        }
    }
}

impl Error for MixError {}
