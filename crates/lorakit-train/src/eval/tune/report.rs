//! What was found: every trial, and the figures of what can be compared.

use std::path::PathBuf;

use lorakit::ops::combine::Chosen;
use serde::Serialize;

use super::Metric;
use crate::eval::{Against, Interval};

/// Weights that were chosen by measuring.
#[derive(Debug, Clone, Serialize)]
pub struct Tuned {
    /// What was made as good as possible.
    pub metric: Metric,
    /// The rows.
    pub data: TuneData,
    /// The chosen weight of each adapter, in their order.
    pub weights: Vec<f64>,
    /// The chosen density; none if the method has none, or it was given.
    pub density: Option<f64>,
    /// The base, each adapter alone, the given weights, and the chosen ones.
    pub measured: Vec<Measured>,
    /// The place among these of the best adapter alone, on the rows that weights were chosen on.
    pub best_alone: usize,
    /// All that was tried, in order.
    pub trials: Vec<Trial>,
    /// What should be known about the figures.
    pub notes: Vec<String>,
}

impl Tuned {
    /// What the record of the combination says about its weights.
    pub fn recorded(&self) -> Chosen {
        let loss = |at: usize| self.measured.get(at).map_or(0.0, |measured| measured.loss);
        Chosen {
            by: self.metric.name(),
            data: self.data.sha256.clone(),
            chosen_on: self.data.chosen_on,
            measured_on: self.data.measured_on,
            held_back: self.data.held_back,
            trials: self.trials.len(),
            base_loss: loss(0),
            alone_loss: loss(self.best_alone),
            loss: self.measured.last().map_or(0.0, |chosen| chosen.loss),
        }
    }
}

/// The rows.
#[derive(Debug, Clone, Serialize)]
pub struct TuneData {
    /// The files.
    pub files: Vec<PathBuf>,
    /// The SHA-256 of each, in hexadecimal.
    pub sha256: Vec<String>,
    /// Rows in them.
    pub rows: usize,
    /// Documents on which weights were chosen.
    pub chosen_on: usize,
    /// Documents on which figures were measured.
    pub measured_on: usize,
    /// Whether these are documents that had no part in the choice.
    pub held_back: bool,
    /// Rows that are longer than the context, and were left out.
    pub too_long: usize,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The base alone.
    Base,
    /// One adapter on the base, at its own strength.
    Alone,
    /// The combination by the weights that were given.
    Given,
    /// The combination by the weights that were chosen.
    Chosen,
}

/// Figures of a base, an adapter or a combination.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// What it is.
    pub role: Role,
    /// The weight of each adapter.
    pub weights: Vec<f64>,
    /// The density; none if the method has none.
    pub density: Option<f64>,
    /// The loss on the rows that weights were chosen on, in nats per token.
    pub chosen_on: f64,
    /// The loss on the rows that were held back; on all if none was.
    pub loss: f64,
    /// Exact answers to these rows; none if none was asked for.
    pub exact: Option<usize>,
    /// How much more that loss is than that of the best adapter alone.
    pub difference: Option<Interval>,
    /// How exact answers compare with those of the best adapter alone.
    pub exact_against: Option<Against>,
}

/// What was varied in a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing: the given weights, or one adapter at weight 1.
    Start,
    /// A weight, or the density.
    Weights,
    /// All weights together.
    Scale,
}

/// A combination that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// What was varied.
    pub stage: Stage,
    /// The weight of each adapter.
    pub weights: Vec<f64>,
    /// The density, if it is chosen too.
    pub density: Option<f64>,
    /// What the weights found before were multiplied by; none before the last stage.
    pub scale: Option<f64>,
    /// The loss on the rows that weights are chosen on, in nats per token.
    pub loss: f64,
    /// Exact answers to them; none if none was asked for.
    pub exact: Option<usize>,
}
