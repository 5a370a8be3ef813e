//! One module for each verb.

pub(crate) mod convert;
pub(crate) mod merge;
mod planned;
