//! How a run reports its progress to its caller, and learns that it should stop.

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

/// Stops if the caller wants to, before `what`: "anything was written".
///
/// # Errors
/// `Interrupted`.
pub(crate) fn go_on(progress: &dyn Progress, what: &'static str) -> Result<()> {
    if progress.cancelled() { Err(Problem::Stopped { before: what }.into()) } else { Ok(()) }
}
