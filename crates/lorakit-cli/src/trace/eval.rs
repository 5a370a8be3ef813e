//! The trace of an evaluation.
//!
//! ```text
//!   lorakit.run
//!     model.load
//!     eval                each candidate, with its figures and scores
//!       eval.item         each held-out row, and each item of the regression file
//!     eval.general        general text, strengths, random adapters
//! ```
//!
//! Each candidate is an experiment of Langfuse, and the same row has the same id in all of them, so that base and adapter
//! stand side by side. Rows are told by the name of their file and their line.

use std::collections::BTreeMap;
use std::time::Instant;

use lorakit_trace::{Attributes, Observation, Score, Scored, SpanId, Trace};
use lorakit_train::eval::{Candidate, Evaluation, Given, ItemReport, Kind, Outcome, RowReport};
use serde_json::json;

use super::{Report, session_of, short, weighted};
use crate::args;
use crate::error::Failure;
use crate::ui::Ui;

/// Traces an evaluation.
pub(crate) struct Traced {
    trace: Trace,
    started: Instant,
    parts: Vec<Part>,
}

/// Passes of one candidate, or of something that is measured for all.
struct Part {
    what: String,
    begin: Instant,
    /// When each pass began.
    passes: Vec<Instant>,
    /// When something happened last.
    last: Instant,
    /// When losses on rows were known.
    asks: Instant,
    /// When each question was asked and answered.
    questions: BTreeMap<usize, (Instant, Instant)>,
}

/// Where and what an item of an experiment is.
struct Item<'i> {
    id: String,
    prompt: Option<&'i str>,
    expected: Option<&'i str>,
    answer: Option<&'i Given>,
    loss: Option<f64>,
    attributes: Attributes,
}

impl Traced {
    /// One for a command that was told to trace, before it opens anything.
    ///
    /// # Errors
    /// What variables may be refused for.
    pub(crate) fn new(args: &args::Eval) -> Result<Option<Self>, Failure> {
        if args.reported.report.is_none() {
            return Ok(None);
        }
        let (destination, folder) = (super::destination()?, super::state_folder()?);
        let adapter = args.adapters.iter().chain(&args.against).map(|(path, _)| path).next();
        let content = args.reported.trace_content;
        let mut trace = super::begin("eval", session_of(adapter), folder, content, destination);
        let base = args.models.first().map(|path| short(path));
        trace.say("langfuse.trace.metadata.base", base.unwrap_or_default());
        trace.say("langfuse.trace.metadata.seed", args.seed);
        let adapters: Vec<String> = args.adapters.iter().map(weighted).collect();
        if !adapters.is_empty() {
            trace.say("langfuse.trace.metadata.adapters", adapters.join(", "));
        }
        Ok(Some(Traced { trace, started: Instant::now(), parts: Vec::new() }))
    }

    /// Passes of something else begin.
    pub(crate) fn begins(&mut self, what: &str) {
        let begin = Instant::now();
        let (what, passes, questions) = (what.to_string(), Vec::new(), BTreeMap::new());
        self.parts.push(Part { what, begin, passes, last: begin, asks: begin, questions });
    }

    /// A pass begins.
    pub(crate) fn passes(&mut self) {
        if let Some(part) = self.parts.last_mut() {
            part.last = Instant::now();
            part.passes.push(part.last);
        }
    }

    /// Losses on rows are known.
    pub(crate) fn asks(&mut self) {
        if let Some(part) = self.parts.last_mut() {
            part.last = Instant::now();
            part.asks = part.last;
        }
    }

    /// A question was read.
    pub(crate) fn asked(&mut self, question: usize) {
        if let Some(part) = self.parts.last_mut() {
            // It was being read since something else happened.
            part.questions.insert(question, (part.last, part.last));
            part.last = Instant::now();
        }
    }

    /// A question was answered.
    pub(crate) fn answered(&mut self, question: usize) {
        if let Some(part) = self.parts.last_mut() {
            part.last = Instant::now();
            if let Some(times) = part.questions.get_mut(&question) {
                times.1 = part.last;
            }
        }
    }

    /// Records what was found, if it was, and ends the trace.
    pub(crate) fn end(mut self, found: Option<&Evaluation>, failure: Option<&Failure>, ui: &Ui) -> Report {
        let now = Instant::now();
        let root = self.trace.root();
        let loaded = self.parts.first().map_or(now, |part| part.begin);
        let times = (self.trace.at(self.started), self.trace.at(loaded));
        self.trace.record(root, "model.load", times, Attributes::of(Observation::Span));
        let ends: Vec<Instant> = self.parts.iter().skip(1).map(|part| part.begin).chain([now]).collect();
        let parts: Vec<(Part, Instant)> = std::mem::take(&mut self.parts).into_iter().zip(ends).collect();
        let mut attributes = Attributes::of(Observation::Span);
        if let Some(found) = found {
            // Candidates on the base come first, and other models last.
            let models = found.candidates.iter().filter(|candidate| candidate.kind == Kind::Model).count();
            let on_base = found.candidates.len() - models;
            for (at, candidate) in found.candidates.iter().enumerate() {
                let place =
                    if at < on_base { at } else { (parts.len() + at).saturating_sub(found.candidates.len()) };
                if let Some((part, end)) = parts.get(place) {
                    self.candidate(found, at, candidate, part, *end);
                }
            }
            let between = parts.len().saturating_sub(on_base + models);
            for (part, end) in parts.iter().skip(on_base).take(between) {
                if part.passes.is_empty() {
                    continue;
                }
                let name = match part.what.as_str() {
                    "strengths" => "eval.scales",
                    "random adapters" => "eval.null",
                    _ => "eval.general",
                };
                let times = (self.trace.at(part.begin), self.trace.at(*end));
                self.trace.record(root, name, times, Attributes::of(Observation::Span));
            }
            attributes = attributes
                .metadata("rows", found.data.judged)
                .metadata("answered", found.data.answered)
                .metadata("tokens", found.data.tokens)
                .metadata("candidates", found.candidates.len());
        }
        super::end(self.trace, attributes, failure, ui)
    }

    fn candidate(&mut self, found: &Evaluation, at: usize, candidate: &Candidate, part: &Part, end: Instant) {
        let (losses, name) = (&candidate.held_out, name(candidate));
        let outcome = candidate.verdict.as_ref().map(|verdict| word(verdict.outcome));
        let mut attributes = Attributes::of(Observation::Evaluator)
            .metadata("candidate", name.clone())
            .metadata("form", candidate.form.clone())
            .metadata("eval_loss", losses.loss)
            .metadata("perplexity", losses.perplexity)
            .metadata("bits_per_token", losses.bits_per_token)
            .maybe_metadata("bits_per_byte", losses.bits_per_byte)
            .metadata("tokens", losses.tokens)
            .metadata("rows", losses.rows)
            .maybe_metadata("verdict", outcome)
            .evaluation("eval_loss", losses.loss, outcome);
        if let Some(difference) = &losses.difference {
            attributes = attributes
                .metadata("eval_loss_difference", difference.mean)
                .maybe_metadata("eval_loss_difference_low", difference.low)
                .maybe_metadata("eval_loss_difference_high", difference.high);
        }
        let mut scores: Vec<(&str, Scored, Option<String>)> = vec![
            ("eval_loss", Scored::Number(losses.loss), None),
            ("perplexity", Scored::Number(losses.perplexity), None),
        ];
        if let Some(answers) = &candidate.answers {
            let share = |count: usize| count as f64 / answers.rows.max(1) as f64;
            attributes = attributes
                .metadata("answers", answers.rows)
                .metadata("exact", answers.exact)
                .metadata("json", answers.json)
                .metadata("stopped", answers.stopped);
            scores.push(("exact_match", Scored::Number(share(answers.exact)), None));
            scores.push(("json_valid", Scored::Number(share(answers.json)), None));
            for check in &answers.checks {
                attributes = attributes.metadata(&format!("passed.{}", check.check), check.passed);
            }
        }
        if let Some(general) = &candidate.general {
            let forgetting = general.forgetting.as_ref().map(|interval| interval.mean);
            attributes = attributes
                .metadata("general_loss", general.loss)
                .maybe_metadata("forgetting", forgetting)
                .maybe_metadata("divergence", general.divergence)
                .metadata("forgetting_flagged", general.flagged);
            scores.extend(forgetting.map(|forgetting| ("forgetting", Scored::Number(forgetting), None)));
        }
        if let Some(regression) = &candidate.regression {
            attributes =
                attributes.metadata("items", regression.items).metadata("items_passed", regression.passed);
            let comment = format!("{} of {} items pass", regression.passed, regression.items);
            scores.push(("regression_pass", Scored::Bool(regression.must_failed.is_empty()), Some(comment)));
        }
        if let Some(verdict) = &candidate.verdict {
            let reasons: Vec<&str> =
                verdict.better.iter().chain(&verdict.worse).map(String::as_str).collect();
            let comment = (!reasons.is_empty()).then(|| reasons.join("; "));
            scores.push(("verdict", Scored::Word(word(verdict.outcome).into()), comment));
        }
        let times = (self.trace.at(part.begin), self.trace.at(end));
        let id = self.trace.record(self.trace.root(), "eval", times, attributes);
        for (name, value, comment) in scores {
            self.trace.score(&Score { of: id, name: name.into(), value, comment });
        }
        self.items(found, at, &name, id, part, end);
    }

    /// What a candidate made of each row and each item.
    fn items(
        &mut self,
        found: &Evaluation,
        at: usize,
        name: &str,
        parent: SpanId,
        part: &Part,
        end: Instant,
    ) {
        let experiment = Attributes::default()
            .with("langfuse.experiment.id", format!("{}-{at}", self.trace.id()))
            .with("langfuse.experiment.name", name)
            .with("langfuse.experiment.description", format!("lorakit eval of {name}"));
        let file = |at: usize| found.data.files.get(at).map(|path| short(path)).unwrap_or_default();
        let mut question = 0;
        let mut ids = BTreeMap::new();
        for (place, row) in found.rows.iter().enumerate() {
            let data = file(row.file);
            let id = item_id(&data, row, &mut ids);
            let Some(made) = row.made.get(at).and_then(Option::as_ref) else { continue };
            let item = Item {
                id,
                prompt: row.prompt.as_deref(),
                expected: row.expected.as_deref(),
                answer: made.answer.as_ref(),
                loss: Some(made.loss),
                attributes: experiment.clone().with("langfuse.experiment.dataset.id", data),
            };
            let pass = part.passes.get(place).copied().unwrap_or(part.begin);
            let next = part.passes.get(place + 1).copied().unwrap_or(end).min(part.asks.max(pass));
            let times = match item.answer.and_then(|_| part.questions.get(&question)) {
                Some(times) => *times,
                None => (pass, next),
            };
            question += usize::from(item.answer.is_some());
            self.item(&item, name, parent, times);
        }
        for (place, item) in found.items.iter().enumerate() {
            let ItemReport { name: label, must, prompt, answers, .. } = item;
            let Some(answer) = answers.get(at) else { continue };
            let item = Item {
                id: format!("regression:{label}"),
                prompt: Some(prompt),
                expected: None,
                answer: Some(answer),
                loss: None,
                attributes: experiment
                    .clone()
                    .with("langfuse.experiment.dataset.id", "regression")
                    .metadata("must", *must),
            };
            let times = part.questions.get(&(question + place)).copied().unwrap_or((part.begin, end));
            self.item(&item, name, parent, times);
        }
    }

    fn item(&mut self, item: &Item<'_>, model: &str, parent: SpanId, (begin, end): (Instant, Instant)) {
        let id = self.trace.reserve();
        let observation =
            if item.answer.is_some() { Observation::Generation } else { Observation::Evaluator };
        let content = |text: Option<&str>| text.and_then(|text| self.trace.content(text));
        let mut attributes = Attributes::of(observation)
            .with("langfuse.experiment.item.id", item.id.clone())
            .with("langfuse.experiment.item.root_observation_id", id.to_string())
            .maybe("langfuse.experiment.item.expected_output", content(item.expected))
            .maybe("langfuse.observation.input", content(item.prompt))
            .maybe_metadata("eval_loss", item.loss);
        let mut score = item.loss.map(|loss| ("eval_loss", Scored::Number(loss), loss));
        if let Some(answer) = item.answer {
            attributes = attributes
                .with("langfuse.observation.model.name", model)
                .with("langfuse.observation.usage_details", json!({ "output": answer.tokens }).to_string())
                .maybe("langfuse.observation.output", content(Some(&answer.text)))
                .metadata("stopped", answer.stopped)
                .maybe_metadata("exact", answer.exact)
                .metadata("failures", answer.failures.len());
            let number = |switch: bool| f64::from(u8::from(switch));
            let passes = answer.failures.is_empty();
            score = match (answer.exact, score) {
                // Of candidates it is a share, so that of a row it is a number, too.
                (Some(exact), _) => Some(("exact_match", Scored::Number(number(exact)), number(exact))),
                (None, None) => Some(("regression_pass", Scored::Bool(passes), number(passes))),
                (None, loss) => loss,
            };
        }
        if let Some((name, _, number)) = &score {
            attributes = attributes.evaluation(name, *number, None);
        }
        let times = (self.trace.at(begin), self.trace.at(end));
        self.trace.record_as(id, parent, "eval.item", times, attributes.and(&item.attributes));
        if let Some((name, value, _)) = score {
            self.trace.score(&Score { of: id, name: name.into(), value, comment: None });
        }
    }
}

/// What a candidate is called.
fn name(candidate: &Candidate) -> String {
    match (candidate.kind, &candidate.adapter) {
        (Kind::Base, _) => "base".into(),
        (_, Some(path)) => weighted(&(path.clone(), candidate.weight.unwrap_or(1.0))),
        (_, None) => short(&candidate.model),
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Improved => "improved",
        Outcome::NoSignificantChange => "no_significant_change",
        Outcome::Regressed => "regressed",
    }
}

/// `FILE:LINE`; long texts are several documents of a line, which are counted.
fn item_id(file: &str, row: &RowReport, seen: &mut BTreeMap<(usize, u64), usize>) -> String {
    let count = seen.entry((row.file, row.line)).or_default();
    *count += 1;
    match *count {
        1 => format!("{file}:{}", row.line),
        count => format!("{file}:{}#{count}", row.line),
    }
}
