//! One module for each verb.

pub(crate) mod convert;
pub(crate) mod inspect;
pub(crate) mod merge;
mod planned;
pub(crate) mod quantize;
