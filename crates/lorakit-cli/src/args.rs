//! The command line. Nothing outside this file and `command/` knows clap.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lorakit_tensor::DType;

use crate::units;

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  the input is bad, or the answer is
  2  the command line is wrong
  3  a file could not be read or written
  130  interrupted";

/// Merge, inspect and convert LoRA adapters. No Python, no GPU, memory that does not grow with the model.
#[derive(Debug, Parser)]
#[command(name = "lorakit", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Common {
    /// Print one JSON object instead of text; on failure, one on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Threads to use [default: one for each core]
    #[arg(short, long, global = true, value_name = "N", value_parser = threads, default_value = "0",
          hide_default_value = true)]
    pub(crate) threads: usize,
    /// Print results only, no notes and no progress
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Say what is decided for each tensor
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Show no progress bar
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    /// Read inputs by position instead of mapping them (network file systems)
    #[arg(long, global = true)]
    pub(crate) no_mmap: bool,
}

impl Common {
    pub(crate) fn read_mode(&self) -> lorakit_tensor::ReadMode {
        if self.no_mmap { lorakit_tensor::ReadMode::Positioned } else { lorakit_tensor::ReadMode::Mapped }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add adapters to a base model
    Merge(Merge),
    /// Show what an adapter or a model contains
    Inspect(Inspect),
    /// Turn a model into another format
    Convert(Convert),
    /// Print a completion script for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Options of every command that writes.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Where to write: a folder, or a file where the format is one
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Print the plan - files, tensors, size, memory - and write nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Replace an output that exists, once the new one is complete
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit merge base/ adapter/ -o merged/
  lorakit merge base/ style/=0.7 facts/=1.0 -o merged/
  lorakit merge base/ adapter/ -o merged/ --dry-run
  lorakit merge base/ adapter/ -o weights.safetensors    # the tensors alone")]
pub(crate) struct Merge {
    /// The base model: a folder, a safetensors or GGUF file
    pub(crate) base: PathBuf,
    /// Adapters, each with an optional weight (ADAPTER=0.7; 1 if none)
    #[arg(required = true, value_name = "ADAPTER[=WEIGHT]", value_parser = parse_weighted)]
    pub(crate) adapters: Vec<(PathBuf, f64)>,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Dtype of the output's tensors; `keep` leaves each its own, and writes a quantised GGUF base as bf16
    #[arg(long, value_name = "DTYPE", default_value = "keep", ignore_case = true)]
    pub(crate) dtype: DtypeChoice,
    /// Largest shard
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = units::parse_size)]
    pub(crate) max_shard_size: u64,
    /// Where an adapter changes one side of tied embeddings: write two tensors, or keep one (PEFT)
    #[arg(long, value_name = "HOW", default_value = "untie")]
    pub(crate) tied: TiedChoice,
    /// The base is the residual model that PiSSA, OLoRA, CorDA or LoftQ training saved
    #[arg(long)]
    pub(crate) residual_base: bool,
    /// Packing of expert factors in lora_B: PEFT's is rank_major
    #[arg(long, value_name = "LAYOUT", default_value = "auto")]
    pub(crate) moe_b_layout: MoeChoice,
    /// When sums are rounded; for comparisons with PEFT
    #[arg(long, value_name = "HOW", default_value = "once", hide = true)]
    pub(crate) rounding: RoundingChoice,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit inspect adapter/
  lorakit inspect adapter/ --norms
  lorakit inspect adapter/ --base base/
  lorakit inspect model.gguf")]
pub(crate) struct Inspect {
    /// Adapters and models: folders or files
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Read the values too: norm of each delta, NaN, factors that were never trained
    #[arg(long)]
    pub(crate) norms: bool,
    /// Check adapters against this base model: shapes, coverage, strength (implies --norms)
    #[arg(long, value_name = "BASE")]
    pub(crate) base: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit convert model.gguf -o model/ --to hf
  lorakit convert model-00001-of-00003.gguf -o model/ --to hf --dtype f16
  lorakit convert model/ -o model.gguf --to gguf
  lorakit convert model/ -o model.gguf --to gguf --dtype q8_0")]
pub(crate) struct Convert {
    /// The model: a GGUF file, or the first part of a split one; a Hugging Face folder
    pub(crate) source: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Format to convert to: `hf` is a Hugging Face folder, `gguf` a file for llama.cpp
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: ConvertTarget,
    /// Dtype of the tensors; `keep` writes quantised models as bf16, `q8_0` is for GGUF
    #[arg(long, value_name = "DTYPE", default_value = "keep", ignore_case = true)]
    pub(crate) dtype: ConvertDtype,
    /// How the tokenizer cuts text, by llama.cpp's name for it, where lorakit cannot tell (GGUF)
    #[arg(long, value_name = "NAME")]
    pub(crate) pre: Option<String>,
    /// Largest shard
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = units::parse_size)]
    pub(crate) max_shard_size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConvertTarget {
    Hf,
    Gguf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConvertDtype {
    Keep,
    #[value(aliases = ["float32", "fp32"])]
    F32,
    #[value(aliases = ["float16", "fp16"])]
    F16,
    #[value(alias = "bfloat16")]
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
}

impl ConvertDtype {
    pub(crate) fn dtype(self) -> Option<DType> {
        match self {
            ConvertDtype::Keep => None,
            ConvertDtype::F32 => Some(DType::F32),
            ConvertDtype::F16 => Some(DType::F16),
            ConvertDtype::Bf16 => Some(DType::BF16),
            ConvertDtype::Q8_0 => Some(DType::Q8_0),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DtypeChoice {
    Keep,
    #[value(aliases = ["float32", "fp32"])]
    F32,
    #[value(aliases = ["float16", "fp16"])]
    F16,
    #[value(alias = "bfloat16")]
    Bf16,
}

impl DtypeChoice {
    pub(crate) fn dtype(self) -> Option<DType> {
        match self {
            DtypeChoice::Keep => None,
            DtypeChoice::F32 => Some(DType::F32),
            DtypeChoice::F16 => Some(DType::F16),
            DtypeChoice::Bf16 => Some(DType::BF16),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TiedChoice {
    Untie,
    Share,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum MoeChoice {
    Auto,
    RankMajor,
    ExpertMajor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoundingChoice {
    Once,
    Peft,
    PeftSafe,
}

/// A number of threads; more than the largest machines have cores is a slip of the hand.
fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n <= 1024 => Ok(n),
        _ => Err("a number from 1 to 1024 is needed, or 0 for one for each core".into()),
    }
}

/// `PATH=WEIGHT`, or a path alone. A path that exists is never cut.
fn parse_weighted(text: &str) -> Result<(PathBuf, f64), String> {
    let whole = PathBuf::from(text);
    match text.rsplit_once('=') {
        Some((path, weight)) if !whole.exists() => {
            let weight: f64 = weight.parse().map_err(|_| format!("`{weight}` is not a number"))?;
            if !weight.is_finite() {
                return Err(format!("weight {weight} is not finite"));
            }
            Ok((PathBuf::from(path), weight))
        }
        _ => Ok((whole, 1.0)),
    }
}
