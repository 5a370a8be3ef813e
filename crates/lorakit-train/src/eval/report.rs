//! What an evaluation found.

use std::path::PathBuf;

use serde::Serialize;

use super::statistics::{Interval, Spread};
use super::verdict::Verdict;

/// What an evaluation found.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// The held-out rows.
    pub data: DataReport,
    /// The general text; none if it was left out.
    pub general: Option<GeneralText>,
    /// The place of the candidate that the others are compared with.
    pub baseline: usize,
    /// What was judged: the base first.
    pub candidates: Vec<Candidate>,
    /// Each held-out row, with what every candidate made of it.
    pub rows: Vec<RowReport>,
    /// Each item of the regression file, with what every candidate made of it.
    pub items: Vec<ItemReport>,
    /// Each adapter at several strengths.
    pub sweeps: Vec<Sweep>,
    /// Each adapter among random ones.
    pub nulls: Vec<Null>,
    /// The rule of verdicts, in words.
    pub rule: String,
    /// What should be known about the figures.
    pub notes: Vec<String>,
}

/// The held-out rows.
#[derive(Debug, Clone, Serialize)]
pub struct DataReport {
    /// The files.
    pub files: Vec<PathBuf>,
    /// Rows in them.
    pub rows: usize,
    /// Documents that are judged: rows, or parts of long texts.
    pub judged: usize,
    /// Those with an answer.
    pub answered: usize,
    /// Tokens that count, as the base's tokenizer makes them.
    pub tokens: usize,
    /// The most tokens that a row may have.
    pub context: Option<usize>,
    /// Rows that are longer, and were left out.
    pub too_long: usize,
    /// The line of the first of them.
    pub first_too_long: Option<u64>,
}

/// A general text.
#[derive(Debug, Clone, Serialize)]
pub struct GeneralText {
    /// The file; none for the text that comes along.
    pub file: Option<PathBuf>,
    /// Its paragraphs.
    pub paragraphs: usize,
    /// Tokens that are predicted, as the base's tokenizer makes them.
    pub tokens: usize,
    /// More forgetting than this, in nats per token, is flagged.
    pub threshold: f64,
}

/// What a candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The model that everything is compared with.
    Base,
    /// The base with an adapter.
    Adapter,
    /// Another model: merged, quantised.
    Model,
}

/// A model, or a model with an adapter, and its figures.
#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    /// What it is called: `base`, or the path.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The model.
    pub model: PathBuf,
    /// The adapter on it.
    pub adapter: Option<PathBuf>,
    /// The strength of the adapter.
    pub weight: Option<f64>,
    /// The form of the model's linears: `bf16`, `nf4`, `q4_k`.
    pub form: String,
    /// Losses on held-out rows.
    pub held_out: Losses,
    /// Answers to held-out rows; none if no row was answered.
    pub answers: Option<Answered>,
    /// Loss on general text; none if it was left out.
    pub general: Option<Forgetting>,
    /// Items of the regression file; none without one.
    pub regression: Option<Regression>,
    /// What it comes to; none for the baseline, and for the base.
    pub verdict: Option<Verdict>,
}

/// Losses on held-out rows.
#[derive(Debug, Clone, Serialize)]
pub struct Losses {
    /// Nats per token: the sum over all tokens that count, over their weights.
    pub loss: f64,
    /// `e` to the power of that.
    pub perplexity: f64,
    /// The loss in bits.
    pub bits_per_token: f64,
    /// Bits per byte of the text that counts.
    pub bits_per_byte: Option<f64>,
    /// Tokens that count.
    pub tokens: usize,
    /// Documents.
    pub rows: usize,
    /// How much more than the baseline's, with its interval.
    pub difference: Option<Interval>,
    /// What differences are of.
    pub unit: Unit,
}

/// What differences of losses are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nats per token: both models have the same tokens.
    NatsPerToken,
    /// Bits per byte: their tokens differ, and so do not compare.
    BitsPerByte,
}

/// Shares of answers.
#[derive(Debug, Clone, Serialize)]
pub struct Answered {
    /// How many rows were answered.
    pub rows: usize,
    /// Those that are exactly what was expected.
    pub exact: usize,
    /// Those that are JSON, with nothing around it.
    pub json: usize,
    /// Those that the model ended.
    pub stopped: usize,
    /// Tokens of an answer, on average.
    pub mean_tokens: f64,
    /// Each check that was asked for, and how many passed.
    pub checks: Vec<Passed>,
    /// How exact answers compare with the baseline's.
    pub exact_against: Option<Against>,
}

/// How many answers pass a check.
#[derive(Debug, Clone, Serialize)]
pub struct Passed {
    /// The name of the check.
    pub check: String,
    /// How many pass it.
    pub passed: usize,
    /// How that compares with the baseline.
    pub against: Option<Against>,
}

/// Two candidates that answered the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Against {
    /// Answers that pass, and the baseline's do not.
    pub better: usize,
    /// Answers that do not pass, and the baseline's do.
    pub worse: usize,
    /// The probability of so uneven a split by chance: McNemar's exact test.
    pub p: f64,
}

/// Loss on general text.
#[derive(Debug, Clone, Serialize)]
pub struct Forgetting {
    /// Nats per token.
    pub loss: f64,
    /// Bits per byte.
    pub bits_per_byte: Option<f64>,
    /// How much more than the base's, with its interval; none for the base.
    pub forgetting: Option<Interval>,
    /// What that is of.
    pub unit: Unit,
    /// The divergence of the candidate from the base, in nats per token; none for the base, and where tokens differ.
    pub divergence: Option<f64>,
    /// Whether the whole interval lies above the threshold.
    pub flagged: bool,
}

/// Items of a regression file.
#[derive(Debug, Clone, Serialize)]
pub struct Regression {
    /// Items.
    pub items: usize,
    /// Those that pass.
    pub passed: usize,
    /// Names of those that fail, and passed with the baseline.
    pub newly_broken: Vec<String>,
    /// Names of those that pass, and failed with the baseline.
    pub newly_fixed: Vec<String>,
    /// Names of those that fail, and must not.
    pub must_failed: Vec<String>,
}

/// A held-out row.
#[derive(Debug, Clone, Serialize)]
pub struct RowReport {
    /// The place of its file.
    pub file: usize,
    /// Its line.
    pub line: u64,
    /// The text before the answer, with its special tokens; none if it was not answered.
    pub prompt: Option<String>,
    /// The answer that it should have.
    pub expected: Option<String>,
    /// What each candidate made of it, in their order; none where it did not fit.
    pub made: Vec<Option<Made>>,
}

/// What a candidate made of a row.
#[derive(Debug, Clone, Serialize)]
pub struct Made {
    /// Nats per token.
    pub loss: f64,
    /// The answer; none if it was not asked for one.
    pub answer: Option<Given>,
}

/// An answer.
#[derive(Debug, Clone, Serialize)]
pub struct Given {
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub tokens: usize,
    /// Whether the model ended it.
    pub stopped: bool,
    /// Whether it is what was expected; none if nothing was.
    pub exact: Option<bool>,
    /// Why it does not pass, a line for each check.
    pub failures: Vec<String>,
}

/// An item of a regression file.
#[derive(Debug, Clone, Serialize)]
pub struct ItemReport {
    /// Its name.
    pub name: String,
    /// Its line.
    pub line: u64,
    /// Whether it must pass.
    pub must: bool,
    /// The text that is answered, with its special tokens.
    pub prompt: String,
    /// The answer of each candidate, in their order.
    pub answers: Vec<Given>,
}

/// An adapter at several strengths.
#[derive(Debug, Clone, Serialize)]
pub struct Sweep {
    /// The place of its candidate.
    pub candidate: usize,
    /// What it is at each.
    pub points: Vec<Point>,
}

/// An adapter at one strength.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// What multiplies its weight.
    pub scale: f64,
    /// Held-out loss, in nats per token.
    pub loss: f64,
    /// Loss on general text, in nats per token.
    pub general: Option<f64>,
    /// Divergence from the base on that, in nats per token.
    pub divergence: Option<f64>,
}

/// An adapter among random ones of the same shapes and norms.
#[derive(Debug, Clone, Serialize)]
pub struct Null {
    /// The place of its candidate.
    pub candidate: usize,
    /// How many random ones there were.
    pub draws: usize,
    /// Their held-out losses, and how far from them the adapter's is.
    pub loss: Option<Spread>,
    /// Their losses on general text.
    pub general: Option<Spread>,
    /// Their divergences from the base.
    pub divergence: Option<Spread>,
}
