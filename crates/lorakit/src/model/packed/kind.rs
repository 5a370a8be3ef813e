//! The entries of the list of packings.

use lorakit_tensor::DType;
use serde_json::Value;

use super::result::PackedModel;
use super::scheme::Packed;
use super::stored::Stored;
use crate::plan::{OutputTensor, Packer};
use crate::{Model, Result};

/// A way to pack weights: how it is recognised and read, which of its types are written, and how.
pub(crate) struct PackingKind {
    /// Finds weights packed this way among stored tensors.
    pub(super) find: fn(&Stored<'_>) -> Result<Vec<Packed>>,
    /// The types that can be written.
    pub(crate) types: &'static [PackedType],
    /// Packs the tensors of a model.
    pub(super) pack: Pack,
    /// The entry in the `config.json` of a packed model: the one that transformers writes, with its defaults.
    pub(super) config: fn(&PackedModel) -> Value,
}

/// Packs the tensors of a model with a packer; if the last argument is true, without those that adapters change.
/// Readers get values of the dtype.
type Pack = fn(&Model, Vec<OutputTensor>, Packer, DType, bool) -> Result<PackedModel>;

/// A type as which weights can be packed, for lists.
#[derive(Debug, Clone, Copy)]
pub struct PackedType {
    /// The name to type.
    pub name: &'static str,
    /// How it is packed, with the usual settings.
    pub packer: Packer,
    /// Bits per weight of a linear layer.
    pub bits: f64,
    /// What it is for, in a few words.
    pub about: &'static str,
}

impl PackingKind {
    /// Whether `packer` packs weights this way, whatever its settings.
    pub(super) fn packs(&self, packer: Packer) -> bool {
        let usual = packer.with_settings(USUAL_BLOCK, false);
        self.types.iter().any(|packed| packed.packer == usual)
    }
}

/// The default number of values that share a scale, as in bitsandbytes.
pub(super) const USUAL_BLOCK: usize = 64;
