//! `lorakit convert`.

use std::path::PathBuf;

use clap::Args;

use super::formats::{self, Format};
use super::output::Output;
use super::values::{DtypeOrKeep, converted, rank};
use crate::units;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit convert adapter/ -o adapter.gguf --to gguf --base model/
  lorakit convert adapter/ -o adapter.gguf --to gguf --base model/ --dtype q8_0
  lorakit convert adapter.safetensors -o adapter/ --to diffusers
  lorakit convert mlx-adapter/ -o adapter/ --to peft --dry-run
  lorakit convert model.gguf -o model/ --to hf
  lorakit convert model/ -o model.gguf --to gguf --dtype bf16")]
pub(crate) struct Convert {
    /// An adapter in any format, or a model: a folder, or a GGUF file (the first part if it is split)
    pub(crate) source: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Format to convert to; models are `hf` or `gguf`
    #[arg(long, value_name = "FORMAT", value_parser = formats::any())]
    pub(crate) to: Format,
    /// Adapters: the base model, a folder or file; its `config.json` alone is enough for most formats
    #[arg(long, value_name = "BASE")]
    pub(crate) base: Option<PathBuf>,
    /// Adapters: approximate methods without small factors (LoHa, LoKr) by a LoRA of rank N
    #[arg(long, value_name = "rank=N", value_parser = rank)]
    pub(crate) approximate: Option<usize>,
    /// Adapters: turn DoRA into the nearest LoRA of rank `--rank`; needs `--base`
    #[arg(long, requires_all = ["base", "rank"])]
    pub(crate) dora_to_lora: bool,
    /// Adapters: one rank and one scale for all modules, which vLLM and TGI require
    #[arg(long)]
    pub(crate) uniform: bool,
    /// Adapters: the rank for `--dora-to-lora`
    #[arg(long, value_name = "N", value_parser = rank, requires = "dora_to_lora")]
    pub(crate) rank: Option<usize>,
    /// Dtype of the tensors; `keep` writes quantised models as bf16; q8_0 is for GGUF, q4_0 for adapters in GGUF
    #[arg(long, value_name = "DTYPE", default_value = "keep", ignore_case = true, value_parser = converted())]
    pub(crate) dtype: DtypeOrKeep,
    /// Maximum size of a shard
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = units::parse_size)]
    pub(crate) max_shard_size: u64,
    /// GGUF: name of the pre-tokenizer, if it cannot be identified
    #[arg(long, value_name = "NAME")]
    pub(crate) pre: Option<String>,
}
