//! The operations, one module for each verb.

mod approximate;
pub mod combine;
pub mod convert;
pub mod diff;
pub mod extract;
pub mod inspect;
pub mod merge;
mod panels;
pub mod quantize;
pub mod reduce;
pub mod verify;

mod truncate;
