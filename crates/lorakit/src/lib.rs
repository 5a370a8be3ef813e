//! LoRA adapters.

pub mod adapter;
pub mod arch;
pub mod fit;
pub mod ops;
pub mod plan;

mod error;
mod model;
mod tensor_ref;

pub use error::{Error, ErrorKind, Result};
pub use model::{Model, ModelConfig};
pub use tensor_ref::TensorRef;
