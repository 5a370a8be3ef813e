//! What a run will take, before it begins: memory by arithmetic, time by a few tokens.

use std::time::Instant;

use lorakit::units::size;

use super::machine;
use super::problem::Problem;
use crate::data::Document;
use crate::error::Result;
use crate::kernel::{Compute, Products};
use crate::model::{Adapter, Batch, How, Model, Recompute, memory};
use crate::settings::RecomputeChoice;

/// Tokens of a pass, if nothing speaks against it: more make it no faster.
const PASS: usize = 1024;
/// Tokens below which a pass is slower: decoding weights takes longer than multiplying with them.
const LEAST: usize = 256;
/// Tokens of the pass by which the speed is estimated.
const PROBE: usize = 256;
/// Bytes for each factor's value: its gradient, and two moments.
const OPTIMISER: u64 = 12;
/// Bytes for each factor's value while a checkpoint is written: the adapter's file, the optimiser's, and what is read
/// again of the former.
const SAVING: u64 = 20;
/// The share of available memory that is taken if no limit is given.
const SHARE: f64 = 0.8;

/// What a run will take.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Rows that are trained on.
    pub rows: usize,
    /// Rows for validation.
    pub held: usize,
    /// Tokens of the first epoch.
    pub tokens: u64,
    /// Those of them that are predicted.
    pub supervised: u64,
    /// Values of all factors.
    pub trained: u64,
    /// Steps in all.
    pub steps: u64,
    /// The step at which the run goes on.
    pub resumed: Option<u64>,
    /// Operands of products with the base.
    pub compute: Compute,
    /// Threads.
    pub threads: usize,
    /// What is computed again.
    pub recompute: Recompute,
    /// The most tokens of a pass; a step may take several.
    pub pass: usize,
    /// Whether what enters the lowest trained layer is kept on disk.
    pub cached: bool,
    /// Tokens a second, found by a pass over a few.
    pub tok_s: f64,
    /// Seconds that the steps which are left will take, with validation.
    pub seconds: f64,
    /// The most bytes of memory; none where the system does not tell.
    pub peak: Option<u64>,
    /// The most bytes of memory of a run that goes on at a checkpoint.
    pub peak_resumed: Option<u64>,
    /// The most bytes that it may take.
    pub limit: Option<u64>,
}

/// How passes are done so that they fit into the memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Room {
    pub(crate) recompute: Recompute,
    pub(crate) pass: usize,
    pub(crate) peak: Option<u64>,
    pub(crate) limit: Option<u64>,
}

/// What a pass must hold.
pub(crate) struct Need<'a> {
    pub(crate) model: &'a Model,
    pub(crate) adapter: &'a Adapter<f32>,
    /// Tokens of the longest row, which cannot be split.
    pub(crate) longest: usize,
    /// The most tokens of a step.
    pub(crate) step: usize,
}

impl Need<'_> {
    /// The first level, and then as many tokens a pass, as fit into `limit` bytes (80 % of what is available if none is
    /// given). A run that goes on may only take levels that give the bits it began with.
    ///
    /// # Errors
    /// If nothing fits.
    pub(crate) fn room(
        &self,
        choice: RecomputeChoice,
        begun_with_halves: Option<bool>,
        limit: Option<u64>,
    ) -> Result<Room> {
        let now = machine::memory_now();
        let usual = || Some((machine::available_memory()? as f64 * SHARE) as u64 + now?);
        self.room_within(choice, begun_with_halves, limit.or_else(usual), now)
    }

    fn room_within(
        &self,
        choice: RecomputeChoice,
        begun_with_halves: Option<bool>,
        limit: Option<u64>,
        now: Option<u64>,
    ) -> Result<Room> {
        let mut levels: Vec<Recompute> = match choice {
            RecomputeChoice::Auto => Recompute::LEVELS.to_vec(),
            RecomputeChoice::Nothing => vec![Recompute::Nothing],
            RecomputeChoice::Halves => vec![Recompute::Halves],
            RecomputeChoice::Mlp => vec![Recompute::Mlp],
            RecomputeChoice::Layers => vec![Recompute::Layers],
        };
        if let Some(halves) = begun_with_halves.filter(|_| choice == RecomputeChoice::Auto) {
            levels.retain(|level| level.halves() == halves);
        }
        let most = self.step.min(PASS).max(self.longest);
        let least = most.min(LEAST).max(self.longest);
        let (Some(limit), Some(now)) = (limit, now) else {
            let room = Room { recompute: levels[0], pass: most, peak: None, limit };
            return Ok(room);
        };
        let fixed = now + self.values() * (OPTIMISER + SAVING);
        let mut needed = Vec::new();
        for (at, recompute) in levels.iter().enumerate() {
            let least = if at + 1 == levels.len() { self.longest } else { least };
            // From the most tokens down to the least, by halves.
            let mut pass = most;
            loop {
                let peak = fixed + self.pass(pass, *recompute);
                if peak <= limit {
                    return Ok(Room { recompute: *recompute, pass, peak: Some(peak), limit: Some(limit) });
                }
                if pass == least {
                    needed.push(peak);
                    break;
                }
                pass = (pass / 2).max(least);
            }
        }
        let least = needed.into_iter().min().unwrap_or(fixed);
        let sum = format!(
            "{} ({} that the base and the rows take now, {} for factors, gradients and checkpoints, {} for a pass over the \
             longest row of {} tokens)",
            size(least),
            size(now),
            size(fixed - now),
            size(least - fixed),
            self.longest
        );
        let advice =
            "raise `memory_limit`, lower `seq_len`, let `lora.layers` be `last:N`, or choose a smaller base";
        Err(Problem::Memory { sum, limit: size(limit), advice: advice.into() }.into())
    }

    /// Values of all factors.
    pub(crate) fn values(&self) -> u64 {
        self.adapter.factors().map(|factor| factor.len() as u64).sum()
    }

    fn pass(&self, tokens: usize, recompute: Recompute) -> u64 {
        let kept = tokens * memory::kept_per_token(&self.model.shape, self.adapter, recompute);
        (kept + memory::working(&self.model.shape, tokens, recompute)) as u64
    }
}

/// Tokens a second of a pass over the first tokens of `rows`. Nothing is changed.
pub(crate) fn speed(
    model: &Model,
    adapter: &Adapter<f32>,
    rows: &[&Document],
    products: Products,
    recompute: Recompute,
) -> f64 {
    let (mut tokens, mut weights, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let taken = row.tokens.len().min(PROBE - tokens.len());
        if taken < 2 {
            break;
        }
        tokens.extend_from_slice(&row.tokens[..taken]);
        weights.extend_from_slice(&row.weights[..taken]);
        lengths.push(taken);
    }
    let batch = Batch { tokens: &tokens, lengths: &lengths, weights: &weights };
    let how = How { recompute, ..How::new(products) };
    let mut gradients = adapter.zeros();
    let mut once = || {
        let begin = Instant::now();
        model.train(adapter, &batch, 1.0, &how, &mut gradients, &mut 0.0);
        tokens.len() as f64 / begin.elapsed().as_secs_f64().max(1e-9)
    };
    let first = once();
    // The first pass of a small model waits for memory more than it computes.
    if (tokens.len() as f64) < first { once().max(first) } else { first }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::run::testing::{adapter, model};

    #[test]
    fn as_little_is_computed_again_as_the_memory_allows() {
        let model = model();
        let adapter = adapter(&model);
        let need = Need { model: &model, adapter: &adapter, longest: 300, step: 4000 };
        let now = 100_000_000;
        let fixed = now + need.values() * (OPTIMISER + SAVING);
        let room = |choice, begun, limit| need.room_within(choice, begun, Some(limit), Some(now));
        for level in [Recompute::Nothing, Recompute::Halves, Recompute::Mlp] {
            let limit = fixed + need.pass(300, level);
            let found = room(RecomputeChoice::Auto, None, limit).unwrap();
            assert_eq!((found.recompute, found.peak, found.pass), (level, Some(limit), 300), "{level:?}");
        }
        let limit = fixed + need.pass(600, Recompute::Nothing);
        assert_eq!(
            room(RecomputeChoice::Auto, None, limit).unwrap().pass,
            512,
            "a shorter pass before less is kept"
        );
        let enough = room(RecomputeChoice::Auto, None, u64::MAX).unwrap();
        assert_eq!((enough.recompute, enough.pass), (Recompute::Nothing, PASS));
        let begun = room(RecomputeChoice::Auto, Some(true), u64::MAX).unwrap();
        assert_eq!(begun.recompute, Recompute::Halves);
        let unknown = need.room_within(RecomputeChoice::Mlp, None, None, None).unwrap();
        assert_eq!((unknown.recompute, unknown.pass, unknown.peak), (Recompute::Mlp, PASS, None));
        assert_snapshot!(room(RecomputeChoice::Auto, None, now).unwrap_err(), @"this run needs 101 MB (100 MB that the base and the rows take now, 178 kB for factors, gradients and checkpoints, 1.12 MB for a pass over the longest row of 300 tokens), and may take 100 MB; raise `memory_limit`, lower `seq_len`, let `lora.layers` be `last:N`, or choose a smaller base");
    }
}
