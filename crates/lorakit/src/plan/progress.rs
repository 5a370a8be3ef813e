//! How a run reports its progress to its caller, and learns that it should stop.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Problem;
use crate::Result;

/// Receives progress from worker threads, and can cancel the run.
///
/// A verb works in phases, one after another: factors are computed, the output is written. Each begins with its total,
/// and has reported all of it when it is done.
pub trait Progress: Sync {
    /// A phase begins, in which [`advance`](Self::advance) reports `total` bytes in all unless it fails. The phase of a
    /// [`Plan`](super::Plan) writes [`output_bytes`](super::Plan::output_bytes).
    fn begin(&self, total: u64) {
        let _ = total;
    }
    /// `bytes` more are done.
    fn advance(&self, bytes: u64);
    /// Whether the caller wants the run to stop. Nothing is published then.
    fn cancelled(&self) -> bool {
        false
    }
}

/// No progress, never cancelled.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn advance(&self, _bytes: u64) {}
}

/// A stretch of a phase that is told while it is worked on: a tensor of gigabytes, or one that is read several times.
pub(crate) struct Stretch<'p> {
    progress: &'p dyn Progress,
    total: u64,
    told: AtomicU64,
}

impl<'p> Stretch<'p> {
    /// A stretch of `total` bytes.
    pub(crate) fn new(progress: &'p dyn Progress, total: u64) -> Self {
        Stretch { progress, total, told: AtomicU64::new(0) }
    }

    /// `bytes` more are done, as an estimate: no more than the total is told.
    pub(crate) fn advance(&self, bytes: u64) {
        let told = self.told.fetch_add(bytes, Relaxed).min(self.total);
        self.progress.advance(bytes.min(self.total - told));
    }

    /// It is done: tells what is missing.
    pub(crate) fn finish(self) {
        self.progress.advance(self.total.saturating_sub(self.told.into_inner()));
    }
}

/// Stops if the caller wants to, before `what`: "anything was written".
///
/// # Errors
/// `Interrupted`.
pub fn go_on(progress: &dyn Progress, what: &'static str) -> Result<()> {
    if progress.cancelled() { Err(Problem::Stopped { before: what }.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::{Progress, Stretch};

    #[derive(Default)]
    struct Sum(AtomicU64);

    impl Progress for Sum {
        fn advance(&self, bytes: u64) {
            self.0.fetch_add(bytes, Relaxed);
        }
    }

    #[test]
    fn a_stretch_tells_its_total_however_it_was_estimated() {
        for steps in [vec![], vec![3, 4], vec![10], vec![6, 6, 6], vec![u64::from(u32::MAX), 1]] {
            let sum = Sum::default();
            let stretch = Stretch::new(&sum, 10);
            steps.iter().for_each(|bytes| stretch.advance(*bytes));
            assert_eq!(sum.0.load(Relaxed), steps.iter().sum::<u64>().min(10), "{steps:?}");
            stretch.finish();
            assert_eq!(sum.0.load(Relaxed), 10, "{steps:?}");
        }
    }
}
