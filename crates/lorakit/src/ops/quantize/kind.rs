//! What a model can be quantised to.

use lorakit_quant::mix::FileType;

use crate::model::packed::{PackedType, TYPES};
use crate::plan::Packer;

/// A type as users name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantType {
    /// A GGUF file in a mix of llama.cpp.
    Mix(FileType),
    /// A Hugging Face folder with packed layers.
    Packed(Packer),
}

impl QuantType {
    /// The types that are written as Hugging Face folders.
    pub const PACKED: &'static [PackedType] = &TYPES;

    /// The type of that name, in any case.
    pub fn from_name(name: &str) -> Option<QuantType> {
        let packed = QuantType::PACKED.iter().find(|packed| packed.name.eq_ignore_ascii_case(name));
        packed
            .map(|packed| QuantType::Packed(packed.packer))
            .or_else(|| FileType::from_name(name).map(QuantType::Mix))
    }

    /// The packing of a Hugging Face folder; `block` values share a scale if the type allows a choice.
    pub fn packing(self, block: usize, nested: bool) -> Option<Packer> {
        match self {
            QuantType::Mix(_) => None,
            QuantType::Packed(packer) => Some(packer.with_settings(block, nested)),
        }
    }
}
