//! Errors of training.

pub(crate) use lorakit_tensor::ErrorKind;
pub(crate) use lorakit_tensor::problem::{Hint, Problem};
