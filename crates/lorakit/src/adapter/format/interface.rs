//! What every format says of itself.

use std::fmt;

use super::{Draft, DraftOptions};
use crate::adapter::{Adapter, Files};
use crate::plan::DataDigest;
use crate::{Base, Result};

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
    fn problems(&self) -> Vec<crate::Error> {
        Vec::new()
    }
}

impl fmt::Debug for dyn AdapterFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
