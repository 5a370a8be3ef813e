//! Errors of reading descriptions of packed weights: errors of the files that hold them.

pub(crate) use lorakit_tensor::ErrorKind;
pub(crate) use lorakit_tensor::problem::{Hint, Problem};
