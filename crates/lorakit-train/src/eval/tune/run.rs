//! A search from beginning to end.

use std::path::Path;

use lorakit::ops::combine::CombineOptions;
use lorakit::plan::Silent;
use sha2::{Digest, Sha256};

use super::report::{Measured, Role, TuneData, Tuned};
use super::search::Score;
use super::split::split;
use super::trials::{Combination, search, unit};
use super::{Metric, TuneOptions};
use crate::base::Base;
use crate::eval::compare::against;
use crate::eval::measure::{self, Loss, Moment, Subject};
use crate::eval::options::{General, Options, Watch};
use crate::eval::problem::Problem;
use crate::eval::statistics::{FEWEST, bootstrap};
use crate::eval::task::{Pace, Task};
use crate::kernel::{Compute, Products};
use crate::model::Adapter;
use crate::{Error, Result, adapter};

/// Chooses the weights of `combine`, and its density if the method needs one and none is given, by what the combination
/// does on held-out rows. The weights in `combine` are where the search begins; their signs stay.
///
/// # Errors
/// As [`compute`](lorakit::ops::combine::compute); what models, adapters and rows may be refused for; losses that are not finite;
/// [`Interrupted`](lorakit::ErrorKind::Interrupted).
pub fn tune(combine: &CombineOptions, options: &TuneOptions, watch: &mut dyn Watch) -> Result<Tuned> {
    let method = combine.method.in_style(combine.style);
    let several = combine.adapters.len() > 1;
    let given: Vec<f64> = combine.adapters.iter().map(|(_, weight)| *weight).collect();
    let thins = several && method.has_density() && combine.density.is_none();
    let trial = Combination { options: combine, thins };
    // Everything that can be refused without the base comes first.
    trial.compute(&trial.point(given.clone()), watch.progress())?;
    let eval = as_evaluated(combine, options);
    let files = Base::files(&options.model)?;
    let task = Task::new(&eval, &eval.told()?, &files, &[])?;
    if options.metric == Metric::Exact && task.held.rows.iter().all(|row| row.question.is_none()) {
        return Err(Problem::NoAnswers { path: task.held.files[0].clone() }.into());
    }
    let tokens: Vec<&[u32]> = task.held.rows.iter().map(|row| row.document.tokens.as_slice()).collect();
    let (chosen_on, held) = split(&tokens, options.share);
    if held.is_empty() && options.share < 1.0 {
        let problem = Problem::NothingHeldBack { rows: tokens.len() };
        return Err(Error::from(problem).at(&task.held.files[0]));
    }
    let measured_on = if held.is_empty() { chosen_on.clone() } else { held };
    let base = Base::of(files, options.quant, options.threads, watch.progress())?;
    let passes = if options.metric == Metric::Exact { 2 } else { 1 };
    let rows = (2 + given.len()) * (chosen_on.len() + measured_on.len()) + options.trials * chosen_on.len();
    let pace = Pace { watch, done: 0, of: (passes * rows) as u64, what: String::new() };
    let products = Products { compute: Compute::F32, threads: options.threads };
    let mut run = Run { trial, options, task: &task, base: &base, products, chosen_on, measured_on, pace };
    run.tuned(given)
}

/// The evaluation whose rows, template and tokens these are.
fn as_evaluated(combine: &CombineOptions, options: &TuneOptions) -> Options {
    let mut eval = Options::new(options.model.clone(), std::path::PathBuf::new());
    eval.data.clone_from(&options.data);
    eval.adapters.clone_from(&combine.adapters);
    eval.general = General::Nothing;
    eval.context = options.context;
    eval.chat_template.clone_from(&options.chat_template);
    eval
}

/// What a model did on some rows.
pub(super) struct Figures {
    losses: Vec<Loss>,
    /// Whether each answer is what was expected; none where a row has no answer, or it was not asked.
    exact: Vec<Option<bool>>,
}

impl Figures {
    /// How good it is.
    pub(super) fn score(&self, metric: Metric) -> Score {
        let exact = self.exact.iter().filter(|exact| **exact == Some(true)).count();
        Score { loss: Loss::sum(&self.losses).mean(), exact: (metric == Metric::Exact).then_some(exact) }
    }
}

/// What is compared.
struct Candidate {
    role: Role,
    weights: Vec<f64>,
    density: Option<f64>,
    /// On the rows that weights are chosen on.
    chosen_on: Figures,
    /// On those of the figures.
    held: Figures,
}

/// A search that is under way.
pub(super) struct Run<'a> {
    pub(super) trial: Combination<'a>,
    pub(super) options: &'a TuneOptions,
    task: &'a Task,
    base: &'a Base,
    products: Products,
    /// Places of rows.
    pub(super) chosen_on: Vec<usize>,
    measured_on: Vec<usize>,
    pub(super) pace: Pace<'a>,
}

impl Run<'_> {
    fn tuned(&mut self, given: Vec<f64>) -> Result<Tuned> {
        let combine = self.trial.options;
        let count = given.len();
        let mut candidates = Vec::with_capacity(count + 3);
        self.pace.what = "base".into();
        let none = Adapter::none(&self.base.model.shape);
        candidates.push(self.candidate(Role::Base, vec![0.0; count], None, &none)?);
        for (at, (path, _)) in combine.adapters.iter().enumerate() {
            self.pace.what = path.display().to_string();
            let (_, adapter) = adapter::read(path, self.base)?;
            candidates.push(self.candidate(Role::Alone, unit(count, at, 1.0), None, &adapter)?);
        }
        let metric = self.options.metric;
        let best_alone = (2..=count).fold(1, |best: usize, at| {
            let score = |at: usize| candidates[at].chosen_on.score(metric);
            if score(at).beats(&score(best), metric) { at } else { best }
        });
        let (point, trials) = search(self, &given)?;
        for (role, point) in [(Role::Given, self.trial.point(given)), (Role::Chosen, point)] {
            self.pace.what = "chosen weights".into();
            let adapter = self.adapter(&point)?;
            let (weights, density) = (self.trial.weights(&point).to_vec(), self.trial.density(&point));
            candidates.push(self.candidate(role, weights, density, &adapter)?);
        }
        let reference = &candidates[best_alone].held;
        let measured = candidates
            .iter()
            .enumerate()
            .map(|(at, candidate)| self.measured(candidate, (at != best_alone).then_some(reference)));
        let measured: Vec<Measured> = measured.collect();
        let notes = self.notes(&measured, trials.len());
        let (weights, density) =
            measured.last().map(|last| (last.weights.clone(), last.density)).unwrap_or_default();
        let data = self.data()?;
        Ok(Tuned { metric, data, weights, density, measured, best_alone, trials, notes })
    }

    /// The figures of a candidate, and how they compare with those of the best adapter alone.
    fn measured(&self, candidate: &Candidate, reference: Option<&Figures>) -> Measured {
        let metric = self.options.metric;
        let held = &candidate.held;
        let Score { loss, exact } = held.score(metric);
        let difference = reference.map(|reference| {
            let pairs = held.losses.iter().zip(&reference.losses);
            let rows: Vec<(f64, f64)> =
                pairs.map(|(own, other)| (own.nats - other.nats, other.weight)).collect();
            bootstrap(&rows, self.options.seed)
        });
        let exact_against = reference.filter(|_| metric == Metric::Exact).map(|reference| {
            let pairs = held.exact.iter().zip(&reference.exact);
            against(pairs.filter_map(|(own, other)| Some(((*own)?, (*other)?))))
        });
        Measured {
            role: candidate.role,
            weights: candidate.weights.clone(),
            density: candidate.density,
            chosen_on: candidate.chosen_on.score(metric).loss,
            loss,
            exact,
            difference,
            exact_against,
        }
    }

    /// The adapter that a point is.
    pub(super) fn adapter(&self, point: &[f64]) -> Result<Adapter<f32>> {
        adapter::of(self.trial.compute(point, &Silent)?.output.adapter(), self.base)
    }

    /// What an adapter does on rows that weights are chosen on, and on those of the figures.
    fn candidate(
        &mut self,
        role: Role,
        weights: Vec<f64>,
        density: Option<f64>,
        adapter: &Adapter<f32>,
    ) -> Result<Candidate> {
        let (chosen_on, measured_on) = (self.chosen_on.clone(), self.measured_on.clone());
        let chosen_on = self.figures(adapter, &chosen_on)?;
        let held = self.figures(adapter, &measured_on)?;
        Ok(Candidate { role, weights, density, chosen_on, held })
    }

    /// What an adapter does on some rows.
    pub(super) fn figures(&mut self, adapter: &Adapter<f32>, rows: &[usize]) -> Result<Figures> {
        let (task, pace) = (self.task, &mut self.pace);
        let subject = Subject { model: &self.base.model, adapter, products: self.products };
        let mut losses = Vec::with_capacity(rows.len());
        for row in rows.iter().map(|at| &task.held.rows[*at]) {
            pace.pass()?;
            let place = |error: Error| error.at(&task.held.files[row.document.source]);
            losses.push(subject.loss(row).map_err(place)?);
        }
        if self.options.metric == Metric::Loss {
            return Ok(Figures { losses, exact: vec![None; rows.len()] });
        }
        let questions: Vec<_> = rows.iter().map(|at| task.held.rows[*at].question.as_ref()).collect();
        let prompts: Vec<&[u32]> =
            questions.iter().flatten().map(|question| question.prompt.as_slice()).collect();
        let most = self.options.most_tokens;
        let mut tell = |moment| if let Moment::Answered(_) = moment { pace.pass() } else { Ok(()) };
        let answers = measure::answers(&subject, &task.text, &prompts, most, task.context, &mut tell)?;
        let mut answers = answers.into_iter();
        let exact = |question: &Option<&_>| answer_is(*question, &mut answers);
        Ok(Figures { losses, exact: questions.iter().map(exact).collect() })
    }

    fn data(&self) -> Result<TuneData> {
        let held = &self.task.held;
        let sha256 = held.files.iter().map(|file| sha256(file)).collect::<Result<_>>()?;
        Ok(TuneData {
            files: held.files.clone(),
            sha256,
            rows: held.all,
            chosen_on: self.chosen_on.len(),
            measured_on: self.measured_on.len(),
            held_back: self.options.share < 1.0,
            too_long: held.too_long.count,
        })
    }

    /// What should be known about the figures.
    fn notes(&self, measured: &[Measured], trials: usize) -> Vec<String> {
        let mut notes = Vec::new();
        let held = &self.task.held;
        if held.too_long.count > 0 {
            let first = held.too_long.first.map_or(0, |place| place.line);
            notes.push(format!(
                "rows with more tokens than the context, {}, are left out: {} of {}, the first on line {first}",
                self.task.context.unwrap_or(0),
                held.too_long.count,
                held.all,
            ));
        }
        if self.options.share >= 1.0 {
            notes.push(
                "the weights were chosen on the rows of all figures, which flatters them: judge them on rows that had no part in it"
                    .into(),
            );
        }
        if self.measured_on.len() < FEWEST {
            notes.push(format!(
                "figures are those of {} rows, and of fewer than {FEWEST} there is no interval",
                self.measured_on.len()
            ));
        }
        if trials >= self.options.trials {
            notes.push(format!("the search ended after {trials} trials; more might find better weights"));
        }
        if let ([base, ..], Some(chosen)) = (measured, measured.last())
            && base.chosen_on <= chosen.chosen_on
        {
            notes.push("no weights that were tried lose less than the base alone".into());
        }
        notes
    }
}

/// Whether the next of the answers is what a row expects; none if it asks nothing.
fn answer_is(
    question: Option<&crate::eval::rows::Question>,
    answers: &mut impl Iterator<Item = crate::eval::Answer>,
) -> Option<bool> {
    let expected = &question?.expected;
    answers.next().map(|answer| answer.text == *expected)
}

fn sha256(file: &Path) -> Result<String> {
    let bytes = crate::files::read(file).map_err(|error| lorakit_tensor::Error::io("read", file, error))?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}
