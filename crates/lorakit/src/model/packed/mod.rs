//! Quantised Hugging Face checkpoints seen as ordinary ones.
//!
//! A quantised weight consists of several stored tensors: codes, scales, tables. In their place, the view shows one
//! tensor of numbers, whose values are decoded as they are read:
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
//! The names and dtypes of the tensors take precedence over `quantization_config`, because programs that quantise only
//! some layers do not always list them. Schemes that cannot be decoded are refused by name.

mod bnb;
mod foreign;
mod fp8;
mod kind;
mod mxfp4;
mod problem;
mod result;
mod scheme;
mod stored;
mod view;
mod write;
mod write_mxfp4;

use std::sync::Arc;

use lorakit_tensor::{Checkpoint, DType, TensorSource};
use serde_json::Value;

pub use kind::PackedType;
use kind::PackingKind;
pub(crate) use problem::Problem;
pub(crate) use result::PackedModel;
use scheme::Packed;
pub use scheme::{FourBitParts, NestedScales, Packing, Scheme};
use stored::Stored;
use view::PackedView;

use crate::model::ModelConfig;
use crate::plan::{OutputTensor, Packer};
use crate::{Error, Model, Result};

/// Every known way to pack weights, in the order in which types that can be written are listed.
pub(crate) const PACKINGS: &[PackingKind] = &[
    bnb::FOUR_BIT,
    bnb::INT8,
    fp8::FP8,
    mxfp4::MXFP4,
    #[cfg(test)]
    tests::DUMMY,
];

const COUNT: usize = {
    let (mut count, mut kind) = (0, 0);
    while kind < PACKINGS.len() {
        count += PACKINGS[kind].types.len();
        kind += 1;
    }
    count
};

/// The types as which weights can be packed.
pub(crate) const TYPES: [PackedType; COUNT] = {
    let mut all = [PACKINGS[0].types[0]; COUNT];
    let (mut kind, mut next) = (0, 0);
    while kind < PACKINGS.len() {
        let mut place = 0;
        while place < PACKINGS[kind].types.len() {
            all[next] = PACKINGS[kind].types[place];
            (next, place) = (next + 1, place + 1);
        }
        kind += 1;
    }
    all
};

/// Packs those of `tensors` that `packer` handles; with `promote`, without those that adapters change. Readers get
/// values of `dtype`.
///
/// # Errors
/// `Unsupported` for a model whose weights cannot be packed that way.
pub(crate) fn pack(
    model: &Model,
    tensors: Vec<OutputTensor>,
    packer: Packer,
    dtype: DType,
    promote: bool,
) -> Result<PackedModel> {
    let kind = PACKINGS.iter().find(|kind| kind.packs(packer));
    let kind =
        kind.ok_or_else(|| Error::from(Problem::NotWritten { packing: packer.name() }).at(&model.path))?;
    (kind.pack)(model, tensors, packer, dtype, promote)
}

impl PackedModel {
    /// `quantization_config` of `config.json`; null for packings that are not written.
    pub(crate) fn quantization_config(&self) -> Value {
        let kind = PACKINGS.iter().find(|kind| kind.packs(self.packing));
        kind.map_or(Value::Null, |kind| (kind.config)(self))
    }
}

/// The checkpoint with every packed weight as one tensor of numbers, and how they are packed; `None` if no weight is
/// packed.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a scheme that cannot be decoded, with its name;
/// [`ErrorKind::File`](crate::ErrorKind::File) if tensors that belong together are missing or contradict each other.
pub(crate) fn view(
    checkpoint: &Arc<Checkpoint>,
    config: Option<&ModelConfig>,
) -> Result<Option<(Arc<dyn TensorSource>, Packing)>> {
    let stored = Stored::new(checkpoint, config);
    foreign::refuse(&stored)?;
    let mut packed = Vec::new();
    for kind in PACKINGS {
        packed.extend((kind.find)(&stored)?);
    }
    packed.sort_by_key(|p| p.codes);
    let Some(scheme) = most_frequent(&packed) else { return Ok(None) };
    let schemes = packed.iter().map(|packed| packed.scheme).collect();
    let four_bit = packed.iter().map(|packed| packed.weight.four_bit().cloned()).collect();
    let (view, tensors) = PackedView::new(Arc::clone(checkpoint), packed)?;
    Ok(Some((Arc::new(view), Packing { scheme, tensors, schemes, four_bit })))
}

/// The scheme of most tensors; ties go to the first.
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
mod tests;
