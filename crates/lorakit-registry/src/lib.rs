//! Adapters in a registry.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod digest;
mod error;
pub mod sign;

pub use digest::{Digest, NotADigest};
pub use error::{Error, ErrorKind, Hint, Result};
