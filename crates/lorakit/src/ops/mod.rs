//! The operations, one module for each verb.

pub mod convert;
pub mod inspect;
pub mod merge;
pub mod quantize;

mod travel;
