//! Adapter file formats, one module each.
//!
//! ```text
//!  files ──► detect ──► reader ──► Adapter ──► writer ──► Draft ──► plan
//!            (names)               (canonical)
//! ```
//!
//! Every format is read into an [`Adapter`] and written from one; no two formats know of each other. What a file
//! is, the names of its tensors decide: [`AdapterFormat::marks`] says which names only this format has.

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
pub(crate) use problem::Problem;

use super::{Adapter, Files};
use crate::{Base, Error, Result};

/// Every format. PEFT's names are the most general, so what is told from it by shapes comes first.
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

/// Names of tensor files in folders of any format.
fn file_names() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().flat_map(|format| format.files()).copied()
}

/// The format called `name`.
pub(crate) fn by_name(name: &str) -> Option<&'static dyn AdapterFormat> {
    FORMATS.iter().copied().find(|format| format.name() == name)
}

/// Opens the files of an adapter in any format, not yet understood.
///
/// # Errors
/// As [`Files::open`].
pub(crate) fn open(path: &Path, reader: &Reader) -> Result<Files> {
    Files::open(path, reader, file_names())
}

/// The format of `files`, if they are an adapter's.
///
/// # Errors
/// `ErrorKind::Damaged` if tensors of one file are spelled as in different formats.
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

/// Reads the adapter in `files`, in the format they are in. Files that no format marks are PEFT's if there is a
/// configuration: such an adapter has saved parameters and nothing else.
pub(crate) fn read(files: &Files, base: Option<&Base>) -> Result<Adapter> {
    match detect(files)? {
        Some(format) => format.read(files, base),
        None if files.config.is_some() => peft::Peft.read(files, base),
        None => Err(files.no_adapter()),
    }
}
