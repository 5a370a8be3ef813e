//! `lorakit combine`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lorakit::ops::combine::{METHODS, Method};

use super::output::{Output, WrittenAs};
use super::values::{rank, share, weighted};

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
    /// Method: svd (nearest to the weighted sum), cat (exactly the sum), or one of PEFT's others: linear, ties,
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
    /// ties: elect the sign of the sum, or the sign of most entries
    #[arg(long, value_name = "HOW", default_value = "total")]
    pub(crate) majority_sign: MajorityChoice,
    /// dare: random seed; results are the same on every machine [default: 0]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Which definitions to follow: `fixed` (PEFT with the rsLoRA scale corrected), `peft` (PEFT exactly), `mergekit`
    #[arg(long, value_name = "STYLE", default_value = "fixed")]
    pub(crate) style: StyleChoice,
    #[command(flatten)]
    pub(crate) written: WrittenAs,
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

pub(super) fn method(text: &str) -> Result<Method, String> {
    Method::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = METHODS.iter().map(|(name, _)| *name).collect();
        format!("expected one of {}", names.join(", "))
    })
}
