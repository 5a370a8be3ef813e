//! The trace of a training run.
//!
//! ```text
//!   lorakit.run
//!     data.prepare
//!     model.load
//!     eval                the adapter that the run begins with
//!     train
//!       train.window      the steps between two lines of progress
//!       eval@STEP
//!       checkpoint
//!     export
//! ```
//!
//! A run does one thing after another, so that each begins where the one before it ended.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lorakit_trace::{Attributes, Destination, Observation, Score, Scored, SpanId, Trace};
use lorakit_train::Result;
use lorakit_train::run::{Estimate, Evaluated, Observer, Outcome, Part, Step, Summary};
use lorakit_train::settings::Settings;

use super::{Report, session, short};
use crate::command::env::processor;
use crate::error::Failure;
use crate::ui::Ui;

/// Where a run leaves what could not be sent, in its output.
const FOLDER: &str = "traces";

/// The file of an adapter in its folder.
const ADAPTER: &str = "adapter_model.safetensors";

/// Traces a run.
pub(crate) struct Traced {
    destination: Option<Destination>,
    /// What was opened, before the output was the run's own: each with the moment at which it was.
    opened: RefCell<Vec<Opened>>,
    started: Instant,
    run: Option<Run>,
}

/// Something that was opened.
struct Opened {
    name: &'static str,
    /// What its digest is called, and that.
    digest: (&'static str, String),
    moment: Instant,
    attributes: Attributes,
}

/// A run that has begun.
struct Run {
    trace: Trace,
    /// The end of what was done last.
    last: u64,
    /// All steps, once there was one: since when.
    train: Option<(SpanId, u64)>,
    window: Option<Window>,
    /// The step that was done last.
    step: u64,
    output: PathBuf,
    ended: Attributes,
}

/// Steps between two lines of progress.
struct Window {
    begin: u64,
    steps: u64,
    losses: f64,
}

impl Traced {
    pub(crate) fn new(destination: Destination) -> Self {
        let destination = Some(destination);
        Traced { destination, opened: RefCell::default(), started: Instant::now(), run: None }
    }

    /// Ends the trace with how the run ended; none if the run has not begun.
    pub(crate) fn end(self, failure: Option<&Failure>, ui: &Ui) -> Option<Report> {
        let mut run = self.run?;
        run.end_of_steps();
        Some(super::end(run.trace, run.ended, failure, ui))
    }
}

impl Observer for Traced {
    fn opened(&self, part: Part<'_>) {
        let (name, key, digest, attributes) = match part {
            Part::Rows { documents, held, digest } => {
                let attributes = span().metadata("documents", documents).metadata("validation", held);
                ("data.prepare", "data_digest", digest, attributes)
            }
            Part::Base { form, digest } => {
                ("model.load", "base_digest", digest, span().metadata("form", form))
            }
        };
        let digest = (key, digest.to_string());
        self.opened.borrow_mut().push(Opened { name, digest, moment: Instant::now(), attributes });
    }

    fn begins(&mut self, settings: &Settings, estimate: &Estimate) -> Result<()> {
        let Some(destination) = self.destination.take() else { return Ok(()) };
        let folder = settings.output.join(FOLDER);
        let mut trace = super::begin("train", Some(session(settings)), folder, false, destination);
        trace.say("langfuse.trace.metadata.base", short(&settings.model));
        trace.say("langfuse.trace.metadata.output", short(&settings.output));
        trace.say("langfuse.trace.metadata.seed", settings.seed);
        trace.say("langfuse.trace.metadata.config_digest", lorakit_trace::digest(&settings.print()));
        let opened = self.opened.take();
        for Opened { digest: (key, digest), .. } in &opened {
            trace.say(&format!("langfuse.trace.metadata.{key}"), digest.clone());
        }
        trace.began(self.started);
        let root = trace.root();
        let mut last = trace.at(self.started);
        for Opened { name, moment, attributes, .. } in opened {
            let end = trace.at(moment);
            trace.record(root, name, (last, end), attributes);
            last = end;
        }
        let ended = span()
            .metadata("steps", estimate.steps)
            .metadata("processor", processor().unwrap_or_else(|| "unknown".into()));
        let last = trace.now();
        let output = settings.output.clone();
        self.run = Some(Run { trace, last, train: None, window: None, step: 0, output, ended });
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        if let Some(run) = &mut self.run {
            run.step(step);
        }
        Ok(())
    }

    fn evaluated(&mut self, evaluated: &Evaluated) -> Result<()> {
        if let Some(run) = &mut self.run {
            run.evaluated(evaluated);
        }
        Ok(())
    }

    fn saved(&mut self, path: &Path) -> Result<()> {
        if let Some(run) = &mut self.run {
            run.saved(path);
        }
        Ok(())
    }

    fn finished(&mut self, summary: &Summary) -> Result<()> {
        if let Some(run) = &mut self.run {
            run.finished(summary);
        }
        Ok(())
    }
}

impl Run {
    fn step(&mut self, step: &Step) {
        let begin = self.last;
        let (train, _) = *self.train.get_or_insert_with(|| (self.trace.reserve(), begin));
        let window = self.window.get_or_insert(Window { begin, steps: 0, losses: 0.0 });
        window.steps += 1;
        window.losses += step.loss;
        (self.step, self.last) = (step.step, self.trace.now());
        if !step.shown {
            return;
        }
        let attributes = span()
            .metadata("step", step.step)
            .metadata("steps", window.steps)
            .metadata("epoch", step.epoch)
            .metadata("loss", window.losses / window.steps as f64)
            .metadata("lr", step.lr)
            .metadata("grad_norm", step.grad_norm)
            .metadata("tok_s", step.tok_s)
            .metadata("tokens", step.tokens)
            .metadata("supervised_tokens", step.supervised_tokens)
            .maybe_metadata("rss_bytes", step.rss);
        let times = (window.begin, self.last);
        self.trace.record(train, "train.window", times, attributes);
        self.window = None;
    }

    fn evaluated(&mut self, evaluated: &Evaluated) {
        let Evaluated { step, loss, best } = *evaluated;
        let (parent, name) = match self.train {
            Some((train, _)) => (train, format!("eval@{step}")),
            None => (self.trace.root(), "eval".into()),
        };
        let attributes = Attributes::of(Observation::Evaluator)
            .metadata("step", step)
            .metadata("eval_loss", loss)
            .metadata("perplexity", loss.exp())
            .metadata("best", best)
            .evaluation("eval_loss", loss, None);
        let id = self.done(parent, &name, attributes);
        for (name, value) in [("eval_loss", loss), ("perplexity", loss.exp())] {
            let (name, value) = (name.to_string(), Scored::Number(value));
            self.trace.score(&Score { of: id, name, value, comment: Some(format!("step {step}")) });
        }
    }

    fn saved(&mut self, path: &Path) {
        let attributes = span().metadata("step", self.step).metadata("name", short(path));
        if path == self.output {
            self.end_of_steps();
            let digest = lorakit_trace::digest_of(&path.join(ADAPTER)).ok();
            self.done(self.trace.root(), "export", attributes.maybe_metadata("adapter_digest", digest));
        } else {
            let parent = self.train.map_or(self.trace.root(), |(train, _)| train);
            self.done(parent, "checkpoint", attributes);
        }
    }

    fn finished(&mut self, summary: &Summary) {
        let outcome = match summary.outcome {
            Outcome::Finished => "finished",
            Outcome::StoppedEarly => "stopped-early",
            Outcome::Interrupted => "interrupted",
        };
        self.ended = std::mem::take(&mut self.ended)
            .metadata("outcome", outcome)
            .metadata("steps_done", summary.steps)
            .metadata("tokens", summary.tokens)
            .metadata("seconds", summary.wall_s)
            .maybe_metadata("loss", summary.loss)
            .maybe_metadata("eval_loss_before", summary.before)
            .maybe_metadata("eval_loss_best", summary.best.map(|(_, loss)| loss))
            .maybe_metadata("eval_step_best", summary.best.map(|(step, _)| step))
            .maybe_metadata("peak_bytes", summary.peak);
    }

    /// Records something that ends now.
    fn done(&mut self, parent: SpanId, name: &str, attributes: Attributes) -> SpanId {
        let end = self.trace.now();
        let begin = std::mem::replace(&mut self.last, end);
        self.trace.record(parent, name, (begin, end), attributes)
    }

    /// Records the steps as a whole.
    fn end_of_steps(&mut self) {
        if let Some((id, begin)) = self.train.take() {
            let attributes = span().metadata("step", self.step);
            self.trace.record_as(id, self.trace.root(), "train", (begin, self.last), attributes);
        }
    }
}

fn span() -> Attributes {
    Attributes::of(Observation::Span)
}
