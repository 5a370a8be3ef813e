//! One module for each verb.

pub(crate) mod merge;
mod planned;
