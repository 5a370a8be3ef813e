//! What an entry of the list of packings consists of.

use lorakit_tensor::DType;
use serde_json::Value;

use super::result::PackedModel;
use super::scheme::Packed;
use super::stored::Stored;
use crate::plan::{OutputTensor, Packer};
use crate::{Model, Result};

/// A way to pack weights: how it is recognised and read, and what of it is written and how.
pub(crate) struct PackingKind {
    /// Finds what is packed so among stored tensors.
    pub(super) find: fn(&Stored<'_>) -> Result<Vec<Packed>>,
    /// What can be written.
    pub(crate) types: &'static [PackedType],
    /// Packs the tensors of a model.
    pub(super) pack: Pack,
    /// What `config.json` says of a model that was packed: what transformers writes, with its defaults.
    pub(super) config: fn(&PackedModel) -> Value,
}

/// Packs the tensors of a model with a packer; if the last is true, not what adapters change. Readers get values of the
/// dtype.
type Pack = fn(&Model, Vec<OutputTensor>, Packer, DType, bool) -> Result<PackedModel>;

/// A type that weights are packed as, for lists.
#[derive(Debug, Clone, Copy)]
pub struct PackedType {
    /// The name to type.
    pub name: &'static str,
    /// How it is packed, with the usual settings.
    pub packer: Packer,
    /// Bits of each weight of a linear layer.
    pub bits: f64,
    /// What it is for, in a few words.
    pub about: &'static str,
}

impl PackingKind {
    /// Whether weights are packed so by `packer`, whatever its settings.
    pub(super) fn packs(&self, packer: Packer) -> bool {
        let usual = packer.with_settings(USUAL_BLOCK, false);
        self.types.iter().any(|packed| packed.packer == usual)
    }
}

/// Values with one scale, where nobody chooses: what bitsandbytes takes.
pub(super) const USUAL_BLOCK: usize = 64;
