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
    /// The name, as `--to` takes it.
    fn name(&self) -> &'static str;

    /// What is written: one line for people.
    fn title(&self) -> &'static str;

    /// Whether a tensor of that name is of this format and no other.
    fn marks(&self, name: &str, files: &Files) -> bool;

    /// The adapter in `files`. `base` is what is known of the model it belongs to.
    ///
    /// # Errors
    /// `ErrorKind::NeedsBase` if the files alone do not say what they mean; `ErrorKind::Damaged` and others for
    /// files that contradict themselves. Faults of single tensors are findings of the adapter.
    fn read(&self, files: &Files, base: Option<&Base>) -> Result<Adapter>;

    /// Names that tensor files of the format have in a folder, the preferred first; none if any name will do.
    fn files(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether there is a writer.
    fn is_written(&self) -> bool {
        true
    }

    /// How the name of the output ends if it is one file; a folder is written otherwise.
    fn ending(&self) -> Option<&'static str> {
        None
    }

    /// Whether names and rows mean nothing without the base, so that it must be named to read and to write.
    fn needs_base(&self) -> bool {
        false
    }

    /// Whether the format may hold all experts of a layer in one module, as PEFT packs them; else each expert is a
    /// module when [`Self::write`] is called.
    fn packs_experts(&self) -> bool {
        false
    }

    /// `adapter` as files of this format.
    ///
    /// # Errors
    /// `ErrorKind::Inexpressible` for what the format cannot hold; `ErrorKind::NeedsBase`;
    /// `ErrorKind::Unsupported` if it is only read.
    fn write(&self, adapter: &Adapter, options: &DraftOptions<'_>) -> Result<Draft>;

    /// Digests of the written data that the header of `draft` has places for.
    ///
    /// # Errors
    /// If the draft cannot be laid out.
    fn digests(&self, _draft: &Draft) -> Result<Vec<DataDigest>> {
        Ok(Vec::new())
    }

    /// A sample of everything that only this format refuses.
    #[cfg(test)]
    fn problems(&self) -> Vec<Error> {
        Vec::new()
    }
}

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

impl fmt::Debug for dyn AdapterFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names of tensor files in folders of any format.
pub(crate) fn file_names() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().flat_map(|format| format.files()).copied()
}

/// The format called `name`.
pub(crate) fn by_name(name: &str) -> Option<&'static dyn AdapterFormat> {
    FORMATS.iter().copied().find(|format| format.name() == name)
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
