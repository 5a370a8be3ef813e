//! What is evaluated, and how.

use std::path::{Path, PathBuf};

use lorakit::plan::Progress;

use super::check::Check;
use crate::base::Quant;
use crate::settings::Settings;
use crate::{Result, run};

/// What is evaluated, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The base, then other models that are compared with it.
    pub models: Vec<PathBuf>,
    /// Adapters on the base, each with its weight.
    pub adapters: Vec<(PathBuf, f64)>,
    /// The adapter that the others are compared with; without one, the base alone is.
    pub against: Option<(PathBuf, f64)>,
    /// Files of held-out rows.
    pub data: Vec<PathBuf>,
    /// A file of items that must not break.
    pub regression: Option<PathBuf>,
    /// What every answer is checked for.
    pub checks: Vec<Check>,
    /// How linears are held.
    pub quant: Quant,
    /// The general text on which forgetting is measured.
    pub general: General,
    /// Forgetting from which on it is flagged, in nats per token.
    pub threshold: f64,
    /// Strengths at which each adapter is measured, as factors.
    pub scales: Vec<f64>,
    /// How many random adapters each adapter is compared with.
    pub null: usize,
    /// The most rows that are answered.
    pub answers: usize,
    /// The most tokens of an answer.
    pub most_tokens: usize,
    /// The most tokens of a row; none for what the model's configuration says.
    pub context: Option<usize>,
    /// The chat template of all models, instead of their own.
    pub chat_template: Option<PathBuf>,
    /// Threads; it changes no figure.
    pub threads: usize,
    /// Decides the draws of intervals, and random adapters.
    pub seed: u64,
}

/// A text on which forgetting is measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum General {
    /// The one that comes along.
    #[default]
    Shipped,
    /// A file of paragraphs, separated by empty lines.
    File(PathBuf),
    /// None: forgetting is not measured.
    Nothing,
}

impl Options {
    /// Evaluates `model` on the rows of `data`: all rows are answered, with at most 256 tokens each.
    pub fn new(model: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Self {
        Options {
            models: vec![model.into()],
            adapters: Vec::new(),
            against: None,
            data: vec![data.into()],
            regression: None,
            checks: Vec::new(),
            quant: Quant::Keep,
            general: General::default(),
            threshold: 0.05,
            scales: Vec::new(),
            null: 0,
            answers: usize::MAX,
            most_tokens: 256,
            context: None,
            chat_template: None,
            threads: run::usual_threads(),
            seed: 42,
        }
    }

    /// What the templates of the base are given, and what of conversations counts: as in the runs that trained the
    /// adapters, if their folders tell.
    ///
    /// # Errors
    /// If settings cannot be read.
    pub(super) fn told(&self) -> Result<Settings> {
        let adapters = self.adapters.iter().chain(&self.against);
        let mut settings = run::told(adapters.map(|(path, _)| path.as_path()))?;
        if let Some(template) = &self.chat_template {
            settings.chat_template = Some(template.clone());
        }
        Ok(settings)
    }

    /// The path of the general text, if it is a file; none if there is to be none.
    pub(super) fn general(&self) -> Option<Option<&Path>> {
        match &self.general {
            General::Shipped => Some(None),
            General::File(path) => Some(Some(path)),
            General::Nothing => None,
        }
    }
}

/// Who watches an evaluation.
pub trait Watch {
    /// Where the reading of models is told.
    fn progress(&self) -> &dyn Progress;
    /// So many of all passes are done, and this is under way.
    fn passes(&mut self, done: u64, of: u64, what: &str) {
        let _ = (done, of, what);
    }
    /// What the passes from now on are of: a candidate by its name, or something that is measured for all.
    fn begins(&mut self, what: &str) {
        let _ = what;
    }
    /// Its losses on rows are known, and it is asked from now on.
    fn asks(&mut self) {}
    /// The candidate was asked a question: the so-many-th of the rows that are answered, and then of the items.
    fn asked(&mut self, question: usize) {
        let _ = question;
    }
    /// The candidate has answered a question.
    fn answered(&mut self, question: usize) {
        let _ = question;
    }
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn progress(&self) -> &dyn Progress {
        &lorakit::plan::Silent
    }
}
