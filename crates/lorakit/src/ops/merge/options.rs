//! What to merge, and where it goes.

use std::path::PathBuf;

use lorakit_tensor::{DType, ReadMode};

use super::Sum;
use crate::lineage::Lineage;
use crate::ops::MAX_SHARD;
use crate::ops::quantize::Quantization;

/// Below this share, the merged model is the base rather than a merge.
pub const MIN_RETENTION: f64 = 0.5;

/// What to merge, and where it goes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MergeOptions {
    /// What is added up.
    pub sum: Sum,
    /// The output folder, or file if it ends in `.safetensors` or `.gguf`.
    pub output: PathBuf,
    /// Replace an output that exists.
    pub replace: bool,
    /// Dtype of the output's floating-point tensors; each keeps its own by default.
    pub dtype: Option<DType>,
    /// What the sum is quantised to; by default it is written as floats, to safetensors.
    pub quantization: Option<Quantization>,
    /// The name of the pre-tokenizer for GGUF files, if it cannot be identified.
    pub pre: Option<String>,
    /// Largest shard, in bytes.
    pub max_shard: u64,
    /// Share of the adapters that must survive being stored; an output that keeps less is not published.
    pub min_retention: f64,
    /// When the output says where it came from.
    pub lineage: Lineage,
    /// Whether an output folder gets a model card.
    pub card: bool,
    /// Search tensors for NaN and infinity even if they are only copied.
    pub check_finite: bool,
    /// How inputs are read.
    pub mode: ReadMode,
}

impl MergeOptions {
    /// Default options for a sum and an output.
    pub fn new(sum: Sum, output: impl Into<PathBuf>) -> Self {
        MergeOptions {
            sum,
            output: output.into(),
            replace: false,
            dtype: None,
            quantization: None,
            pre: None,
            max_shard: MAX_SHARD,
            min_retention: MIN_RETENTION,
            lineage: Lineage::default(),
            card: true,
            check_finite: false,
            mode: ReadMode::default(),
        }
    }
}

crate::ops::setters! { MergeOptions {
    with_replace: replace: bool,
    with_dtype: dtype: Option<DType>,
    with_quantization: quantization: Option<Quantization>,
    with_pre: pre: Option<String>,
    with_max_shard: max_shard: u64,
    with_min_retention: min_retention: f64,
    with_lineage: lineage: Lineage,
    with_card: card: bool,
    with_check_finite: check_finite: bool,
    with_mode: mode: ReadMode,
} }
