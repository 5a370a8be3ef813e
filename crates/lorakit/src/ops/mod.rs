//! The operations, one module for each verb.

pub mod merge;
