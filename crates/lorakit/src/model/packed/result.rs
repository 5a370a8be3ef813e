//! What packing makes of a model, and what `config.json` says of it.

use lorakit_tensor::DType;

use crate::arch::names::HEAD;
use crate::plan::{Chosen, OutputTensor, Packer};

/// What became of the tensors of a model.
pub(crate) struct PackedModel {
    pub(crate) tensors: Vec<OutputTensor>,
    pub(crate) chosen: Vec<Chosen>,
    /// Modules that loaders would expect to be packed and that are not.
    pub(in crate::model) skipped: Vec<String>,
    /// All linear modules that are not packed, the output and what routes experts among them.
    pub(in crate::model) unpacked: Vec<String>,
    pub(in crate::model) dtype: DType,
    pub(in crate::model) packing: Packer,
}

impl PackedModel {
    /// The modules that loaders are told to leave, if they must be told.
    pub(super) fn modules_to_skip(&self) -> Option<Vec<String>> {
        // With a list of its own, transformers no longer spares the output by itself.
        let spared = || self.skipped.iter().cloned().chain([HEAD.to_string()]).collect();
        (!self.skipped.is_empty()).then(spared)
    }
}
