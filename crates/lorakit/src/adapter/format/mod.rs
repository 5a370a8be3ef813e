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

use std::fmt;

use lorakit_tensor::TensorSource;

pub use draft::Mapped;
pub(crate) use draft::{Can, Draft, DraftOptions, Scaled, most_common, ranks};
pub(crate) use problem::Problem;

use super::{Adapter, Base, Files};
use crate::plan::DataDigest;
use crate::{Error, Result};

/// One file format of adapters.
pub(crate) trait AdapterFormat: Sync {
    /// The name of the format, as `--to` takes it.
    fn name(&self) -> &'static str;

    /// A description of the output for people, in one line.
    fn title(&self) -> &'static str;

    /// Whether a tensor of that name occurs in this format and in no other.
    fn marks(&self, name: &str, files: &Files) -> bool;

    /// Reads the adapter in `files`. `base` is what is known of the model it belongs to.
    ///
    /// # Errors
    /// `ErrorKind::NeedsBase` if the files alone do not say what they mean; `ErrorKind::Damaged` and others for
    /// files that contradict themselves. Faults of single tensors are findings of the adapter.
    fn read(&self, files: &Files, base: Option<&Base>) -> Result<Adapter>;

    /// Names of the format's tensor files in a folder, the preferred one first; empty if any name will do.
    fn files(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether there is a writer.
    fn is_written(&self) -> bool {
        true
    }

    /// The ending of the output's name if the output is one file; `None` if it is a folder.
    fn ending(&self) -> Option<&'static str> {
        None
    }

    /// Whether names and rows are meaningless without the base, so it must be given for reading and writing.
    fn needs_base(&self) -> bool {
        false
    }

    /// Whether the format may hold all experts of a layer in one module, as PEFT packs them. If not, each expert is a
    /// separate module when [`Self::write`] is called.
    fn packs_experts(&self) -> bool {
        false
    }

    /// Makes files of this format from `adapter`.
    ///
    /// # Errors
    /// `ErrorKind::Inexpressible` for parts that the format cannot hold; `ErrorKind::NeedsBase`;
    /// `ErrorKind::Unsupported` if the format is read only.
    fn write(&self, adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft>;

    /// Digests of the written data for which the header of `draft` has places.
    ///
    /// # Errors
    /// If the draft cannot be laid out.
    fn digests(&self, _draft: &Draft) -> Result<Vec<DataDigest>> {
        Ok(Vec::new())
    }

    /// A sample of each problem that only this format reports.
    #[cfg(test)]
    fn problems(&self) -> Vec<Error> {
        Vec::new()
    }
}

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

impl fmt::Debug for dyn AdapterFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names of tensor files that folders of any format may have.
pub(crate) fn file_names() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().flat_map(|format| format.files()).copied()
}

/// The format called `name`.
pub(crate) fn by_name(name: &str) -> Option<&'static dyn AdapterFormat> {
    FORMATS.iter().copied().find(|format| format.name() == name)
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
    match detect(files)? {
        Some(format) => format.read(files, base),
        None if files.config.is_some() => peft::Peft.read(files, base),
        None => Err(files.no_adapter()),
    }
}
