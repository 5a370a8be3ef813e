//! `lorakit reduce`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use lorakit::ops::reduce::{KohyaEdition, KohyaRule};

use super::output::{Output, WrittenIn};
use super::values::{Stored, choice, rank, share, stored};
use crate::units;

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("rule").args(["energy", "max_error", "kohya", "budget", "target_size"])),
    after_help = "Examples:
  lorakit reduce adapter/ -o small/ --rank 16
  lorakit reduce adapter/ -o small/ --energy 0.99              # of each module
  lorakit reduce adapter/ -o small/ --max-error 0.05 --rank 32 # of each module, and never above 32
  lorakit reduce adapter/ -o small/ --target-size 20MB         # ranks where they keep most
  lorakit reduce adapter/ -o small.gguf --to gguf --base model/ --target-size 2MB # ranks and dtypes
  lorakit reduce lora.safetensors -o small.safetensors --kohya sv_fro=0.9"
)]
pub(crate) struct Reduce {
    /// The adapter: a folder or file, in any format
    pub(crate) adapter: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
    /// The rank of every module; with another rule, the highest rank it may choose
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
    /// Like --budget, but as the total size of the output
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    pub(crate) target_size: Option<u64>,
    /// Choose as kohya's `resize_lora.py` does: sv_ratio=T, sv_fro=T or sv_cumulative=T
    #[arg(long, value_name = "RULE=T", value_parser = kohya_rule)]
    pub(crate) kohya: Option<KohyaRule>,
    /// Version of that script
    #[arg(long, value_name = "EDITION", default_value = "current", requires = "kohya",
          value_parser = choice::<KohyaEdition>())]
    pub(crate) kohya_edition: KohyaEdition,
    #[command(flatten)]
    pub(crate) format: WrittenIn,
    /// Dtype of the factors (q8_0 and q4_0 in GGUF); `auto` keeps it, and with --target-size in GGUF trades it for rank
    #[arg(long, value_name = "DTYPE", default_value = "auto", ignore_case = true, value_parser = stored())]
    pub(crate) dtype: Stored,
}

pub(super) fn kohya_rule(text: &str) -> Result<KohyaRule, String> {
    let needed = || "must be sv_ratio=T, sv_fro=T or sv_cumulative=T, with a positive number T".to_string();
    let (rule, target) = text.split_once('=').ok_or_else(needed)?;
    let target: f64 = target.parse().ok().filter(|t: &f64| t.is_finite() && *t > 0.0).ok_or_else(needed)?;
    match rule {
        "sv_ratio" => Ok(KohyaRule::Ratio(target)),
        "sv_fro" => Ok(KohyaRule::Fro(target)),
        "sv_cumulative" => Ok(KohyaRule::Cumulative(target)),
        _ => Err(needed()),
    }
}
