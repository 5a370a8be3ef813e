//! One module for each verb.

use std::path::Path;

use lorakit_tensor::publish::{Existing, check_file, check_folder};

use crate::error::Failure;

pub(crate) mod about;
pub(crate) mod combine;
pub(crate) mod convert;
pub(crate) mod diff;
pub(crate) mod edit;
pub(crate) mod env;
pub(crate) mod eval;
pub(crate) mod extract;
pub(crate) mod generate;
pub(crate) mod inspect;
pub(crate) mod man;
pub(crate) mod merge;
mod page;
mod passes;
mod planned;
pub(crate) mod quantize;
pub(crate) mod reduce;
pub(crate) mod registry;
mod strength;
pub(crate) mod trace;
pub(crate) mod train;
pub(crate) mod verify;

/// Refuses an output that exists; an empty folder counts as absent.
pub(crate) fn refuse_existing(output: &Path) -> Result<(), Failure> {
    let checked = if output.is_dir() || output.file_name().is_none() {
        check_folder(output, &Existing::Kept)
    } else {
        check_file(output, false)
    };
    Ok(checked.map_err(lorakit::Error::from)?)
}
