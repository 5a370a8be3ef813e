//! Whether a fine-tune helped: a base, the base with adapters and other models on the same rows.
//!
//! ```text
//!   run          what is measured, in which order;   results   the report of that
//!   options      what is evaluated;   report   what was found;   verdict   what it comes to
//!   task         what a model is asked, and what it did
//!   rows  general  regression         held-out rows, general text, items that must not break
//!   measure      losses, divergences, answers
//!   compare      figures of two candidates, paired
//!   statistics   intervals and tests
//!   check  schema                     what an answer must be like
//!   variants     an adapter at other strengths, and noise of its size
//!   tune         weights of a combination, chosen by its figures
//! ```
//!
//! Losses are computed as in training, in f32; every figure depends on the models, the rows and the seed only.

mod check;
mod compare;
mod general;
mod measure;
mod options;
mod problem;
mod regression;
mod report;
mod results;
mod rows;
mod run;
mod schema;
mod statistics;
mod task;
mod tune;
mod variants;
mod verdict;

pub use check::{Answer, Check, Pattern};
pub use options::{General, Options, Unwatched, Watch};
pub use report::{
    Against, Answered, Candidate, DataReport, Evaluation, Forgetting, GeneralText, Given, ItemReport, Kind,
    Losses, Made, Null, Passed, Point, Regression, RowReport, Sweep, Unit,
};
pub use run::evaluate;
pub use schema::Schema;
pub use statistics::{DRAWS, FEWEST, Interval, Spread};
pub use tune::{Measured, Metric, Role, Stage, Trial, TuneData, TuneOptions, Tuned, tune};
pub use verdict::{Outcome, Verdict};
