//! What a model can be quantised to.

use lorakit_quant::bnb::FourBit;
use lorakit_quant::mix::FileType;

use crate::plan::{Fp8, Packer};

/// A type as users name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantType {
    /// A GGUF file in a mix of llama.cpp.
    Mix(FileType),
    /// A Hugging Face folder with bitsandbytes' 4-bit layers.
    FourBit(FourBit),
    /// A Hugging Face folder with bitsandbytes' 8-bit layers.
    Int8,
    /// A Hugging Face folder with 8-bit floats, of which so many share a scale.
    Fp8(Fp8),
    /// A Hugging Face folder with the 4-bit experts of gpt-oss.
    Mxfp4,
}

/// A type that is no mix, for lists.
#[derive(Debug, Clone, Copy)]
pub struct PackedType {
    /// The name to type.
    pub name: &'static str,
    /// The type.
    pub kind: QuantType,
    /// Bits of each weight of a linear layer.
    pub bits: f64,
    /// What it is for, in a few words.
    pub about: &'static str,
}

impl QuantType {
    /// The types that are written as Hugging Face folders.
    pub const PACKED: &'static [PackedType] = &[
        PackedType {
            name: "nf4",
            kind: QuantType::FourBit(FourBit::Nf4),
            bits: 4.5,
            about: "bitsandbytes NF4, the base of QLoRA; 4.13 bits with `--double-quant`",
        },
        PackedType {
            name: "fp4",
            kind: QuantType::FourBit(FourBit::Fp4),
            bits: 4.5,
            about: "bitsandbytes FP4: a third more error than NF4",
        },
        PackedType {
            name: "int8",
            kind: QuantType::Int8,
            bits: 8.0,
            about: "bitsandbytes LLM.int8, one scale for each row",
        },
        PackedType {
            name: "fp8",
            kind: QuantType::Fp8(Fp8::Tile),
            bits: 8.0,
            about: "8-bit floats, one scale for each tile of 128 x 128 (DeepSeek, Qwen)",
        },
        PackedType {
            name: "fp8-channel",
            kind: QuantType::Fp8(Fp8::Row),
            bits: 8.0,
            about: "8-bit floats, one scale for each row (compressed-tensors)",
        },
        PackedType {
            name: "fp8-tensor",
            kind: QuantType::Fp8(Fp8::Tensor),
            bits: 8.0,
            about: "8-bit floats, one scale for each matrix (compressed-tensors)",
        },
        PackedType {
            name: "mxfp8",
            kind: QuantType::Fp8(Fp8::Group),
            bits: 8.25,
            about: "8-bit floats, a power of two for 32 values (compressed-tensors)",
        },
        PackedType {
            name: "mxfp4",
            kind: QuantType::Mxfp4,
            bits: 4.25,
            about: "4-bit floats, a power of two for 32 values: the experts of gpt-oss, only those",
        },
    ];

    /// The type of that name, in any case.
    pub fn from_name(name: &str) -> Option<QuantType> {
        let packed = QuantType::PACKED.iter().find(|packed| packed.name.eq_ignore_ascii_case(name));
        packed.map(|packed| packed.kind).or_else(|| FileType::from_name(name).map(QuantType::Mix))
    }

    /// The packing of a Hugging Face folder; `block` values share a scale where the type lets one choose.
    pub fn packing(self, block: usize, nested: bool) -> Option<Packer> {
        match self {
            QuantType::Mix(_) => None,
            QuantType::FourBit(kind) => Some(Packer::FourBit { kind, block, nested }),
            QuantType::Int8 => Some(Packer::Int8),
            QuantType::Fp8(fp8) => Some(Packer::Fp8(fp8)),
            QuantType::Mxfp4 => Some(Packer::Mxfp4),
        }
    }
}
