//! What a run tells whoever watches it.

use std::path::{Path, PathBuf};

use lorakit::plan::{Progress, Silent};

use super::estimate::Estimate;
use crate::error::Result;
use crate::generate::Stop;
use crate::settings::Settings;

/// Watches a run, and may end it. Nothing here prints. An error ends the run, as one of its own does.
#[allow(clippy::missing_errors_doc, reason = "whoever watches decides what it fails at")]
pub trait Observer {
    /// Everything is open, the output is this run's alone, and nothing has begun. The settings are those of the run's
    /// `run.yaml`.
    fn begins(&mut self, _: &Settings, _: &Estimate) -> Result<()> {
        Ok(())
    }

    /// A part of the run is open: the rows first, then the base.
    fn opened(&self, _: Part<'_>) {}

    /// A step is done.
    fn step(&mut self, _: &Step) -> Result<()> {
        Ok(())
    }

    /// The validation rows were predicted.
    fn evaluated(&mut self, _: &Evaluated) -> Result<()> {
        Ok(())
    }

    /// Prompts were answered.
    fn sampled(&mut self, _: &Sampled) -> Result<()> {
        Ok(())
    }

    /// The run is over.
    fn finished(&mut self, _: &Summary) -> Result<()> {
        Ok(())
    }

    /// A checkpoint is complete, or the best adapter, or the adapter that the run ends with.
    fn saved(&mut self, _: &Path) -> Result<()> {
        Ok(())
    }

    /// Whether to end: the pass that is under way is completed, the state is saved.
    fn stops(&self) -> bool {
        false
    }

    /// Who is told how far files are read.
    fn progress(&self) -> &dyn Progress {
        &Silent
    }
}

/// A part of a run that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// The rows are tokens.
    Rows {
        /// Documents that are trained on.
        documents: usize,
        /// Documents for validation.
        held: usize,
        /// A digest of their tokens and weights.
        digest: &'a str,
    },
    /// The base is in memory.
    Base {
        /// How its linears are held: `nf4`, `q4_k`.
        form: &'a str,
        /// A digest of its weights as they are held.
        digest: &'a str,
    },
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Observer for Nobody {}

/// A step that is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Which one, from 1.
    pub step: u64,
    /// How many the run has.
    pub steps: u64,
    /// Epochs done, with the share of the one under way.
    pub epoch: f64,
    /// The mean over the step's trained tokens, in nats, before the step.
    pub loss: f64,
    /// The learning rate.
    pub lr: f64,
    /// The norm of the gradients before they were clipped.
    pub grad_norm: f64,
    /// All tokens so far.
    pub tokens: u64,
    /// Those that were predicted.
    pub supervised_tokens: u64,
    /// Tokens a second in this step.
    pub tok_s: f64,
    /// Bytes of memory that the process has now.
    pub rss: Option<u64>,
    /// Seconds since the run began, those before it was interrupted included.
    pub wall_s: f64,
    /// Seconds that are left, at the pace so far.
    pub left_s: f64,
    /// Whether it is one of those that `log_every` shows.
    pub shown: bool,
}

/// The loss on validation rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    /// After this step; 0 is the adapter that the run began with.
    pub step: u64,
    /// The mean over trained tokens, in nats.
    pub loss: f64,
    /// Whether it is the best so far.
    pub best: bool,
}

/// Answers of the adapter after a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// After this step; 0 is the adapter that the run began with.
    pub step: u64,
    /// One for each prompt, in the order of their file.
    pub samples: Vec<Sample>,
}

/// An answer: at each place the likeliest token.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The prompt as the model sees it, special tokens included.
    pub prompt: String,
    /// The answer that the row has.
    pub expected: Option<String>,
    /// The text, without special tokens.
    pub answer: String,
    /// Its tokens.
    pub tokens: usize,
    /// Why it ended.
    pub stop: Stop,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// The validation loss did not get better any more.
    StoppedEarly,
    /// The observer said so; the state is saved.
    Interrupted,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// How it ended.
    pub outcome: Outcome,
    /// Steps done.
    pub steps: u64,
    /// The loss of the last step.
    pub loss: Option<f64>,
    /// The best validation loss, and the step after which it was found.
    pub best: Option<(u64, f64)>,
    /// The validation loss of the adapter that the run began with.
    pub before: Option<f64>,
    /// All tokens.
    pub tokens: u64,
    /// The folder of the adapter, or of the checkpoint if the run was interrupted; none if nothing was saved.
    pub saved: Option<PathBuf>,
    /// The folder of the best adapter.
    pub best_at: Option<PathBuf>,
    /// Seconds in all.
    pub wall_s: f64,
    /// The most bytes of memory that the process had.
    pub peak: Option<u64>,
}
