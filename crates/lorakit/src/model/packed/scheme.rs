//! How weights are packed, as far as readers need to know.

use std::fmt;

use lorakit_quant::bnb::FourBit;
use lorakit_tensor::{Checkpoint, Result, TensorInfo};

use crate::plan::{Fp8, Packer};

/// How the weights of a checkpoint are packed.
#[derive(Debug, Clone, PartialEq)]
pub struct Packing {
    /// The scheme of most packed tensors.
    pub scheme: Scheme,
    /// Positions of the packed tensors in the view, ascending.
    pub tensors: Vec<usize>,
    /// The scheme of each of them.
    pub(super) schemes: Vec<Scheme>,
    /// The parts of each of them, if it has 4-bit codes.
    pub(super) four_bit: Vec<Option<FourBitParts>>,
}

/// The stored tensors of a weight in 4-bit codes of bitsandbytes.
#[derive(Debug, Clone, PartialEq)]
pub struct FourBitParts {
    /// The type of the codes.
    pub kind: FourBit,
    /// Number of values that share a scale.
    pub block: usize,
    /// Position of the codes among the stored tensors.
    pub codes: usize,
    /// Position of the scales, or of their codes.
    pub scales: usize,
    /// What turns codes of scales into scales.
    pub nested: Option<NestedScales>,
}

/// The data that turn codes of scales into scales.
#[derive(Debug, Clone, PartialEq)]
pub struct NestedScales {
    /// The mean of the scales.
    pub offset: f32,
    /// Position of the scales of the codes among the stored tensors.
    pub scales: usize,
    /// The value of each code.
    pub map: [f32; 256],
}

/// A way to pack weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// 4-bit codes of bitsandbytes.
    FourBit {
        /// The type of the codes.
        quant_type: FourBit,
        /// Number of values that share a scale.
        block_size: usize,
        /// Whether the scales are quantised too.
        nested: bool,
    },
    /// LLM.int8 of bitsandbytes.
    Int8,
    /// Float8 codes with one scale per tensor.
    Fp8Tensor,
    /// Float8 codes with one scale per row.
    Fp8Row,
    /// Float8 codes with one scale per block of rows and columns.
    Fp8Block(usize, usize),
    /// `F8_E4M3` codes with one power of two per 32 values.
    Mxfp8,
    /// `MXFP4` as gpt-oss stores it.
    Mxfp4,
}

impl Packing {
    /// Whether tensor `index` of the view is packed.
    pub fn contains(&self, index: usize) -> bool {
        self.tensors.binary_search(&index).is_ok()
    }

    /// How tensor `index` of the view is packed, if it is.
    pub fn scheme_of(&self, index: usize) -> Option<Scheme> {
        self.schemes.get(self.tensors.binary_search(&index).ok()?).copied()
    }

    /// The parts of tensor `index` of the view, if it has 4-bit codes of bitsandbytes.
    pub fn four_bit(&self, index: usize) -> Option<&FourBitParts> {
        self.four_bit.get(self.tensors.binary_search(&index).ok()?)?.as_ref()
    }

    /// What packs tensor `index` of the view, a matrix of this size, the same way; `None` if nothing here does.
    pub(crate) fn packer(&self, index: usize, [rows, cols]: [usize; 2]) -> Option<Packer> {
        const TILE: usize = 128;
        let scheme = *self.schemes.get(self.tensors.binary_search(&index).ok()?)?;
        let in_tiles =
            |scheme: &Scheme| matches!(scheme, Scheme::Fp8Block(TILE, _) | Scheme::Fp8Block(_, TILE));
        Some(match scheme {
            Scheme::FourBit { quant_type, block_size, nested } => {
                Packer::FourBit { kind: quant_type, block: block_size, nested }
            }
            Scheme::Int8 => Packer::Int8,
            // A matrix no larger than a tile has a single scale.
            Scheme::Fp8Tensor if rows.max(cols) <= TILE && self.schemes.iter().any(in_tiles) => {
                Packer::Fp8(Fp8::Tile)
            }
            Scheme::Fp8Tensor => Packer::Fp8(Fp8::Tensor),
            Scheme::Fp8Row => Packer::Fp8(Fp8::Row),
            Scheme::Fp8Block(height, width) if height == TILE.min(rows) && width == TILE.min(cols) => {
                Packer::Fp8(Fp8::Tile)
            }
            Scheme::Fp8Block(..) => return None,
            Scheme::Mxfp8 if cols.is_multiple_of(Packer::Fp8(Fp8::Group).cols_together()) => {
                Packer::Fp8(Fp8::Group)
            }
            Scheme::Mxfp8 => return None,
            Scheme::Mxfp4 => Packer::Mxfp4,
        })
    }
}

impl Scheme {
    /// Its name in one word: `nf4`, `int8`, `fp8`.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::FourBit { quant_type, .. } => quant_type.name(),
            Scheme::Int8 => "int8",
            Scheme::Fp8Tensor | Scheme::Fp8Row | Scheme::Fp8Block(..) => "fp8",
            Scheme::Mxfp8 => "mxfp8",
            Scheme::Mxfp4 => "mxfp4",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scheme::FourBit { quant_type, block_size, nested } => {
                write!(f, "bitsandbytes {}", quant_type.name().to_uppercase())?;
                if *block_size != 64 {
                    write!(f, ", blocks of {block_size}")?;
                }
                if *nested { f.write_str(", double quantised") } else { Ok(()) }
            }
            Scheme::Int8 => f.write_str("bitsandbytes LLM.int8"),
            Scheme::Fp8Tensor => f.write_str("FP8 with a scale for each tensor"),
            Scheme::Fp8Row => f.write_str("FP8 with a scale for each row"),
            Scheme::Fp8Block(height, width) => write!(f, "FP8 blocks of {height}x{width}"),
            Scheme::Mxfp8 => f.write_str("MXFP8"),
            Scheme::Mxfp4 => f.write_str("MXFP4"),
        }
    }
}

/// A tensor that the view shows, with the decoding of its values from stored tensors.
pub(super) trait Weight: Send + Sync {
    /// Its name, dtype and shape. The dtype has an encoder, and blocks of one value.
    fn info(&self) -> &TensorInfo;

    /// Decodes values from `first` on; the caller rounds them to the dtype, once.
    fn decode(&self, stored: &Checkpoint, first: u64, values: &mut [f32]) -> Result<()>;

    /// Its parts, if it has 4-bit codes of bitsandbytes.
    fn four_bit(&self) -> Option<&FourBitParts> {
        None
    }
}

/// One packed tensor: the tensor that the view shows, and the stored tensors of which it consists.
pub(super) struct Packed {
    pub(super) weight: Box<dyn Weight>,
    pub(super) scheme: Scheme,
    /// The stored tensor whose place it takes.
    pub(super) codes: usize,
    /// The stored tensors that are hidden.
    pub(super) sidecars: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_have_names() {
        let four_bit = |block_size, nested| Scheme::FourBit { quant_type: FourBit::Nf4, block_size, nested };
        assert_eq!(four_bit(64, true).to_string(), "bitsandbytes NF4, double quantised");
        assert_eq!(four_bit(128, false).to_string(), "bitsandbytes NF4, blocks of 128");
        assert_eq!(Scheme::Fp8Block(128, 64).to_string(), "FP8 blocks of 128x64");
    }
}
