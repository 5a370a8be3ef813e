//! Which type each tensor of a model gets: the mixes of `llama-quantize`.
//!
//! A mix such as `Q4_K_M` ([`FileType`]) is more than a type. Norms and small tensors stay as they are, the output and
//! some attention and feed-forward matrices get more bits, and rows that do not divide into blocks fall back to a type
//! that fits. [`choose`] decides from names, shapes and a few metadata keys, exactly as the tool does, and says why.
//!
//! ```
//! use lorakit_quant::mix::{Facts, FileType, MixOptions, choose};
//! use lorakit_tensor::{DType, TensorInfo};
//!
//! let tensor = |name: &str, shape: &[usize]| TensorInfo { name: name.into(), dtype: DType::F16, shape: shape.into() };
//! let tensors = [tensor("output.weight", &[512, 256]), tensor("blk.0.attn_v.weight", &[64, 100])];
//! let facts = Facts { architecture: "llama".into(), layers: 1, heads: 4, heads_kv: 4, experts: 0 };
//!
//! let choices = choose(FileType::Q4_K_M, &facts, &MixOptions::default(), &tensors)?;
//! assert_eq!(choices[0].dtype, DType::Q6_K);
//! assert_eq!(choices[0].reason.to_string(), "output: more bits");
//! assert_eq!(choices[1].dtype, DType::F16);
//! assert_eq!(choices[1].reason.to_string(), "rows of 100 are not whole Q6_K blocks of 256");
//! # Ok::<(), lorakit_quant::mix::MixError>(())
//! ```
//!
//! Source: `src/llama-quant.cpp` of llama.cpp, whose choices for all mixes and several families are the golden data of
//! the tests.

mod choose;
mod error;
mod facts;
mod fallback;
mod file_type;
mod kept;
mod order;
mod override_type;
mod reason;
mod role;
mod rules;
mod unwritten;

pub use choose::{Choice, MixOptions, choose};
pub use error::MixError;
pub use facts::Facts;
pub use file_type::FileType;
pub use order::file_order;
pub use override_type::{TypeOverride, writable};
pub use reason::{Kept, Reason};
pub use unwritten::Unwritten;
