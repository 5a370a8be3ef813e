//! How frozen linears are stored while adapters are trained on them.

use std::fmt;

use lorakit_tensor::DType;

/// How the linears of a base are stored in memory. Embeddings and head keep the type of the file, as bitsandbytes leaves
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quant {
    /// NF4 of bitsandbytes in blocks of 64, which is QLoRA's base.
    Nf4 {
        /// Whether the scales are quantised too.
        double: bool,
    },
    /// f32.
    F32,
    /// f16.
    F16,
    /// bf16.
    Bf16,
    /// What the files hold: blocks of GGUF, NF4 and FP4 of bitsandbytes, floats.
    Keep,
}

impl Quant {
    /// The usual one: files that are quantised are trained on as they are, others in doubly quantised NF4.
    pub fn usual(model: &lorakit::Model) -> Self {
        if model.is_gguf() || model.packing.is_some() { Quant::Keep } else { Quant::Nf4 { double: true } }
    }

    /// The name: `nf4`, `f32`, `f16`, `bf16`, `keep`.
    pub fn name(self) -> &'static str {
        match self {
            Quant::Nf4 { .. } => "nf4",
            Quant::F32 => "f32",
            Quant::F16 => "f16",
            Quant::Bf16 => "bf16",
            Quant::Keep => "keep",
        }
    }

    /// The dtype of single values, if it has one.
    pub(super) fn dtype(self) -> Option<DType> {
        match self {
            Quant::F32 => Some(DType::F32),
            Quant::F16 => Some(DType::F16),
            Quant::Bf16 => Some(DType::BF16),
            Quant::Nf4 { .. } | Quant::Keep => None,
        }
    }
}

impl fmt::Display for Quant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
