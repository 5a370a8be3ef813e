//! The loop: passes, steps, validation, checkpoints.

use std::time::Instant;

use super::estimate::Room;
use super::frozen::Frozen;
use super::machine;
use super::metrics::Metrics;
use super::observe::{Evaluated, Observer, Outcome, Step, Summary};
use super::output::Output;
use super::plan::Plan;
use super::problem::Problem;
use super::ready::{Job, Ready, lowest, supervised};
use super::state::{Origin, State};
use crate::data::Document;
use crate::error::Result;
use crate::kernel::Products;
use crate::model::{Adapter, Batch, Dropout, How};
use crate::optimise::Schedule;

/// Tokens of a pass without gradients.
const FORWARD: usize = 512;

impl Ready<'_> {
    /// Trains.
    ///
    /// # Errors
    /// If a loss or a gradient is not finite, or something cannot be written.
    pub(crate) fn run(self, observer: &mut dyn Observer) -> Result<Summary> {
        let Self { job, plan, schedule, products, room, origin, state, from, estimate } = self;
        let output = Output::begin(job.settings, from.as_deref(), job.writes)?;
        let metrics = Metrics::open(output.folder(), state.step)?;
        observer.begins(job.settings, &estimate)?;
        let lowest = lowest(&state.adapter);
        let frozen =
            estimate.cached.then(|| Frozen::new(job.model, lowest, job.rows, output.folder())).flatten();
        let gradients = state.adapter.zeros();
        let (begin, begin_step) = (Instant::now(), state.step);
        let mut run = Run {
            job: &job,
            schedule,
            products,
            room,
            origin,
            state,
            output,
            metrics,
            frozen,
            gradients,
            begin,
            begin_step,
            loss: None,
        };
        let outcome = run.steps(&plan, observer)?;
        let summary = run.end(outcome, observer)?;
        Ok(summary)
    }
}

/// A run that is under way.
struct Run<'a> {
    job: &'a Job<'a>,
    schedule: Schedule,
    products: Products,
    room: Room,
    origin: Origin,
    state: State,
    output: Output<'a>,
    metrics: Metrics,
    frozen: Option<Frozen>,
    gradients: Adapter<f32>,
    begin: Instant,
    /// The step at which this process began.
    begin_step: u64,
    /// Of the last step.
    loss: Option<f64>,
}

/// Whether to go on.
enum Next {
    Go,
    End(Outcome),
}

impl Run<'_> {
    fn steps(&mut self, plan: &Plan, observer: &mut dyn Observer) -> Result<Outcome> {
        if self.state.step == 0 && !self.job.held.is_empty() {
            match self.evaluate(observer)? {
                Some(loss) => self.state.before = Some(loss),
                None => return Ok(Outcome::Interrupted),
            }
        }
        if self.state.unevaluated
            && let Next::End(outcome) = self.validate(observer)?
        {
            return Ok(outcome);
        }
        loop {
            let steps = plan.epoch(self.state.epoch);
            for rows in steps.iter().skip(self.state.place as usize) {
                if self.state.step >= self.origin.steps {
                    return Ok(Outcome::Finished);
                }
                if let Next::End(outcome) = self.step(rows, steps.len() as u64, observer)? {
                    return Ok(outcome);
                }
            }
            if steps.is_empty() {
                // A weight below 1 may leave an epoch without rows.
                self.state.epoch += 1;
            }
            if self.state.step >= self.origin.steps {
                return Ok(Outcome::Finished);
            }
        }
    }

    /// One step of an epoch that has `of` of them, and what is due after it.
    fn step(&mut self, rows: &[usize], of: u64, observer: &mut dyn Observer) -> Result<Next> {
        let (begin, settings) = (Instant::now(), self.job.settings);
        let Some((loss, weight)) = self.gradients_of(rows, observer) else {
            self.save(observer)?;
            return Ok(Next::End(Outcome::Interrupted));
        };
        let step = self.state.step + 1;
        let kept = || self.output.latest().cloned();
        if !loss.is_finite() {
            return Err(Problem::Loss { step, kept: kept() }.into());
        }
        let lr = settings.lr * self.schedule.at(self.state.step);
        let Some(grad_norm) = self.state.optimiser.step(&mut self.state.adapter, &self.gradients, lr) else {
            return Err(Problem::Gradient { step, kept: kept() }.into());
        };
        let tokens: u64 = rows.iter().map(|row| self.job.rows[*row].tokens.len() as u64).sum();
        let state = &mut self.state;
        state.step = step;
        state.place += 1;
        state.tokens += tokens;
        state.supervised += rows.iter().map(|row| supervised(&self.job.rows[*row])).sum::<u64>();
        let ends_epoch = state.place == of;
        let epoch = state.epoch as f64 + state.place as f64 / of as f64;
        if ends_epoch {
            (state.epoch, state.place) = (state.epoch + 1, 0);
        }
        let loss = if weight > 0.0 { loss / weight } else { 0.0 };
        self.loss = Some(loss);
        let elapsed = self.begin.elapsed().as_secs_f64();
        let pace = elapsed / (step - self.begin_step) as f64;
        let done = Step {
            step,
            steps: self.origin.steps,
            epoch,
            loss,
            lr,
            grad_norm,
            tokens: self.state.tokens,
            supervised_tokens: self.state.supervised,
            tok_s: tokens as f64 / begin.elapsed().as_secs_f64().max(1e-9),
            rss: machine::memory_now(),
            wall_s: self.state.wall_s + elapsed,
            left_s: pace * (self.origin.steps - step) as f64,
            shown: step.is_multiple_of(settings.log_every) || step == self.origin.steps,
        };
        self.metrics.step(&done)?;
        observer.step(&done)?;

        let last = step == self.origin.steps;
        let due = |every: Option<u64>| last || every.map_or(ends_epoch, |every| step.is_multiple_of(every));
        if due(settings.eval_every) && !self.job.held.is_empty() {
            self.state.unevaluated = true;
            if let Next::End(outcome) = self.validate(observer)? {
                return Ok(Next::End(outcome));
            }
        }
        if due(settings.save_every) {
            self.save(observer)?;
        }
        Ok(Next::Go)
    }

    /// The weighted loss of a step, and its weight; the gradients are those of their quotient. None if the run shall end.
    fn gradients_of(&mut self, rows: &[usize], observer: &dyn Observer) -> Option<(f64, f64)> {
        let settings = self.job.settings;
        self.gradients.factors_mut().for_each(|factor| factor.fill(0.0));
        let weight = self.weight(rows);
        let (mut loss, mut place) = (0.0, 0);
        for rows in passes(rows, self.job.rows, self.room.pass) {
            if observer.stops() {
                return None;
            }
            let (tokens, lengths, weights) = joined(rows, self.job.rows);
            let states = self
                .frozen
                .as_mut()
                .map(|frozen| frozen.states(self.job.model, self.job.rows, rows, self.products));
            if matches!(states, Some(None)) {
                self.frozen = None;
            }
            let states = states.flatten();
            let rate = settings.lora.dropout;
            let how = How {
                products: self.products,
                recompute: self.room.recompute,
                dropout: (rate > 0.0).then_some(Dropout {
                    rate,
                    seed: settings.seed,
                    step: self.state.step,
                    place,
                }),
                states: states.as_deref(),
            };
            let batch = Batch { tokens: &tokens, lengths: &lengths, weights: &weights };
            if weight > 0.0 {
                self.job.model.train(
                    &self.state.adapter,
                    &batch,
                    1.0 / weight,
                    &how,
                    &mut self.gradients,
                    &mut loss,
                );
            }
            place += tokens.len() as u64;
        }
        if observer.stops() { None } else { Some((loss, weight)) }
    }

    /// What the losses of rows count, together.
    fn weight(&self, rows: &[usize]) -> f64 {
        let weights = rows.iter().flat_map(|row| self.job.rows[*row].weights.iter().skip(1));
        weights.map(|weight| f64::from(*weight)).sum()
    }

    /// The mean loss on the rows for validation. None if the run shall end.
    fn evaluate(&mut self, observer: &mut dyn Observer) -> Result<Option<f64>> {
        let held = self.job.held;
        let all: Vec<usize> = (0..held.len()).collect();
        let (mut loss, mut weight) = (0.0, 0.0);
        for rows in passes(&all, held, FORWARD.min(self.room.pass)) {
            if observer.stops() {
                return Ok(None);
            }
            let (tokens, lengths, weights) = joined(rows, held);
            let batch = Batch { tokens: &tokens, lengths: &lengths, weights: &weights };
            self.job.model.loss(&self.state.adapter, &batch, self.products, &mut loss);
            weight += batch.weight();
        }
        let (loss, step) = (loss / weight, self.state.step);
        if !loss.is_finite() {
            return Err(Problem::Validation { step, kept: self.output.latest().cloned() }.into());
        }
        let best = step > 0 && self.state.best.is_none_or(|(_, best)| loss < best);
        let evaluated = Evaluated { step, loss, best };
        let epoch = self.state.epoch as f64;
        self.metrics.evaluated(&evaluated, epoch, self.state.wall_s + self.begin.elapsed().as_secs_f64())?;
        observer.evaluated(&evaluated)?;
        Ok(Some(loss))
    }

    /// Validates after a step: the best adapter is kept, and the run may end.
    fn validate(&mut self, observer: &mut dyn Observer) -> Result<Next> {
        let settings = self.job.settings;
        let Some(loss) = self.evaluate(observer)? else {
            self.save(observer)?;
            return Ok(Next::End(Outcome::Interrupted));
        };
        self.state.unevaluated = false;
        if self.state.best.is_none_or(|(_, best)| loss < best) {
            self.state.best = Some((self.state.step, loss));
            self.state.worse = 0;
            if settings.best {
                let path = self.output.save_best(&self.state.adapter)?;
                observer.saved(&path)?;
            }
        } else {
            self.state.worse += 1;
        }
        let ends = settings.early_stop.is_some_and(|patience| self.state.worse >= patience);
        Ok(if ends { Next::End(Outcome::StoppedEarly) } else { Next::Go })
    }

    fn save(&mut self, observer: &mut dyn Observer) -> Result<()> {
        if self.state.step == 0 {
            return Ok(());
        }
        let before = self.state.wall_s;
        self.state.wall_s += self.begin.elapsed().as_secs_f64();
        let saved = self.output.save(&self.state, &self.origin);
        self.state.wall_s = before;
        if let Some(path) = saved? {
            observer.saved(&path)?;
        }
        Ok(())
    }

    fn end(self, outcome: Outcome, observer: &mut dyn Observer) -> Result<Summary> {
        if outcome != Outcome::Interrupted {
            self.output.finish(&self.state.adapter)?;
            observer.saved(self.output.folder())?;
        }
        let saved = match outcome {
            Outcome::Interrupted => self.output.latest().cloned(),
            _ => Some(self.output.folder().to_path_buf()),
        };
        let summary = Summary {
            outcome,
            steps: self.state.step,
            loss: self.loss,
            best: self.state.best,
            before: self.state.before,
            tokens: self.state.tokens,
            saved,
            best_at: self.output.best().filter(|_| self.state.best.is_some()),
            wall_s: self.state.wall_s + self.begin.elapsed().as_secs_f64(),
            peak: machine::memory_peak(),
        };
        observer.finished(&summary)?;
        Ok(summary)
    }
}

/// Rows in passes of at most `most` tokens, in order. A row is never split, so how they are split changes no sum.
fn passes<'r>(rows: &'r [usize], of: &[Document], most: usize) -> Vec<&'r [usize]> {
    let mut passes = Vec::new();
    let (mut begin, mut tokens) = (0, 0);
    for (at, row) in rows.iter().enumerate() {
        let length = of[*row].tokens.len();
        if at > begin && tokens + length > most {
            passes.push(&rows[begin..at]);
            (begin, tokens) = (at, 0);
        }
        tokens += length;
    }
    if begin < rows.len() {
        passes.push(&rows[begin..]);
    }
    passes
}

/// Tokens, lengths and weights of rows, one after another.
fn joined(rows: &[usize], of: &[Document]) -> (Vec<u32>, Vec<usize>, Vec<f32>) {
    let rows = rows.iter().map(|row| &of[*row]);
    (
        rows.clone().flat_map(|row| &row.tokens).copied().collect(),
        rows.clone().map(|row| row.tokens.len()).collect(),
        rows.flat_map(|row| &row.weights).copied().collect(),
    )
}
