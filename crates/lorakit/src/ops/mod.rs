//! The operations, one module for each verb.

mod approximate;
pub mod convert;
pub mod inspect;
pub mod merge;
pub mod quantize;

mod travel;
