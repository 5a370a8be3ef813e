//! `lorakit combine`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, TypedValueParser};
use lorakit::ops::combine::{MajoritySign, Method, Style};
use lorakit_train::base::Quant;
use lorakit_train::eval::Metric;

use super::eval::quant;
use super::output::{Output, WrittenAs};
use super::strength::Strength;
use super::values::{choice, one_of, rank, share, weighted};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit combine style/=0.7 facts/=0.3 -o both/
  lorakit combine style/ facts/ -o both/ --dry-run             # do they get in each other's way?
  lorakit combine style/ facts/=-0.5 -o both/ --method cat     # exact, ranks add up
  lorakit combine a/ b/ c/ -o all/ --method ties_svd --density 0.4 --rank 32
  lorakit combine a/ b/ -o both/ --method dare_ties --density 0.5 --style mergekit --seed 7
  lorakit combine adapter/ -o attention/ --only self_attn
  lorakit combine style/ facts/ -o both/ --model base/ --tune heldout.jsonl   # which weights?")]
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
    #[command(flatten)]
    pub(crate) tuning: Tuning,
}

/// By what weights are chosen.
#[derive(Debug, Args)]
#[command(next_help_heading = "Weights by measuring")]
pub(crate) struct Tuning {
    /// Choose the weights, and the density if none is given, by what the combination does on these held-out rows; may be
    /// repeated. The search begins at the weights that are given
    #[arg(long, value_name = "PATH", requires = "model")]
    pub(crate) tune: Vec<PathBuf>,
    /// The base model: a folder or a GGUF file
    #[arg(long, value_name = "MODEL", requires = "tune")]
    pub(crate) model: Option<PathBuf>,
    /// What is made as good as possible
    #[arg(long, value_name = "WHAT", default_value = "loss", requires = "tune", value_parser = metric())]
    pub(crate) tune_metric: Metric,
    /// The share of the rows to choose on; figures are of the others. With 1 they are of the same
    #[arg(long, value_name = "X", default_value = "0.5", requires = "tune", value_parser = share)]
    pub(crate) tune_share: f64,
    /// The most combinations to try
    #[arg(long, value_name = "N", default_value = "60", requires = "tune", value_parser = trials)]
    pub(crate) tune_trials: usize,
    /// How the linears of the model are held: as in its files, or converted
    #[arg(long, value_name = "TYPE", default_value = "keep", requires = "tune", value_parser = quant())]
    pub(crate) quant: Quant,
    /// The most tokens of a row; longer ones are left out [default: what the model's configuration says]
    #[arg(long, value_name = "N", requires = "tune")]
    pub(crate) context: Option<usize>,
    /// The chat template [default: that of the first adapter's folder, or the model's own]
    #[arg(long, value_name = "FILE", requires = "tune")]
    pub(crate) chat_template: Option<PathBuf>,
    /// The most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 256, requires = "tune")]
    pub(crate) max_tokens: usize,
}

fn metric() -> impl TypedValueParser<Value = Metric> {
    let loss = PossibleValue::new("loss").help("the loss on the answers, as little as possible");
    let exact = PossibleValue::new("exact").help("exact answers, as many as possible; it takes longer");
    one_of(vec![(loss, Metric::Loss), (exact, Metric::Exact)])
}

fn trials(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (10..=10_000).contains(&n) => Ok(n),
        _ => Err("must be a whole number from 10 to 10000".into()),
    }
}
