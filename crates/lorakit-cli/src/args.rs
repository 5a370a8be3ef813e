//! The command line. Nothing outside this file and `command/` knows clap.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, PathBufValueParser, PossibleValue, TypedValueParser};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use lorakit::fit::MoeLayout;
use lorakit::ops::combine::{METHODS, Method};
use lorakit::ops::extract::NamePattern;
use lorakit::ops::inspect::Runtime;
use lorakit::ops::quantize::QuantType;
use lorakit::ops::reduce::KohyaRule;
use lorakit_quant::mix::{FileType, TypeOverride, Unwritten, writable};
use lorakit_tensor::DType;

use crate::units;

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  the input is bad, or the answer is
  2  the command line is wrong
  3  a file could not be read or written, or changed while it was read
  129, 130, 143  stopped by SIGHUP, Ctrl-C (SIGINT), SIGTERM";

/// The workbench for LoRA adapters: merge, inspect, convert, quantise, reduce, combine. No Python, no GPU, memory that does not grow with the model.
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
    /// Turn an adapter or a model into another format
    Convert(Convert),
    /// Store a model in fewer bits: GGUF mixes, NF4, FP4, INT8, FP8, MXFP8, MXFP4
    Quantize(Quantize),
    /// Lower the rank of an adapter, losing as little as can be
    Reduce(Reduce),
    /// Combine adapters into one
    Combine(Combine),
    /// Take the adapter out of a fine-tuned model: what it is more than its base
    Extract(Extract),
    /// Check that a model is a base plus adapters, and say what it is if not
    Verify(Verify),
    /// Compare two adapters, or two models: what changed, by how much, in which direction
    Diff(Diff),
    /// Print a completion script for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

impl Command {
    /// Where the command writes, if nothing may be there.
    pub(crate) fn new_output(&self) -> Option<&Path> {
        let output = match self {
            Command::Merge(args) => &args.output,
            Command::Convert(args) => &args.output,
            Command::Reduce(args) => &args.output,
            Command::Combine(args) => &args.output,
            Command::Extract(args) => &args.output,
            Command::Quantize(args) => {
                return args.output.as_deref().filter(|_| !args.dry_run && !args.force);
            }
            Command::Inspect(_)
            | Command::Verify(_)
            | Command::Diff(_)
            | Command::Completions { .. }
            | Command::Man => return None,
        };
        (!output.dry_run && !output.force).then_some(&output.output)
    }
}

/// Options of every command that writes.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Where to write: a folder, or a file that ends in `.gguf` or `.safetensors`
    #[arg(short, long, value_name = "OUT", value_parser = output_path())]
    pub(crate) output: PathBuf,
    /// Print the plan - files, tensors, size, memory - and write nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Replace an output that exists, once the new one is complete
    #[arg(long)]
    pub(crate) force: bool,
    /// Refuse NaN and infinity also in tensors that are only copied; those of adapters are always read
    #[arg(long)]
    pub(crate) check_finite: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit merge base/ adapter/ -o merged/
  lorakit merge base/ style/=0.7 facts/=1.0 -o merged/
  lorakit merge base/ adapter/ -o merged/ --dry-run
  lorakit merge base/ adapter/ -o weights.safetensors    # the tensors alone
  lorakit merge base/ adapter/ -o merged.gguf --quantize Q4_K_M
  lorakit merge base/ adapter/ -o merged/ --quantize nf4")]
pub(crate) struct Merge {
    /// The base model: a folder, a safetensors or GGUF file
    pub(crate) base: PathBuf,
    /// Adapters, each with an optional weight (ADAPTER=0.7; 1 if none)
    #[arg(required = true, value_name = "ADAPTER[=WEIGHT]", value_parser = weighted())]
    pub(crate) adapters: Vec<(PathBuf, f64)>,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Dtype of the output's tensors; `keep` leaves each its own, and writes a quantised GGUF base as bf16
    #[arg(long, value_name = "DTYPE", default_value = "keep", ignore_case = true)]
    pub(crate) dtype: DtypeChoice,
    /// Format of the output; a name that ends in `.gguf` says it too
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<MergeFormat>,
    /// Quantise the sum, once: a type of `lorakit quantize --list`, or `keep` for those of a GGUF base
    #[arg(long, value_name = "TYPE", value_parser = quantize_type, conflicts_with = "dtype")]
    pub(crate) quantize: Option<MergeQuantize>,
    /// Give tensors that adapters change at least this type (16 bits in a packed folder)
    #[arg(long, value_name = "TYPE", num_args = 0..=1, default_missing_value = "Q6_K", value_parser = gguf_type,
          requires = "quantize")]
    pub(crate) promote: Option<DType>,
    /// Largest shard of a folder
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
    #[command(flatten)]
    pub(crate) mixing: Mixing,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit inspect adapter/
  lorakit inspect adapter/ --norms
  lorakit inspect adapter/ --spectrum
  lorakit inspect adapter/ --base base/
  lorakit inspect adapter/ --for llama.cpp --base base/
  lorakit inspect adapter/ --html report.html
  lorakit inspect model.gguf")]
pub(crate) struct Inspect {
    /// Adapters and models: folders or files
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Read the values too: norm of each delta, NaN, factors that were never trained
    #[arg(long)]
    pub(crate) norms: bool,
    /// Compute the singular values of each delta: how much of its rank is in use (implies --norms)
    #[arg(long)]
    pub(crate) spectrum: bool,
    /// Write the reports as one page for a browser, with figures; it loads nothing (implies --spectrum)
    #[arg(long, value_name = "FILE", value_parser = output_path())]
    pub(crate) html: Option<PathBuf>,
    /// Replace a page that exists
    #[arg(long, requires = "html")]
    pub(crate) force: bool,
    /// Check adapters against this base model: shapes, coverage, strength (implies --norms)
    #[arg(long, value_name = "BASE")]
    pub(crate) base: Option<PathBuf>,
    /// Ask whether a program takes the adapter, and what to do if not; fails then
    #[arg(long = "for", value_name = "RUNTIME")]
    pub(crate) runtime: Option<RuntimeChoice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuntimeChoice {
    Vllm,
    #[value(name = "llama.cpp", alias = "llama-cpp")]
    LlamaCpp,
    Ollama,
    #[value(alias = "lorax")]
    Tgi,
    Peft,
    #[value(alias = "mlx-lm")]
    Mlx,
    Diffusers,
}

impl RuntimeChoice {
    pub(crate) fn runtime(self) -> Runtime {
        match self {
            RuntimeChoice::Vllm => Runtime::Vllm,
            RuntimeChoice::LlamaCpp => Runtime::LlamaCpp,
            RuntimeChoice::Ollama => Runtime::Ollama,
            RuntimeChoice::Tgi => Runtime::Tgi,
            RuntimeChoice::Peft => Runtime::Peft,
            RuntimeChoice::Mlx => Runtime::Mlx,
            RuntimeChoice::Diffusers => Runtime::Diffusers,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit convert adapter/ -o adapter.gguf --to gguf --base model/
  lorakit convert adapter.safetensors -o adapter/ --to diffusers
  lorakit convert mlx-adapter/ -o adapter/ --to peft --dry-run
  lorakit convert model.gguf -o model/ --to hf
  lorakit convert model/ -o model.gguf --to gguf --dtype bf16")]
pub(crate) struct Convert {
    /// The adapter, in any format, or the model: a GGUF file (of a split one the first part), or a folder
    pub(crate) source: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Format to convert to; models are `hf` or `gguf`
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: ConvertTarget,
    /// Adapters: the model it belongs to, a folder or file; `config.json` alone is enough for most formats
    #[arg(long, value_name = "BASE")]
    pub(crate) base: Option<PathBuf>,
    /// Adapters: approximate what has no small factors (LoHa, LoKr) by factors of rank N
    #[arg(long, value_name = "rank=N", value_parser = rank)]
    pub(crate) approximate: Option<usize>,
    /// Adapters: turn DoRA into the nearest LoRA of rank `--rank`; needs `--base`
    #[arg(long, requires_all = ["base", "rank"])]
    pub(crate) dora_to_lora: bool,
    /// Adapters: one rank and one scale for all modules, as vLLM and TGI need it
    #[arg(long)]
    pub(crate) uniform: bool,
    /// Adapters: the rank for `--dora-to-lora`
    #[arg(long, value_name = "N", value_parser = rank, requires = "dora_to_lora")]
    pub(crate) rank: Option<usize>,
    /// Dtype of the tensors; `keep` writes quantised models as bf16
    #[arg(long, value_name = "DTYPE", default_value = "keep", ignore_case = true)]
    pub(crate) dtype: ConvertDtype,
    /// Largest shard of a folder
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = units::parse_size)]
    pub(crate) max_shard_size: u64,
    /// GGUF: name of the pre-tokenizer, where it cannot be found out
    #[arg(long, value_name = "NAME")]
    pub(crate) pre: Option<String>,
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

#[derive(Debug, Args)]
#[command(
    override_usage = "lorakit quantize [OPTIONS] --type <TYPE> --output <OUT> <MODEL>
       lorakit quantize --list",
    after_help = "Examples:
  lorakit quantize --list
  lorakit quantize model/ -o model.gguf --type Q4_K_M
  lorakit quantize model.gguf -o small.gguf --type IQ4_XS --imatrix imatrix.gguf
  lorakit quantize model/ -o model-nf4/ --type nf4 --double-quant
  lorakit quantize model/ -o model.gguf --type Q4_K_M --tensor-type 'ffn_down=Q8_0' --dry-run"
)]
pub(crate) struct Quantize {
    /// The model: a Hugging Face folder, or a GGUF file
    #[arg(required_unless_present = "list")]
    pub(crate) model: Option<PathBuf>,
    /// Where to write: a file for GGUF types, a folder for the others
    #[arg(short, long, value_name = "OUT", value_parser = output_path(), required_unless_present = "list")]
    pub(crate) output: Option<PathBuf>,
    /// The type: see `--list`
    #[arg(long = "type", value_name = "TYPE", value_parser = quant_type, required_unless_present = "list")]
    pub(crate) kind: Option<QuantType>,
    /// List the types with their bits for each weight
    #[arg(long, conflicts_with_all = ["model", "output", "kind"])]
    pub(crate) list: bool,
    /// Print the plan - every tensor, its type and why, the size - and write nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Replace an output that exists, once the new one is complete
    #[arg(long)]
    pub(crate) force: bool,
    /// Refuse NaN and infinity also in tensors that are only copied
    #[arg(long)]
    pub(crate) check_finite: bool,
    /// Accept a model that is quantised already
    #[arg(long)]
    pub(crate) requantize: bool,
    /// Largest shard of a folder
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = units::parse_size)]
    pub(crate) max_shard_size: u64,
    #[command(flatten)]
    pub(crate) mixing: Mixing,
}

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("rule").args(["energy", "max_error", "kohya", "budget", "target_size"])),
    after_help = "Examples:
  lorakit reduce adapter/ -o small/ --rank 16
  lorakit reduce adapter/ -o small/ --energy 0.99              # of each module
  lorakit reduce adapter/ -o small/ --max-error 0.05 --rank 32 # of each module, and never above 32
  lorakit reduce adapter/ -o small/ --target-size 20MB         # ranks where they keep most
  lorakit reduce lora.safetensors -o small.safetensors --kohya sv_fro=0.9"
)]
pub(crate) struct Reduce {
    /// The adapter: a folder or file, in any format
    pub(crate) adapter: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
    /// The rank of every module; beside another rule, the highest it may choose
    #[arg(long, value_name = "N", value_parser = rank)]
    pub(crate) rank: Option<usize>,
    /// Keep this share of each module's energy (squared singular values), e.g. 0.99
    #[arg(long, value_name = "E", value_parser = share)]
    pub(crate) energy: Option<f64>,
    /// Allow each module this error, relative to the norm of its delta, e.g. 0.05
    #[arg(long, value_name = "E", value_parser = share)]
    pub(crate) max_error: Option<f64>,
    /// Spend this many parameters on all modules together, where they keep most energy, e.g. 5M
    #[arg(long, value_name = "PARAMS", value_parser = units::parse_count)]
    pub(crate) budget: Option<u64>,
    /// The same, with the size of the output, all files together
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) target_size: Option<u64>,
    /// As kohya's `resize_lora.py` chooses: sv_ratio=T, sv_fro=T or sv_cumulative=T
    #[arg(long, value_name = "RULE=T", value_parser = kohya_rule)]
    pub(crate) kohya: Option<KohyaRule>,
    /// Which edition of that script: `legacy`, before its pull request 2194, takes one rank more
    #[arg(long, value_name = "EDITION", default_value = "current", requires = "kohya")]
    pub(crate) kohya_edition: KohyaEditionChoice,
    #[command(flatten)]
    pub(crate) written: WrittenAs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit combine style/=0.7 facts/=0.3 -o both/
  lorakit combine style/ facts/ -o both/ --dry-run             # do they get in each other's way?
  lorakit combine style/ facts/=-0.5 -o both/ --method cat     # exact, ranks add up
  lorakit combine a/ b/ c/ -o all/ --method ties_svd --density 0.4 --rank 32
  lorakit combine a/ b/ -o both/ --method dare_ties --density 0.5 --style mergekit --seed 7")]
pub(crate) struct Combine {
    /// Adapters in any format, each with an optional weight (ADAPTER=0.7; 1 if none)
    #[arg(required = true, value_name = "ADAPTER[=WEIGHT]", value_parser = weighted())]
    pub(crate) adapters: Vec<(PathBuf, f64)>,
    #[command(flatten)]
    pub(crate) output: Output,
    /// How: svd (nearest to the weighted sum), cat (exactly that), or one of PEFT's other methods: linear, ties,
    /// dare_linear, dare_ties, magnitude_prune (on factors); ties_svd, dare_linear_svd, dare_ties_svd,
    /// magnitude_prune_svd (on deltas)
    #[arg(long, value_name = "METHOD", default_value = "svd", value_parser = method)]
    pub(crate) method: Method,
    /// Rank of the result, for svd and the methods in _svd [default: the highest of the adapters]
    #[arg(long, value_name = "N", value_parser = rank)]
    pub(crate) rank: Option<usize>,
    /// Share of the entries that ties, dare and magnitude_prune keep, e.g. 0.5
    #[arg(long, value_name = "D", value_parser = share)]
    pub(crate) density: Option<f64>,
    /// ties: elect the sign of the sum, or that of more entries
    #[arg(long, value_name = "HOW", default_value = "total")]
    pub(crate) majority_sign: MajorityChoice,
    /// dare: where random numbers start, the same on every machine [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Whose definitions: PEFT's with its scale of rsLoRA put right, PEFT's with that mistake, or mergekit's
    #[arg(long, value_name = "STYLE", default_value = "fixed")]
    pub(crate) style: StyleChoice,
    #[command(flatten)]
    pub(crate) written: WrittenAs,
}

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
    /// The model that came out, with the same tensors
    pub(crate) tuned: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
    /// The rank of every module; beside another rule, the highest it may choose
    #[arg(long, value_name = "N", value_parser = rank)]
    pub(crate) rank: Option<usize>,
    /// Keep this share of each module's energy (squared singular values), e.g. 0.95
    #[arg(long, value_name = "E", value_parser = share, conflicts_with = "auto")]
    pub(crate) energy: Option<f64>,
    /// Keep what stands out of the noise that rounding to the tuned model's dtype left
    #[arg(long)]
    pub(crate) auto: bool,
    /// Embeddings that changed: save them whole, give them factors, or leave the base's
    #[arg(long, value_name = "HOW", default_value = "whole")]
    pub(crate) embeddings: EmbeddingsChoice,
    /// Leave tensors whose name matches as they are in the base; may be repeated
    #[arg(long, value_name = "REGEX")]
    pub(crate) skip: Vec<NamePattern>,
    /// Format of the output [default: gguf if its name ends so, else peft]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: Option<AdapterFormat>,
    /// What the output calls its base, e.g. OWNER/NAME [default: the name in its config.json, or of its folder]
    #[arg(long, value_name = "NAME")]
    pub(crate) base_name: Option<String>,
    /// Dtype of the factors
    #[arg(long, value_name = "DTYPE", default_value = "f32", ignore_case = true)]
    pub(crate) dtype: FactorDtype,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EmbeddingsChoice {
    Whole,
    Factors,
    Skip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FactorDtype {
    #[value(aliases = ["float32", "fp32"])]
    F32,
    #[value(aliases = ["float16", "fp16"])]
    F16,
    #[value(alias = "bfloat16")]
    Bf16,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit verify merged/ --base base/ --adapter adapter/
  lorakit verify merged/ --base base/ --adapter style/=0.7 --adapter facts/
  lorakit verify merged-q8_0.gguf --base base/ --adapter adapter/")]
pub(crate) struct Verify {
    /// The model in question: a folder or file, made by any program
    pub(crate) merged: PathBuf,
    /// The base it should come from: a folder or file
    #[arg(long, value_name = "BASE")]
    pub(crate) base: PathBuf,
    /// The adapter that should be in it, with an optional weight (ADAPTER=0.7; 1 if none); may be repeated
    #[arg(long = "adapter", required = true, value_name = "ADAPTER[=WEIGHT]", value_parser = weighted())]
    pub(crate) adapters: Vec<(PathBuf, f64)>,
    /// The base is the residual model that PiSSA, OLoRA, CorDA or LoftQ training saved
    #[arg(long)]
    pub(crate) residual_base: bool,
    /// Packing of expert factors in lora_B: PEFT's is rank_major
    #[arg(long, value_name = "LAYOUT", default_value = "auto")]
    pub(crate) moe_b_layout: MoeChoice,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit diff one/ two/                          # two adapters, in any formats
  lorakit diff adapter/ adapter.gguf --base base/ # formats that need the base
  lorakit diff base/ tuned/                       # two models
  lorakit diff base/ base-q8_0.gguf               # what quantising lost
  lorakit diff tuned/ other/ --base base/         # do two fine-tunes pull the same way?
  lorakit diff one/ two/ --exit-code --quiet      # for scripts")]
pub(crate) struct Diff {
    /// A: an adapter or a model, a folder or file
    pub(crate) a: PathBuf,
    /// B: another of the same kind, in any format
    pub(crate) b: PathBuf,
    /// The base model of both: some formats of adapters need it; of models, what each adds to it is compared
    #[arg(long, value_name = "BASE")]
    pub(crate) base: Option<PathBuf>,
    /// Exit with 1 if they differ
    #[arg(long)]
    pub(crate) exit_code: bool,
}

/// What adapters are written as.
#[derive(Debug, Args)]
pub(crate) struct WrittenAs {
    /// Format of the output [default: that of the input, or peft]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) to: Option<AdapterFormat>,
    /// The model it belongs to, where the format needs one: a folder or file
    #[arg(long, value_name = "BASE")]
    pub(crate) base: Option<PathBuf>,
    /// Dtype of the factors
    #[arg(long, value_name = "DTYPE", default_value = "keep", ignore_case = true)]
    pub(crate) dtype: DtypeChoice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KohyaEditionChoice {
    Current,
    Legacy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MajorityChoice {
    Total,
    Frequency,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StyleChoice {
    Fixed,
    Peft,
    Mergekit,
}

/// How types are chosen, wherever something is quantised.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of quantisation")]
pub(crate) struct Mixing {
    /// GGUF: importances of columns, a file of llama.cpp's `llama-imatrix`
    #[arg(long, value_name = "FILE")]
    pub(crate) imatrix: Option<PathBuf>,
    /// GGUF: type of tensors whose name matches; the first that matches counts
    #[arg(long, value_name = "REGEX=TYPE", value_parser = type_override)]
    pub(crate) tensor_type: Vec<TypeOverride>,
    /// GGUF: type of the output matrix
    #[arg(long, value_name = "TYPE", value_parser = gguf_type)]
    pub(crate) output_tensor_type: Option<DType>,
    /// GGUF: type of the token embedding
    #[arg(long, value_name = "TYPE", value_parser = gguf_type)]
    pub(crate) token_embedding_type: Option<DType>,
    /// GGUF: one type for all tensors, without the rules of the mix
    #[arg(long)]
    pub(crate) pure: bool,
    /// GGUF: refuse where rows do not divide into blocks, instead of falling back to another type
    #[arg(long)]
    pub(crate) no_fallback: bool,
    /// GGUF: name of the pre-tokenizer, where it cannot be found out
    #[arg(long, value_name = "NAME")]
    pub(crate) pre: Option<String>,
    /// nf4, fp4: quantise the scales too
    #[arg(long)]
    pub(crate) double_quant: bool,
    /// nf4, fp4: values that share a scale; transformers loads 64 only
    #[arg(long, value_name = "N", default_value = "64", value_parser = block_size)]
    pub(crate) block_size: usize,
}

/// What a merge is quantised to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergeQuantize {
    Keep,
    To(QuantType),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MergeFormat {
    Safetensors,
    Gguf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConvertTarget {
    /// A model as a Hugging Face folder
    Hf,
    /// A model or an adapter as a file for llama.cpp
    Gguf,
    /// An adapter for PEFT, vLLM, TGI: a folder
    Peft,
    /// An adapter for mlx-lm: a folder
    Mlx,
    /// An adapter for sd-scripts and its like: a `.safetensors` file
    Kohya,
    /// An adapter for diffusers: a folder
    Diffusers,
    /// An adapter for torchtune: a folder
    Torchtune,
}

impl ConvertTarget {
    /// The name of the adapter format.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ConvertTarget::Hf => "hf",
            ConvertTarget::Gguf => "gguf",
            ConvertTarget::Peft => "peft",
            ConvertTarget::Mlx => "mlx",
            ConvertTarget::Kohya => "kohya",
            ConvertTarget::Diffusers => "diffusers",
            ConvertTarget::Torchtune => "torchtune",
        }
    }
}

/// A format that adapters have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AdapterFormat(pub(crate) ConvertTarget);

impl ValueEnum for AdapterFormat {
    fn value_variants<'a>() -> &'a [Self] {
        use ConvertTarget::*;
        const ALL: &[AdapterFormat] = &[
            AdapterFormat(Gguf),
            AdapterFormat(Peft),
            AdapterFormat(Mlx),
            AdapterFormat(Kohya),
            AdapterFormat(Diffusers),
            AdapterFormat(Torchtune),
        ];
        ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self.0 {
            ConvertTarget::Gguf => Some(PossibleValue::new("gguf").help("An adapter for llama.cpp: a file")),
            target => target.to_possible_value(),
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

impl MoeChoice {
    pub(crate) fn layout(self) -> MoeLayout {
        match self {
            MoeChoice::Auto => MoeLayout::Auto,
            MoeChoice::RankMajor => MoeLayout::RankMajor,
            MoeChoice::ExpertMajor => MoeLayout::ExpertMajor,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoundingChoice {
    Once,
    Peft,
    PeftSafe,
}

fn quantize_type(text: &str) -> Result<MergeQuantize, String> {
    match text {
        _ if text.eq_ignore_ascii_case("keep") => Ok(MergeQuantize::Keep),
        _ => quant_type(text).map(MergeQuantize::To),
    }
}

fn quant_type(text: &str) -> Result<QuantType, String> {
    QuantType::from_name(text).ok_or_else(|| {
        if let Some(known) = Unwritten::from_name(text) {
            let [first, second] = known.nearest();
            return format!(
                "it can be read, but not written yet; the nearest types that can be written are {first} and {second}"
            );
        }
        if let Ok(dtype) = writable(text) {
            return format!("no mix of it exists; single tensors can have it: `--tensor-type REGEX={dtype}`");
        }
        let packed = QuantType::PACKED.iter().map(|packed| packed.name);
        let names: Vec<&str> = FileType::ALL.iter().map(|mix| mix.name()).chain(packed).collect();
        let close = |name: &&&str| strsim::jaro_winkler(&name.to_lowercase(), &text.to_lowercase());
        let nearest = names.iter().max_by(|a, b| close(a).total_cmp(&close(b)));
        let nearest = nearest.map_or_else(String::new, |name| format!("; the nearest is `{name}`"));
        format!("no such type{nearest}; `lorakit quantize --list` shows them all")
    })
}

fn gguf_type(text: &str) -> Result<DType, String> {
    writable(text).map_err(|e| e.to_string())
}

fn type_override(text: &str) -> Result<TypeOverride, String> {
    TypeOverride::parse(text).map_err(|e| e.to_string())
}

fn block_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ (32 | 64 | 128 | 256 | 512 | 1024 | 2048 | 4096)) => Ok(n),
        _ => Err("a power of two from 32 to 4096 is needed".into()),
    }
}

/// A rank, `16` or `rank=16`.
fn rank(text: &str) -> Result<usize, String> {
    match text.strip_prefix("rank=").unwrap_or(text).parse() {
        Ok(n) if (1..=65536).contains(&n) => Ok(n),
        _ => Err("a whole number from 1 to 65536 is needed".into()),
    }
}

/// A share, above 0 and at most 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("a number above 0 and at most 1 is needed".into()),
    }
}

fn kohya_rule(text: &str) -> Result<KohyaRule, String> {
    let needed = || "sv_ratio=T, sv_fro=T or sv_cumulative=T is needed, with a positive number T".to_string();
    let (rule, target) = text.split_once('=').ok_or_else(needed)?;
    let target: f64 = target.parse().ok().filter(|t: &f64| t.is_finite() && *t > 0.0).ok_or_else(needed)?;
    match rule {
        "sv_ratio" => Ok(KohyaRule::Ratio(target)),
        "sv_fro" => Ok(KohyaRule::Fro(target)),
        "sv_cumulative" => Ok(KohyaRule::Cumulative(target)),
        _ => Err(needed()),
    }
}

fn method(text: &str) -> Result<Method, String> {
    Method::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = METHODS.iter().map(|(name, _)| *name).collect();
        format!("there are {}", names.join(", "))
    })
}

/// A number of threads; more than the largest machines have cores is a slip of the hand.
fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n <= 1024 => Ok(n),
        _ => Err("a number from 1 to 1024 is needed, or 0 for one for each core".into()),
    }
}

/// Parses [`parse_weighted`]; names of files are bytes and need not be UTF-8.
fn weighted() -> impl TypedValueParser<Value = (PathBuf, f64)> {
    OsStringValueParser::new().try_map(parse_weighted)
}

/// `PATH=WEIGHT`, or a path alone. A path that exists is never cut.
fn parse_weighted(text: OsString) -> Result<(PathBuf, f64), String> {
    let whole = PathBuf::from(text);
    let bytes = whole.as_os_str().as_bytes();
    match bytes.iter().rposition(|&byte| byte == b'=') {
        Some(at) if !whole.exists() => {
            let weight = String::from_utf8_lossy(&bytes[at + 1..]);
            let weight: f64 = weight.parse().map_err(|_| format!("`{weight}` is not a number"))?;
            if !weight.is_finite() {
                return Err(format!("weight {weight} is not finite"));
            }
            Ok((PathBuf::from(OsStr::from_bytes(&bytes[..at])), weight))
        }
        _ => Ok((whole, 1.0)),
    }
}

/// The path of an output. What is written is a folder, or is complete before it gets its name: no stream.
fn output_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.as_os_str() == "-" {
        true => Err("output goes to a file or folder, not to standard output"),
        false => Ok(path),
    })
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;

    use clap::CommandFactory;

    use super::*;

    /// Who adds an option that names a path adds it to the tests of what is read and what is written.
    #[test]
    fn every_option_that_names_a_path_is_known() {
        let mut found = Vec::new();
        for verb in Cli::command().get_subcommands() {
            for option in verb.get_arguments() {
                let parsed = option.get_value_parser().type_id();
                if parsed == TypeId::of::<PathBuf>() || parsed == TypeId::of::<(PathBuf, f64)>() {
                    found.push(format!("{} {}", verb.get_name(), option.get_id()));
                }
            }
        }
        insta::assert_snapshot!(found.join("\n"), @"
        merge base
        merge adapters
        merge output
        merge imatrix
        inspect paths
        inspect html
        inspect base
        convert source
        convert output
        convert base
        quantize model
        quantize output
        quantize imatrix
        reduce adapter
        reduce output
        reduce base
        combine adapters
        combine output
        combine base
        extract base
        extract tuned
        extract output
        verify merged
        verify base
        verify adapters
        diff a
        diff b
        diff base
        ");
    }
}
