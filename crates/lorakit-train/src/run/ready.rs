//! A job is made ready: how it is done, where it goes on, what it will take.

use std::path::PathBuf;

use super::estimate::{self, Estimate, Need, Room};
use super::machine;
use super::output::{self, Writes};
use super::plan::{self, Order, Plan};
use super::problem::Problem;
use super::sample::Answers;
use super::state::{self, Origin, State};
use crate::data::Document;
use crate::error::{Error, Result};
use crate::kernel::{Compute, Products};
use crate::model::{Adapter, Model};
use crate::optimise::{self, AdamW, Schedule};
use crate::settings::{ComputeChoice, Settings};

/// What is trained, on what, and who writes it.
pub(crate) struct Job<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) model: &'a Model,
    /// With the factors of the first step.
    pub(crate) adapter: Adapter<f32>,
    pub(crate) rows: &'a [Document],
    /// Rows for validation.
    pub(crate) held: &'a [Document],
    pub(crate) order: &'a Order<'a>,
    /// Of base and rows, by what they are of.
    pub(crate) digests: Vec<(&'static str, String)>,
    pub(crate) writes: &'a dyn Writes,
    /// Who is asked for samples.
    pub(crate) answers: Option<&'a dyn Answers>,
}

/// A job whose first pass could begin.
pub(crate) struct Ready<'a> {
    pub(super) job: Job<'a>,
    pub(super) plan: Plan<'a>,
    pub(super) schedule: Schedule,
    pub(super) products: Products,
    pub(super) room: Room,
    pub(super) origin: Origin,
    pub(super) state: State,
    /// The checkpoint at which it goes on.
    pub(super) from: Option<PathBuf>,
    pub(crate) estimate: Estimate,
}

/// A digest of rows as they are trained on: their tokens and weights, in order.
pub(crate) fn digest(rows: &[Document]) -> String {
    let mut hash = blake3::Hasher::new();
    for row in rows {
        hash.update(&(row.tokens.len() as u64).to_le_bytes());
        let tokens = row.tokens.iter().flat_map(|token| token.to_le_bytes());
        let weights = row.weights.iter().flat_map(|weight| weight.to_le_bytes());
        hash.update(&tokens.chain(weights).collect::<Vec<u8>>());
    }
    hash.finalize().to_hex().to_string()
}

/// Tokens of a row that are predicted.
pub(super) fn supervised(row: &Document) -> u64 {
    row.weights.iter().skip(1).filter(|weight| **weight != 0.0).count() as u64
}

fn tokens(rows: &[Document]) -> u64 {
    rows.iter().map(|row| row.tokens.len() as u64).sum()
}

impl<'a> Ready<'a> {
    /// Decides how the job is done, and reads the checkpoint at which it goes on. Nothing is written.
    ///
    /// # Errors
    /// If the output is in use, the checkpoint is of another run or damaged, or the memory does not suffice.
    pub(crate) fn new(mut job: Job<'a>) -> Result<Self> {
        let settings = job.settings;
        let from = output::checkpoint(settings)?;
        let vocabulary = job.model.shape.vocabulary;
        for row in job.rows.iter().chain(job.held) {
            if let Some(token) = row.tokens.iter().find(|token| **token as usize >= vocabulary) {
                return Err(Problem::Token { token: *token, line: row.line, vocabulary }.into());
            }
        }
        let began = from.as_deref().map(state::computes).transpose()?;
        let compute = match settings.compute {
            ComputeChoice::F32 => Compute::F32,
            ComputeChoice::Bf16 => Compute::Bf16,
            ComputeChoice::Auto => began.map_or_else(machine::usual_compute, |(compute, _)| compute),
        };
        let threads = settings.threads.unwrap_or_else(machine::usual_threads);
        let products = Products { compute, threads };
        let plan = Plan::new(settings, job.rows.iter().map(|row| row.tokens.len()).collect(), job.order);
        let (first, steps) = (plan.epoch(0), plan.steps(settings));
        let of_step = |rows: &Vec<usize>| rows.iter().map(|row| plan.lengths[*row]).sum::<usize>();
        let schedule = plan::schedule(settings, steps);
        if steps > 0 && (0..steps).all(|step| schedule.at(step) == 0.0) {
            return Err(Problem::NoRate { steps, warmup: schedule.warmup }.into());
        }
        let need = Need {
            model: job.model,
            adapter: &job.adapter,
            longest: plan.lengths.iter().copied().max().unwrap_or(0),
            step: first.iter().map(of_step).max().unwrap_or(0),
        };
        let limit = settings.memory_limit.map(|limit| limit.0);
        let room = need.room(settings.recompute, began.map(|(_, halves)| halves), limit)?;
        let trained = need.values();
        let halves = room.recompute.halves();
        let origin = Origin::new(settings, (compute, halves), steps, std::mem::take(&mut job.digests));
        let optimiser = AdamW::new(
            optimise::Settings {
                betas: settings.betas,
                epsilon: settings.eps,
                weight_decay: settings.weight_decay,
                max_norm: settings.max_grad_norm,
                rate_of_b: settings.lora.plus_ratio,
            },
            &job.adapter,
        );
        let tok_s = match first.first() {
            Some(rows) => {
                let rows: Vec<&Document> = rows.iter().map(|row| &job.rows[*row]).collect();
                estimate::speed(job.model, &job.adapter, &rows, products, room.recompute)
            }
            None => 0.0,
        };
        let mut state =
            State::new(std::mem::replace(&mut job.adapter, Adapter { layers: Vec::new() }), optimiser);
        if let Some(from) = &from {
            state = state.resumed(from, &origin)?;
            // A run that was killed while it wrote its adapter still has to write it.
            if state.step >= steps && !state.unevaluated && output::is_finished(settings) {
                return Err(Error::from(Problem::Complete { steps }).at(from));
            }
        }
        let of_epoch: u64 = first.iter().map(|rows| of_step(rows) as u64).sum();
        let left = (steps - state.step.min(steps)) as f64;
        let per_step = of_epoch as f64 / first.len().max(1) as f64;
        let evaluations = left / settings.eval_every.unwrap_or(first.len() as u64).max(1) as f64 + 1.0;
        let forward = evaluations * tokens(job.held) as f64 / 3.0;
        let estimate = Estimate {
            rows: job.rows.len(),
            held: job.held.len(),
            tokens: of_epoch,
            supervised: first.iter().flatten().map(|row| supervised(&job.rows[*row])).sum(),
            trained,
            steps,
            resumed: from.as_ref().map(|_| state.step),
            compute,
            threads,
            recompute: room.recompute,
            pass: room.pass,
            cached: settings.cache_frozen && steps > first.len() as u64 && lowest(&state.adapter) > 0,
            tok_s,
            seconds: (left * per_step + forward) / tok_s.max(1e-9),
            peak: room.peak,
            // The state of the optimiser is read while its place is already there.
            peak_resumed: room.peak.map(|peak| peak + 4 * trained),
            limit: room.limit,
        };
        Ok(Self { job, plan, schedule, products, room, origin, state, from, estimate })
    }
}

/// The lowest trained layer.
pub(super) fn lowest(adapter: &Adapter<f32>) -> usize {
    adapter.layers.iter().position(|layer| layer.iter().any(Option::is_some)).unwrap_or(0)
}
