//! `lorakit eval`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, TypedValueParser};
use lorakit_train::base::Quant;
use lorakit_train::eval::{General, Pattern};

use super::output::output_path;
use super::trace::Reported;
use super::values::{one_of, weighted};

/// What ends the command with 1, besides items that must not break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailOnOutcome {
    /// The verdict is that it regressed.
    Regressed,
    /// It forgets more than the threshold.
    Forgetting,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit eval --model base/ --adapter adapter/ --data heldout.jsonl
  lorakit eval --model base/ --adapter new/ --against old/ --data heldout.jsonl --fail-on regressed
  lorakit eval --model base/ --adapter adapter/ --model merged-q4_k_m.gguf --data heldout.jsonl
  lorakit eval --model base/ --adapter adapter/ --data heldout.jsonl --regression regression.jsonl
  lorakit eval --model base/ --adapter adapter/ --data heldout.jsonl --scales 0,0.5,1 --null 10
  lorakit eval --model base/ --adapter adapter/ --data heldout.jsonl --html report.html")]
pub(crate) struct Eval {
    /// The base model: a folder or a GGUF file; repeated, other models that are compared with it, such as a merged one
    #[arg(long = "model", required = true, value_name = "MODEL")]
    pub(crate) models: Vec<PathBuf>,
    /// An adapter on the base, with an optional weight (ADAPTER=0.7; 1 if none); may be repeated: each is judged alone
    #[arg(long = "adapter", value_name = "ADAPTER[=W]", value_parser = weighted())]
    pub(crate) adapters: Vec<(PathBuf, f64)>,
    /// Compare with the base plus this adapter, instead of with the base alone
    #[arg(long, value_name = "ADAPTER[=W]", value_parser = weighted())]
    pub(crate) against: Option<(PathBuf, f64)>,
    /// Held-out rows, in any format that training takes: a file, or a folder with `valid.jsonl`; may be repeated
    #[arg(long, required = true, value_name = "PATH")]
    pub(crate) data: Vec<PathBuf>,
    /// How the linears of models are held: as in their files, or converted
    #[arg(long, value_name = "TYPE", default_value = "keep", value_parser = quant())]
    pub(crate) quant: Quant,
    /// The most tokens of a row; longer ones are left out [default: what the model's configuration says]
    #[arg(long, value_name = "N")]
    pub(crate) context: Option<usize>,
    /// The chat template of all models [default: that of the adapter's folder, or the model's own]
    #[arg(long, value_name = "FILE")]
    pub(crate) chat_template: Option<PathBuf>,

    /// Answer only so many rows; 0 for none [default: all]
    #[arg(long, value_name = "N", help_heading = "Answers")]
    pub(crate) answers: Option<usize>,
    /// The most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Answers")]
    pub(crate) max_tokens: usize,
    /// Check that answers are JSON that this JSON schema accepts
    #[arg(long, value_name = "FILE", help_heading = "Answers")]
    pub(crate) schema: Option<PathBuf>,
    /// Check that answers match this regular expression, anywhere in them; may be repeated
    #[arg(long, value_name = "REGEX", value_parser = pattern, help_heading = "Answers")]
    pub(crate) regex: Vec<Pattern>,
    /// Check that answers contain this text; may be repeated
    #[arg(long, value_name = "TEXT", help_heading = "Answers")]
    pub(crate) contains: Vec<String>,
    /// Check that answers do not contain this text; may be repeated
    #[arg(long, value_name = "TEXT", help_heading = "Answers")]
    pub(crate) not_contains: Vec<String>,
    /// Items that must not break: JSON lines with `prompt` or `messages`, `checks`, and `must`
    #[arg(long, value_name = "FILE", help_heading = "Answers")]
    pub(crate) regression: Option<PathBuf>,

    /// A text on which forgetting is measured, its paragraphs separated by empty lines; `none` to measure none
    /// [default: one that comes along]
    #[arg(long, value_name = "FILE|none", value_parser = general, help_heading = "Beyond the task")]
    pub(crate) general: Option<General>,
    /// Flag a loss on that text that rose by more than this, in nats per token
    #[arg(long, value_name = "X", default_value_t = 0.05, help_heading = "Beyond the task")]
    pub(crate) forgetting: f64,
    /// Also measure each adapter at these strengths, as in `0,0.25,0.5,0.75,1`
    #[arg(long, value_name = "X,...", value_delimiter = ',', help_heading = "Beyond the task")]
    pub(crate) scales: Vec<f64>,
    /// Compare each adapter with so many random ones of the same shapes and norms
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true,
        help_heading = "Beyond the task"
    )]
    pub(crate) null: usize,
    /// Decides the draws of intervals, and random adapters
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,

    /// Exit with 1 if this holds of any candidate; may be repeated
    #[arg(long, value_name = "WHAT", value_parser = outcome())]
    pub(crate) fail_on: Vec<FailOnOutcome>,
    /// Write the report as one self-contained HTML page, with answers side by side
    #[arg(long, value_name = "FILE", value_parser = output_path())]
    pub(crate) html: Option<PathBuf>,
    /// Replace an existing page
    #[arg(long, requires = "html")]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) reported: Reported,
}

pub(super) fn quant() -> impl TypedValueParser<Value = Quant> {
    let floats = [Quant::Bf16, Quant::F16, Quant::F32].map(|quant| (PossibleValue::new(quant.name()), quant));
    let told = [
        (Quant::Keep, "as the files hold them"),
        (Quant::Nf4 { double: true }, "as training holds them: doubly quantised NF4"),
    ];
    let told = told.map(|(quant, about)| (PossibleValue::new(quant.name()).help(about), quant));
    one_of(told.into_iter().chain(floats).collect())
}

fn outcome() -> impl TypedValueParser<Value = FailOnOutcome> {
    let regressed = PossibleValue::new("regressed").help("a verdict is that a candidate regressed");
    let forgetting = PossibleValue::new("forgetting").help("forgetting is flagged");
    one_of(vec![(regressed, FailOnOutcome::Regressed), (forgetting, FailOnOutcome::Forgetting)])
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|error| error.to_string())
}

fn general(text: &str) -> Result<General, String> {
    Ok(if text == "none" { General::Nothing } else { General::File(text.into()) })
}
