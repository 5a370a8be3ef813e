//! What an output says about where it came from.
//!
//! The text is in the header of a single-file output, and next to the tensors in a folder. Digests of inputs are known
//! when the run has read them; until then placeholders of the same length hold their places.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use lorakit_tensor::format::gguf;
use lorakit_tensor::{Checkpoint, TensorSource};

use super::digest::{self, Hash};
use super::{Container, Content, OutputFile, PROVENANCE_FILE, Plan, SideFile, Target};
use crate::Result;

/// The entry of a header that says where a file came from.
pub const PROVENANCE_KEY: &str = "lorakit.lineage";

/// Says where an output came from.
pub trait Provenance: Debug + Send + Sync {
    /// Inputs whose weights the run digests.
    fn sources(&self) -> &[Arc<Checkpoint>];

    /// The digest of the source at that position, given the BLAKE3 of each of its tensors, in file order. All digests
    /// have the same length.
    fn digest(&self, source: usize, hashes: &[Hash]) -> String;

    /// The text with a digest for each source; without digests, what one of several files says about itself.
    fn text(&self, digests: Option<&[String]>) -> String;

    /// The content of [`PROVENANCE_FILE`] for an output of these files.
    fn page(&self, digests: &[String], files: &[String]) -> Vec<u8>;
}

impl Container {
    /// Puts `text` in the place of what the header of the input said.
    pub(super) fn set_provenance(&mut self, text: Option<String>) {
        match (self, text) {
            (Container::Safetensors { metadata, .. }, Some(text)) => {
                metadata.insert(PROVENANCE_KEY.into(), text);
            }
            (Container::Safetensors { metadata, .. }, None) => {
                metadata.remove(PROVENANCE_KEY);
            }
            (Container::Gguf(metadata), Some(text)) => {
                metadata.set(PROVENANCE_KEY, gguf::Value::String(text));
            }
            (Container::Gguf(metadata), None) => {
                metadata.remove(PROVENANCE_KEY);
            }
        }
    }
}

/// Placeholders for the digests to come.
pub(super) fn places(provenance: &dyn Provenance) -> Vec<String> {
    let sources = provenance.sources().iter().enumerate();
    sources.map(|(i, source)| provenance.digest(i, &vec![digest::NONE; source.tensors().len()])).collect()
}

/// The file next to the tensors. It names the files of the output, so that a later run knows which output they belong
/// to; names that are not Unicode are left out.
pub(super) fn page(
    provenance: &dyn Provenance,
    digests: &[String],
    files: &[OutputFile],
    side_files: &[SideFile],
) -> SideFile {
    let beside = side_files.iter().filter(|file| !is_page(&file.name)).filter_map(|file| file.name.to_str());
    let mut names: Vec<String> =
        files.iter().map(|file| file.name.clone()).chain(beside.map(str::to_string)).collect();
    names.sort();
    let content = Content::bytes(provenance.page(digests, &names));
    SideFile { name: PROVENANCE_FILE.into(), content }
}

/// Whether a file of an output says where it came from.
pub(super) fn is_page(name: &Path) -> bool {
    name == Path::new(PROVENANCE_FILE)
}

impl Plan {
    /// The container of a file with everything in its header, if the run had to find something out for it.
    pub(super) fn completed(&self, digests: &[String]) -> Option<Container> {
        let provenance = self.provenance.as_ref().filter(|_| self.files.len() == 1)?;
        let mut container = self.container.clone();
        container.set_provenance(Some(provenance.text(Some(digests))));
        Some(container)
    }

    /// Writes [`PROVENANCE_FILE`] again, now that the run has read its inputs.
    pub(super) fn write_page(&self, digests: &[String], staged: &Path) -> Result<()> {
        match (&self.provenance, &self.target) {
            (Some(provenance), Target::Folder(_)) => {
                page(provenance.as_ref(), digests, &self.files, &self.side_files).write(staged)
            }
            _ => Ok(()),
        }
    }
}
