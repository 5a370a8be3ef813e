//! Who watches a run: the terminal, and those that `report` names.

use std::path::Path;

use lorakit::plan::Progress;

use lorakit_train::run::{Estimate, Evaluated, Observer, Part, Sampled, Step, Summary};
use lorakit_train::settings::{Report, Settings};
use lorakit_train::tensorboard::TensorBoard;

use super::watch::Watch;
use crate::error::Failure;
use crate::trace;
use crate::trace::train::Traced;

/// All of them. Each is told everything, the terminal first; only the terminal ends the run.
pub(super) struct Watchers<'u> {
    pub(super) terminal: Watch<'u>,
    /// Ended by the command, which knows how the run ended.
    pub(super) traced: Option<Traced>,
    reports: Vec<Box<dyn Observer>>,
}

impl<'u> Watchers<'u> {
    /// Those that the settings name.
    ///
    /// # Errors
    /// `Usage` for one that this build does not have, and what the variables of traces may be refused for.
    pub(super) fn new(settings: &Settings, terminal: Watch<'u>) -> Result<Self, Failure> {
        let (mut traced, mut reports) = (None, Vec::new());
        for report in &settings.report {
            match report {
                Report::TensorBoard => reports.push(Box::new(TensorBoard::default()) as Box<dyn Observer>),
                Report::Otlp => traced = Some(Traced::new(trace::destination()?)),
            }
        }
        Ok(Self { terminal, traced, reports })
    }

    fn each(
        &mut self,
        mut tell: impl FnMut(&mut dyn Observer) -> lorakit_train::Result<()>,
    ) -> lorakit_train::Result<()> {
        tell(&mut self.terminal)?;
        if let Some(traced) = &mut self.traced {
            tell(traced)?;
        }
        self.reports.iter_mut().try_for_each(|report| tell(report.as_mut()))
    }
}

impl Observer for Watchers<'_> {
    fn opened(&self, part: Part<'_>) {
        if let Some(traced) = &self.traced {
            traced.opened(part);
        }
    }

    fn begins(&mut self, settings: &Settings, estimate: &Estimate) -> lorakit_train::Result<()> {
        self.each(|one| one.begins(settings, estimate))
    }

    fn step(&mut self, step: &Step) -> lorakit_train::Result<()> {
        self.each(|one| one.step(step))
    }

    fn evaluated(&mut self, evaluated: &Evaluated) -> lorakit_train::Result<()> {
        self.each(|one| one.evaluated(evaluated))
    }

    fn sampled(&mut self, sampled: &Sampled) -> lorakit_train::Result<()> {
        self.each(|one| one.sampled(sampled))
    }

    fn finished(&mut self, summary: &Summary) -> lorakit_train::Result<()> {
        self.each(|one| one.finished(summary))
    }

    fn saved(&mut self, path: &Path) -> lorakit_train::Result<()> {
        self.each(|one| one.saved(path))
    }

    fn stops(&self) -> bool {
        self.terminal.stops()
    }

    fn progress(&self) -> &dyn Progress {
        self.terminal.progress()
    }
}
