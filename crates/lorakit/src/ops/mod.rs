//! The operations, one module for each verb.

mod approximate;
pub mod combine;
pub mod convert;
pub mod diff;
pub mod inspect;
pub mod merge;
mod publish_adapter;
pub mod quantize;
pub mod reduce;
pub mod verify;

mod travel;
mod truncate;
