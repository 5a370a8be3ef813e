//! `lorakit merge`.

use std::path::PathBuf;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use lorakit::DType;
use lorakit::ops::merge::{MergeRounding, MoeLayout, Tied};
use lorakit::ops::quantize::QuantType;
use lorakit_quant::mix::FileType;

use super::listed::Offered;
use super::output::Output;
use super::quantize::{Mixing, gguf_types, quant_type, type_names};
use super::strength::Strength;
use super::values::{DtypeOrKeep, choice, float_or_keep, is_gguf_file, weighted};
use crate::units;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit merge base/ adapter/ -o merged/
  lorakit merge base/ style/=0.7 facts/=1.0 -o merged/
  lorakit merge base/ adapter/ -o merged/ --dry-run
  lorakit merge base/ adapter/ -o weights.safetensors    # the tensors alone
  lorakit merge base/ adapter/ -o merged.gguf --quantize Q4_K_M
  lorakit merge base/ adapter/ -o merged/ --quantize nf4
  lorakit merge base/ adapter/ -o merged/ --only self_attn --weight 'layers\\.[0-5]\\.=0.5'
  lorakit merge merged/ adapter/=-1 -o base/             # take it out again")]
pub(crate) struct Merge {
    /// The base model: a folder, a safetensors or GGUF file
    pub(crate) base: PathBuf,
    /// Adapters, each with an optional weight (ADAPTER=0.7; 1 if none)
    #[arg(required = true, value_name = "ADAPTER[=WEIGHT]", value_parser = weighted())]
    pub(crate) adapters: Vec<(PathBuf, f64)>,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) strength: Strength,
    /// Dtype of the output; `keep`: the same as the base (a quantised GGUF base becomes bf16)
    #[arg(long, value_name = "DTYPE", default_value = "keep", ignore_case = true, value_parser = float_or_keep())]
    pub(crate) dtype: DtypeOrKeep,
    /// Format of the output; a name ending in `.gguf` implies GGUF
    #[arg(long, value_name = "FORMAT", ignore_case = true)]
    pub(crate) format: Option<MergeFormat>,
    /// Quantise the sum once: a type from `lorakit quantize --list`, or `keep` for the types of a GGUF base
    #[arg(long, value_name = "TYPE", value_parser = quantize_types(), conflicts_with = "dtype",
          hide_possible_values = true, alias = "quantise")]
    pub(crate) quantize: Option<MergeQuantize>,
    /// Use at least this type for tensors that adapters change (16 bits in a packed folder)
    #[arg(long, value_name = "TYPE", num_args = 0..=1, default_missing_value = "Q6_K", value_parser = gguf_types(),
          requires = "quantize", hide_possible_values = true)]
    pub(crate) promote: Option<DType>,
    /// Maximum size of a shard
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = units::parse_size)]
    pub(crate) max_shard_size: u64,
    /// What to do if an adapter changes one side of tied embeddings
    #[arg(long, value_name = "HOW", default_value = "untie", value_parser = choice::<Tied>())]
    pub(crate) tied: Tied,
    /// The base is the residual model that PiSSA, OLoRA, CorDA or LoftQ training saved
    #[arg(long)]
    pub(crate) residual_base: bool,
    /// Layout of expert factors in lora_B
    #[arg(long, value_name = "LAYOUT", default_value = "auto", value_parser = choice::<MoeLayout>())]
    pub(crate) moe_b_layout: MoeLayout,
    /// When sums are rounded; for comparisons with PEFT
    #[arg(long, value_name = "HOW", default_value = "once", hide = true, value_parser = choice::<MergeRounding>())]
    pub(crate) rounding: MergeRounding,
    #[command(flatten)]
    pub(crate) mixing: Mixing,
}

impl Merge {
    /// Whether the output is a GGUF file, if no type says so.
    pub(crate) fn is_to_gguf(&self) -> bool {
        self.format.map_or(is_gguf_file(&self.output.output), |format| format == MergeFormat::Gguf)
    }

    /// The type of a GGUF file whose tensors have the requested dtype.
    pub(crate) fn float_type(&self) -> Option<FileType> {
        self.dtype.and_then(|dtype| FileType::from_name(dtype.name()))
    }
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

/// A type for `--quantize`, or `keep`.
fn quantize_types() -> impl TypedValueParser<Value = MergeQuantize> {
    let mut values = vec![PossibleValue::new("keep").help("the types of a GGUF base")];
    values.extend(type_names());
    Offered::new(StringValueParser::new().try_map(|text| quantize_type(&text)), values)
}

fn quantize_type(text: &str) -> Result<MergeQuantize, String> {
    match text {
        _ if text.eq_ignore_ascii_case("keep") => Ok(MergeQuantize::Keep),
        _ => quant_type(text).map(MergeQuantize::To),
    }
}
