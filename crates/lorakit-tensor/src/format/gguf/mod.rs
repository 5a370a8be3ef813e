//! GGUF, versions 2 and 3, little-endian.

mod value;

pub use value::{Array, Metadata, Value};
