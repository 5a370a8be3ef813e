//! Quantised Hugging Face checkpoints seen as ordinary ones.
//!
//! A quantised weight is several stored tensors: codes, scales, tables. The view shows one tensor of numbers in their
//! place, whose values are decoded as they are read, and hides the rest:
//!
//! ```text
//! stored                                                    seen
//! q_proj.weight                            U8 [8192, 1]     q_proj.weight  BF16 [128, 128]
//! q_proj.weight.absmax                     F32 [256]
//! q_proj.weight.quant_map                  F32 [16]
//! q_proj.weight.quant_state.bitsandbytes__nf4  U8 [80]
//! norm.weight                              BF16 [128]       norm.weight    BF16 [128]
//! ```
//!
//! | scheme | recognised by | seen as |
//! |---|---|---|
//! | bitsandbytes NF4, FP4 | `P.quant_state.bitsandbytes__*` | the dtype the weight had |
//! | bitsandbytes LLM.int8 | `X.SCB` | `F32` |
//! | FP8, MXFP8 | a float8 tensor `P` with `P_scale_inv` or `P_scale` | `F32` |
//! | MXFP4 of gpt-oss | `X_blocks`, `X_scales` | `BF16`, rows and columns swapped |
//!
//! What the names and dtypes of the tensors say goes before what `quantization_config` says, because programs that
//! quantise some layers only do not always list them. Schemes that cannot be decoded are refused by name.

mod bnb;
mod foreign;
mod fp8;
mod mxfp4;
mod problem;
mod stored;
mod view;
mod write;
mod write_mxfp4;

use std::fmt;
use std::sync::Arc;

use lorakit_quant::bnb::FourBit;
use lorakit_tensor::{Checkpoint, TensorSource};

use crate::Result;
use crate::model::ModelConfig;
pub(crate) use problem::Problem;
pub(crate) use write::apply as pack;

use stored::Stored;
use view::{PackedView, Weight};

/// How the weights of a checkpoint are packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packing {
    /// The scheme of most packed tensors.
    pub scheme: Scheme,
    /// Positions of the packed tensors in the view, ascending.
    pub tensors: Vec<usize>,
}

/// A way to pack weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// 4-bit codes of bitsandbytes.
    FourBit {
        /// The type of the codes.
        quant_type: FourBit,
        /// Values with one scale.
        block_size: usize,
        /// Whether the scales are quantised too.
        nested: bool,
    },
    /// LLM.int8 of bitsandbytes.
    Int8,
    /// Float8 codes with one scale for each tensor.
    Fp8Tensor,
    /// Float8 codes with one scale for each row.
    Fp8Row,
    /// Float8 codes with one scale for each block of rows and columns.
    Fp8Block(usize, usize),
    /// `F8_E4M3` codes with one power of two for 32 values.
    Mxfp8,
    /// `MXFP4` as gpt-oss stores it.
    Mxfp4,
}

impl Packing {
    /// Whether tensor `index` of the view is packed.
    pub fn contains(&self, index: usize) -> bool {
        self.tensors.binary_search(&index).is_ok()
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

/// One packed tensor: what is seen, and which stored tensors it consists of.
struct Packed {
    weight: Box<dyn Weight>,
    scheme: Scheme,
    /// The stored tensor whose place it takes.
    codes: usize,
    /// The stored tensors that are hidden.
    sidecars: Vec<usize>,
}

/// Finds the packed tensors of one scheme.
type Finder = fn(&Stored<'_>) -> Result<Vec<Packed>>;

const FINDERS: &[Finder] = &[bnb::four_bit, bnb::int8, fp8::find, mxfp4::find];

/// The checkpoint with every packed weight as one tensor of numbers, and how they are packed; `None` if none is.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a scheme that cannot be decoded, with its name;
/// [`ErrorKind::File`](crate::ErrorKind::File) if tensors that belong together are missing or contradict each other.
pub fn view(
    checkpoint: &Arc<Checkpoint>,
    config: Option<&ModelConfig>,
) -> Result<Option<(Arc<dyn TensorSource>, Packing)>> {
    let stored = Stored::new(checkpoint, config);
    foreign::refuse(&stored)?;
    let mut packed = Vec::new();
    for find in FINDERS {
        packed.extend(find(&stored)?);
    }
    packed.sort_by_key(|p| p.codes);
    let Some(scheme) = most_frequent(&packed) else { return Ok(None) };
    let (view, tensors) = PackedView::new(Arc::clone(checkpoint), packed)?;
    Ok(Some((Arc::new(view), Packing { scheme, tensors })))
}

/// The scheme of most tensors; of equally many, the first.
fn most_frequent(packed: &[Packed]) -> Option<Scheme> {
    let mut counts: Vec<(Scheme, usize)> = Vec::new();
    for Packed { scheme, .. } in packed {
        match counts.iter_mut().find(|(counted, _)| counted == scheme) {
            Some((_, count)) => *count += 1,
            None => counts.push((*scheme, 1)),
        }
    }
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(scheme, _)| scheme)
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
