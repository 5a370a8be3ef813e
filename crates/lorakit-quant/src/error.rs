//! What can go wrong when descriptions of packed weights are read: errors of the files that hold them.

pub(crate) use lorakit_tensor::ErrorKind;
pub(crate) use lorakit_tensor::problem::{Hint, Problem};
