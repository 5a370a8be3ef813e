//! Runs: steps, validation, checkpoints, and going on where a run was interrupted.
//!
//! ```text
//!   open       from settings to base, rows and factors
//!   beside     what runs left beside their adapters
//!   ready      how a job is done, and where it goes on
//!   train      the loop
//!   plan       which rows each step trains on
//!   state      what a run must know to go on as if nothing had happened
//!   output     the folder of a run;   log        its metrics.jsonl and samples.jsonl
//!   sample     answers of the adapter while it is trained
//!   frozen     what enters the lowest trained layer, on disk
//!   estimate   memory and time, before anything begins
//!   machine    memory, threads, processor
//!   observe    what a run tells whoever watches it
//! ```
//!
//! A step depends on the settings, the rows, the base and the steps before it, and on nothing else: not on threads, on
//! memory, or on whether the run was interrupted.

mod beside;
mod estimate;
mod frozen;
mod log;
mod machine;
mod observe;
mod open;
mod output;
mod plan;
mod problem;
mod ready;
mod sample;
mod state;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod train;

pub use beside::told;
pub use estimate::Estimate;
pub use machine::usual_threads;
pub use observe::{Evaluated, Nobody, Observer, Outcome, Part, Sample, Sampled, Step, Summary};
pub use open::{Checked, check_data, estimate, text, train};
pub(crate) use output::RUNS;
