//! `lorakit combine`.

use std::path::PathBuf;

use clap::Args;
use lorakit::ops::combine::{MajoritySign, Method, Style};

use super::output::{Output, WrittenAs};
use super::strength::Strength;
use super::values::{choice, rank, share, weighted};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit combine style/=0.7 facts/=0.3 -o both/
  lorakit combine style/ facts/ -o both/ --dry-run             # do they get in each other's way?
  lorakit combine style/ facts/=-0.5 -o both/ --method cat     # exact, ranks add up
  lorakit combine a/ b/ c/ -o all/ --method ties_svd --density 0.4 --rank 32
  lorakit combine a/ b/ -o both/ --method dare_ties --density 0.5 --style mergekit --seed 7
  lorakit combine adapter/ -o attention/ --only self_attn")]
pub(crate) struct Combine {
    /// Adapters in any format, each with an optional weight (ADAPTER=0.7; 1 if none)
    #[arg(required = true, value_name = "ADAPTER[=WEIGHT]", value_parser = weighted())]
    pub(crate) adapters: Vec<(PathBuf, f64)>,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) strength: Strength,
    /// How to combine, by PEFT's names
    #[arg(long, value_name = "METHOD", default_value = "svd", value_parser = choice::<Method>())]
    pub(crate) method: Method,
    /// Rank of the result, for svd and the methods in _svd [default: the highest of the adapters]
    #[arg(long, value_name = "N", value_parser = rank)]
    pub(crate) rank: Option<usize>,
    /// Share of the entries that ties, dare and magnitude_prune keep, e.g. 0.5
    #[arg(long, value_name = "D", value_parser = share)]
    pub(crate) density: Option<f64>,
    /// ties: the sign to elect
    #[arg(long, value_name = "HOW", default_value = "total", value_parser = choice::<MajoritySign>())]
    pub(crate) majority_sign: MajoritySign,
    /// dare: random seed; results are the same on every machine [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Which definitions to follow
    #[arg(long, value_name = "STYLE", default_value = "fixed", value_parser = choice::<Style>())]
    pub(crate) style: Style,
    #[command(flatten)]
    pub(crate) written: WrittenAs,
}
