//! What every format says of itself.

use std::collections::BTreeMap;
use std::fmt;

use lorakit_tensor::DType;

use super::{Draft, DraftOptions};
use crate::adapter::{Adapter, Files, Module};
use crate::card::Loading;
use crate::plan::DataDigest;
use crate::{Base, Result};

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

    /// How a folder of this format is loaded, for its model card.
    fn loading(&self) -> Option<Loading> {
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

    /// Whether a file has one alpha for all modules, so that other alphas are multiplied into factors.
    fn one_alpha(&self) -> bool {
        false
    }

    /// The quantised dtypes that its factors may have, the finest first.
    fn blocks(&self) -> &'static [DType] {
        &[]
    }

    /// The dtypes of `A` and `B` if `module` is computed anew with that rank and `asked` for: rows that are not whole
    /// blocks get another. Where the file has a factor in another layout than the module, no blocks survive.
    fn stored_as(&self, _module: &Module, _rank: usize, asked: DType) -> [DType; 2] {
        [asked; 2]
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

    /// Puts places for [`Self::digests`] into a header that has digests.
    fn reserve_digests(&self, _metadata: &mut BTreeMap<String, String>) {}

    /// A sample of each problem that only this format reports.
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
