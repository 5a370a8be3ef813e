//! Which rows each step trains on.

use crate::data;
use crate::optimise::{Decay, Schedule};
use crate::settings::{Course, Settings};

/// The rows of an epoch, in the order in which they are trained on: see [`data::epoch`].
pub(crate) type Order<'a> = dyn Fn(u64) -> Vec<usize> + 'a;

/// Which rows each step trains on. It depends on the lengths of rows, the settings and nothing else, so it is made anew
/// whenever a run goes on.
pub(crate) struct Plan<'a> {
    /// The tokens of each row.
    pub(crate) lengths: Vec<usize>,
    /// Rows, or bins, of a step.
    pub(crate) batch: usize,
    /// The most tokens of a bin; none if batches are counted in rows.
    pub(crate) capacity: Option<usize>,
    pub(crate) order: &'a Order<'a>,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(settings: &Settings, lengths: Vec<usize>, order: &'a Order<'a>) -> Self {
        let batch = settings.batch_size.saturating_mul(settings.grad_accum);
        let capacity = settings.packing.then_some(settings.seq_len);
        Self { lengths, batch, capacity, order }
    }

    /// The steps of an epoch, each with its rows. The last may have fewer; none goes on into the next epoch.
    pub(crate) fn epoch(&self, epoch: u64) -> Vec<Vec<usize>> {
        let rows = (self.order)(epoch);
        let Some(capacity) = self.capacity else {
            return rows.chunks(self.batch).map(<[usize]>::to_vec).collect();
        };
        let lengths: Vec<usize> = rows.iter().map(|row| self.lengths[*row]).collect();
        let bins = data::pack(&lengths, capacity);
        let step = |bins: &[Vec<usize>]| bins.iter().flatten().map(|at| rows[*at]).collect();
        bins.chunks(self.batch).map(step).collect()
    }

    /// How many steps the run has.
    pub(crate) fn steps(&self, settings: &Settings) -> u64 {
        if let Some(steps) = settings.max_steps {
            return steps;
        }
        let whole = settings.epochs.floor();
        let count = |epoch: u64| self.epoch(epoch).len() as u64;
        let steps: u64 = (0..whole as u64).map(count).sum();
        let part = settings.epochs - whole;
        if part > 0.0 { steps + (part * count(whole as u64) as f64).ceil() as u64 } else { steps }
    }
}

/// The learning rates of a run of so many steps.
pub(crate) fn schedule(settings: &Settings, steps: u64) -> Schedule {
    // A warm-up begins at 0, so a share of one step would leave nothing of it.
    let share = if steps == 1 { 0 } else { (settings.warmup_ratio * steps as f64).ceil() as u64 };
    let warmup = settings.warmup_steps.unwrap_or(share);
    let (decay, warmup) = match settings.schedule {
        Course::Cosine => (Decay::Cosine, warmup),
        Course::Linear => (Decay::Linear, warmup),
        Course::Constant => (Decay::Constant, 0),
        Course::ConstantWithWarmup => (Decay::Constant, warmup),
    };
    Schedule { decay, warmup, total: steps, end: settings.lr_end }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(yaml: &str) -> Settings {
        Settings::from_yaml(yaml).unwrap()
    }

    #[test]
    fn batches_and_accumulation_are_one() {
        let order = |epoch: u64| (0..10).map(|at| (at + epoch as usize) % 10).collect();
        let plan = |yaml: &str| Plan::new(&settings(yaml), vec![3; 10], &order).epoch(1);
        let expected = [vec![1, 2, 3, 4], vec![5, 6, 7, 8], vec![9, 0]];
        for yaml in ["batch_size: 4\npacking: false\n", "batch_size: 2\ngrad_accum: 2\npacking: false\n"] {
            assert_eq!(plan(yaml), expected, "{yaml}");
        }
    }

    #[test]
    fn every_row_is_in_a_bin_that_holds_it() {
        let lengths: Vec<usize> = (0..50).map(|at| 1 + at * 7 % 16).collect();
        let order = |_: u64| (0..50).rev().collect();
        let bins = Plan::new(&settings("batch_size: 1\nseq_len: 16\n"), lengths.clone(), &order).epoch(0);
        let mut seen: Vec<usize> = bins.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..50).collect::<Vec<_>>());
        assert!(bins.iter().all(|bin| bin.iter().map(|row| lengths[*row]).sum::<usize>() <= 16));
    }

    #[test]
    fn steps_are_counted_in_epochs_or_given() {
        let order = |_: u64| (0..10).collect();
        let steps = |yaml: &str| {
            let settings = settings(&format!("packing: false\nbatch_size: 4\n{yaml}"));
            Plan::new(&settings, vec![3; 10], &order).steps(&settings)
        };
        assert_eq!(
            ["epochs: 2\n", "epochs: 1.5\n", "epochs: 0.1\n", "max_steps: 7\n"].map(steps),
            [6, 5, 1, 7]
        );
    }

    #[test]
    fn the_warm_up_belongs_to_the_schedule() {
        let find = |yaml: &str| schedule(&settings(yaml), 200);
        let linear = find("schedule: linear\nwarmup_ratio: 0.1\n");
        assert_eq!(linear, Schedule { decay: Decay::Linear, warmup: 20, total: 200, end: 0.1 });
        assert_eq!(find("schedule: constant\n").at(0), 1.0);
        assert_eq!(schedule(&settings("warmup_ratio: 1\n"), 1).at(0), 1.0);
        assert_eq!(schedule(&settings("warmup_ratio: 1\n"), 2).warmup, 2);
        assert_eq!(find("schedule: constant-with-warmup\nwarmup_steps: 4\n").at(1), 0.25);
    }
}
