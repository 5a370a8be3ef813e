//! `lorakit extract`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use lorakit::DType;
use lorakit::ops::extract::{Embeddings, NamePattern};

use super::formats::{self, Format};
use super::output::Output;
use super::values::{choice, float, rank, share};

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("ranks").args(["rank", "energy", "auto"]).multiple(true).required(true)),
    after_help = "Examples:
  lorakit extract base/ tuned/ -o adapter/ --auto              # what stands out of rounding noise
  lorakit extract base/ tuned/ -o adapter/ --rank 32
  lorakit extract base/ tuned/ -o adapter/ --energy 0.95 --rank 128
  lorakit extract base/ tuned/ -o adapter.safetensors --rank 16 --to kohya
  lorakit extract base/ tuned/ -o adapter/ --auto --skip norm --embeddings skip"
)]
pub(crate) struct Extract {
    /// The model that training started from: a folder or file
    pub(crate) base: PathBuf,
    /// The fine-tuned model, with the same tensors
    pub(crate) tuned: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
    /// The rank of every module; with another rule, the highest rank it may choose
    #[arg(long, value_name = "N", value_parser = rank)]
    pub(crate) rank: Option<usize>,
    /// Keep this share of each module's energy (squared singular values), e.g. 0.95
    #[arg(long, value_name = "E", value_parser = share, conflicts_with = "auto")]
    pub(crate) energy: Option<f64>,
    /// Keep what stands out from the rounding noise of the tuned model's dtype
    #[arg(long)]
    pub(crate) auto: bool,
    /// What to do with changed embeddings
    #[arg(long, value_name = "HOW", default_value = "whole", value_parser = choice::<Embeddings>())]
    pub(crate) embeddings: Embeddings,
    /// Skip tensors whose name matches; may be repeated
    #[arg(long, value_name = "REGEX")]
    pub(crate) skip: Vec<NamePattern>,
    /// Format of the output [default: gguf for a name ending in `.gguf`, else peft]
    #[arg(long, value_name = "FORMAT", value_parser = formats::of_adapters())]
    pub(crate) to: Option<Format>,
    /// Name of the base to record, e.g. OWNER/NAME [default: from its config.json, or its folder's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) base_name: Option<String>,
    /// Dtype of the factors
    #[arg(long, value_name = "DTYPE", default_value = "f32", ignore_case = true, value_parser = float())]
    pub(crate) dtype: DType,
}
