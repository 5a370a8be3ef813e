//! The operations, one module for each verb.

mod approximate;
pub mod combine;
pub mod convert;
pub mod diff;
pub mod extract;
pub mod inspect;
pub mod merge;
mod panels;
pub(crate) mod problem;
pub mod quantize;
pub mod reduce;
mod truncate;
pub mod verify;

use problem::Problem;
