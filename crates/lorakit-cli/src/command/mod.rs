//! One module for each verb.

pub(crate) mod combine;
pub(crate) mod convert;
pub(crate) mod diff;
pub(crate) mod extract;
pub(crate) mod inspect;
pub(crate) mod merge;
mod planned;
pub(crate) mod quantize;
pub(crate) mod reduce;
pub(crate) mod verify;
