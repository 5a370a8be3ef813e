//! The operations, one module for each verb.

pub mod convert;
pub mod merge;
pub mod inspect;
