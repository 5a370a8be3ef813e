//! Who watches a run: the terminal, and those that `report` names.

use std::path::Path;

use lorakit::plan::Progress;

use lorakit_train::run::{Estimate, Evaluated, Observer, Part, Step, Summary};
use lorakit_train::settings::{Report, Settings};

use super::watch::Watch;
use crate::error::Failure;
use crate::trace;
use crate::trace::train::Traced;

/// All of them. Each is told everything, the terminal first; only the terminal ends the run.
pub(super) struct Watchers<'u> {
    pub(super) terminal: Watch<'u>,
    pub(super) traced: Option<Traced>,
    reports: Vec<Box<dyn Observer>>,
}

impl<'u> Watchers<'u> {
    /// Those that the settings name.
    ///
    /// # Errors
    /// `Usage` for one that this build does not have.
    pub(super) fn new(settings: &Settings, terminal: Watch<'u>) -> Result<Self, Failure> {
        let traced = match settings.report.contains(&Report::Otlp) {
            true => Some(Traced::new(trace::destination()?)),
            false => None,
        };
        let others = settings.report.iter().filter(|report| **report != Report::Otlp);
        let reports = others.map(report).collect::<Result<_, _>>()?;
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

/// What reports a run in this way.
fn report(report: &Report) -> Result<Box<dyn Observer>, Failure> {
    let absent = |name: &str| {
        Failure::usage(
            &format!("`report` is {name}, which this build does not have"),
            "leave it out: metrics.jsonl has every step",
        )
    };
    match report {
        Report::TensorBoard => Err(absent("tensorboard")),
        Report::Otlp => Err(absent("otlp")),
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
