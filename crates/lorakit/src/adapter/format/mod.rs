//! Adapter file formats, one Rust module each.
//!
//! ```text
//!  files ──► detect ──► reader ──► Adapter ──► writer ──► Draft ──► plan
//!            (names)               (canonical)
//! ```
//!
//! Every format is read into an [`Adapter`] and written from one; no two formats know of each other. The names of its
//! tensors decide a file's format: [`AdapterFormat::marks`] says which names belong to one format only.

mod assemble;
mod diffusers;
mod draft;
#[cfg(test)]
mod dummy;
mod gguf;
mod halves;
mod interface;
mod kohya;
mod layers;
mod lycoris;
mod mlx;
mod nemo;
mod on_layers;
mod peft;
mod problem;
mod spelling;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tinker;
mod torchtune;
mod xlabs;

use std::path::Path;

use lorakit_tensor::{Reader, TensorSource};

pub use draft::Mapped;
pub(crate) use draft::{Can, Draft, DraftOptions, Scaled, most_common, ranks};
pub(crate) use interface::AdapterFormat;
pub(crate) use layers::{place, place_delta, swap_halves, swapped_rows};
pub(crate) use problem::Problem;
pub(crate) use spelling::{Spelled, module_of, spelled};

use super::{Adapter, Files, beside};
use crate::{Base, Error, Result};

/// Every format. PEFT's names are the most general, so formats that differ from it only in shapes come first.
pub(crate) const FORMATS: &[&dyn AdapterFormat] = &[
    &tinker::Tinker,
    &peft::Peft,
    &gguf::Gguf,
    &mlx::Mlx,
    &torchtune::Torchtune,
    &nemo::Nemo,
    &kohya::Kohya,
    &xlabs::Xlabs,
    &diffusers::Diffusers,
    #[cfg(test)]
    &dummy::Dummy,
];

/// Names of tensor files that folders of any format may have.
pub(crate) fn file_names() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().flat_map(|format| format.files()).copied()
}

/// The format called `name`.
pub(crate) fn by_name(name: &str) -> Option<&'static dyn AdapterFormat> {
    FORMATS.iter().copied().find(|format| format.name() == name)
}

/// Opens the files of an adapter in any format, not yet interpreted.
///
/// # Errors
/// As [`Files::open`].
pub(crate) fn open(path: &Path, reader: &Reader) -> Result<Files> {
    Files::open(path, reader, file_names())
}

/// The format of `files`, if they are an adapter.
///
/// # Errors
/// `ErrorKind::Damaged` if the tensor names of one file belong to different formats.
pub(crate) fn detect(files: &Files) -> Result<Option<&'static dyn AdapterFormat>> {
    let mut found: Option<(&'static dyn AdapterFormat, &str)> = None;
    for info in files.source.tensors() {
        let marking = FORMATS.iter().copied().find(|format| format.marks(&info.name, files));
        match (marking, found) {
            (Some(format), Some((first, name))) if first.name() != format.name() => {
                let problem = Problem::MixedFormats {
                    name: name.escape_debug().to_string(),
                    format: first.name(),
                    other_name: info.name.escape_debug().to_string(),
                    other_format: format.name(),
                };
                return Err(Error::from(problem).at(files.source.path()));
            }
            (Some(format), None) => found = Some((format, &info.name)),
            _ => {}
        }
    }
    Ok(found.map(|(format, _)| format))
}

/// Reads the adapter in `files`, whatever its format. Files that no format marks are taken to be PEFT's if there is a
/// configuration: such an adapter has nothing but saved parameters.
pub(crate) fn read(files: &Files, base: Option<&Base>) -> Result<Adapter> {
    let mut adapter = match detect(files)? {
        Some(format) => format.read(files, base)?,
        None if files.config.is_some() => peft::Peft.read(files, base)?,
        None => return Err(files.no_adapter()),
    };
    adapter.findings.extend(beside::unread(files)?);
    Ok(adapter)
}
