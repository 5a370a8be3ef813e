//! The result of packing a model.

use lorakit_tensor::DType;

use crate::arch::names::HEAD;
use crate::plan::{Chosen, OutputTensor, Packer};

/// The tensors of a packed model, and what became of each module.
pub(crate) struct PackedModel {
    pub(crate) tensors: Vec<OutputTensor>,
    pub(crate) chosen: Vec<Chosen>,
    /// Modules that loaders would expect to be packed but that are not.
    pub(in crate::model) skipped: Vec<String>,
    /// All linear modules that are not packed, including the output and the routers of experts.
    pub(in crate::model) unpacked: Vec<String>,
    pub(in crate::model) dtype: DType,
    pub(in crate::model) packing: Packer,
}

impl PackedModel {
    /// The modules that loaders must be told to skip, if any.
    pub(super) fn modules_to_skip(&self) -> Option<Vec<String>> {
        // Given a list, transformers no longer skips the output by itself.
        let spared = || self.skipped.iter().cloned().chain([HEAD.to_string()]).collect();
        (!self.skipped.is_empty()).then(spared)
    }
}
