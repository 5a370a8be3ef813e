//! Errors of the registry are those of `lorakit`.

pub use lorakit::{Error, ErrorKind, Hint, Result};

pub(crate) use lorakit::problem::Problem;
