//! Weights of a combination of adapters, chosen by what the combination does on held-out rows.
//!
//! ```text
//!   run     base, adapters alone, given weights, trials, figures
//!   trials  combinations, each measured once
//!   search  which of them are tried
//!   split   rows that weights are chosen on, and rows that are held back
//!   report  what was found
//! ```
//!
//! What is measured is what would be written: each trial is computed as `lorakit` combines adapters, in memory.

mod report;
mod run;
mod search;
mod split;
mod trials;

use std::path::PathBuf;

pub use report::{Measured, Role, Stage, Trial, TuneData, Tuned};
pub use run::tune;

use crate::base::Quant;

/// What is made as good as possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The loss on the answers, in nats per token, as little as possible.
    #[default]
    Loss,
    /// Greedy answers that are exactly what was expected, as many as possible; of equally many, the less loss.
    Exact,
}

impl Metric {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Loss => "loss",
            Metric::Exact => "exact",
        }
    }
}

/// By what weights are chosen.
#[derive(Debug, Clone)]
pub struct TuneOptions {
    /// The base: a folder or a GGUF file.
    pub model: PathBuf,
    /// Files of held-out rows.
    pub data: Vec<PathBuf>,
    /// What is made as good as possible.
    pub metric: Metric,
    /// The share of the rows on which weights are chosen, above 0 and up to 1. The others are held back, for the figures;
    /// with 1 none is.
    pub share: f64,
    /// The most combinations that are tried.
    pub trials: usize,
    /// How linears are held.
    pub quant: Quant,
    /// The most tokens of a row; none for what the model's configuration says.
    pub context: Option<usize>,
    /// The chat template, instead of that of the first adapter's folder or the model's own.
    pub chat_template: Option<PathBuf>,
    /// The most tokens of an answer.
    pub most_tokens: usize,
    /// Threads; it changes no figure.
    pub threads: usize,
    /// Decides the draws of intervals.
    pub seed: u64,
}

impl TuneOptions {
    /// By the loss on half of the rows of `data`, in at most 60 trials.
    pub fn new(model: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Self {
        TuneOptions {
            model: model.into(),
            data: vec![data.into()],
            metric: Metric::Loss,
            share: 0.5,
            trials: 60,
            quant: Quant::Keep,
            context: None,
            chat_template: None,
            most_tokens: 256,
            threads: crate::run::usual_threads(),
            seed: 42,
        }
    }
}
