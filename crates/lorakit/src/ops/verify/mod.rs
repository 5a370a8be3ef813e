//! Whether a model is a base plus adapters.
//!
//! The merge is planned again; its sums are computed panel by panel and compared with what the merged model holds.
//! Nothing is written, and memory does not grow with the model.
//!
//! ```
//! use lorakit::ops::merge::{self, MergeOptions, Sum};
//! use lorakit::ops::verify::{VerifyOptions, verify};
//! use lorakit::plan::Silent;
//!
//! let folder = tempfile::tempdir().unwrap();
//! let merged = folder.path().join("merged");
//! let sum = Sum::new("../../fixtures/golden/peft/bases/llama-bf16", [("../../fixtures/golden/peft/adapters/attn-r4", 1.0)]);
//! merge::plan(&MergeOptions::new(sum.clone(), &merged), &Silent)?.run(0, &Silent)?;
//! let verification = verify(&VerifyOptions::new(&merged, sum), &Silent)?;
//! assert!(verification.tensors.iter().all(|tensor| tensor.state.holds()));
//! # Ok::<(), lorakit::Error>(())
//! ```

mod compare;
mod factors;
mod fault;
mod joint;
mod judge;
mod measure;
mod mistaken;
mod noise;
mod pair;
mod question;
mod report;
mod state;
mod step;
mod storing;
mod sums;
mod turns;
mod verdict;
mod weights;

use std::path::PathBuf;

use lorakit_tensor::{ReadMode, Reader};

pub use report::VerifyReport;
pub use state::State;
pub use verdict::{Outcome, Proof, Verdict};

use super::merge::Sum;
use crate::fit::Resolver;
use crate::plan::{Progress, pool};
use crate::{Finding, Model, Result};
use compare::Compared;
use judge::Seen;
use question::{Paired, Question};
use sums::Measured;

/// What to compare.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// The model in question: a folder or file.
    pub merged: PathBuf,
    /// The base that it should come from, and the adapters that should be in it.
    pub sum: Sum,
    /// Threads; 0 is one for each core.
    pub threads: usize,
    /// How inputs are read.
    pub mode: ReadMode,
}

impl VerifyOptions {
    /// Default options for a model and what it should be.
    pub fn new(merged: impl Into<PathBuf>, sum: Sum) -> Self {
        VerifyOptions { merged: merged.into(), sum, threads: 0, mode: ReadMode::default() }
    }
}

crate::ops::setters! { VerifyOptions {
    with_threads: threads: usize,
    with_mode: mode: ReadMode,
} }

/// What was found.
#[derive(Debug, Clone)]
pub struct Verification {
    /// What the model is.
    pub verdict: Verdict,
    /// The factor of all deltas together that fits best, or the one that was proved; `None` without deltas.
    pub scale: Option<f64>,
    /// The weights of the adapters that make this model, if they are not those given and were proved.
    pub weights: Option<Vec<f64>>,
    /// What the number that was found may come from.
    pub remark: Option<String>,
    /// Number of modules of all adapters that are left out.
    pub left_out: usize,
    /// Number of modules of all adapters with a weight of their own.
    pub weighted: usize,
    /// Every tensor, in the order of the base.
    pub tensors: Vec<Verified>,
    /// Things worth telling the user.
    pub notes: Vec<Finding>,
}

/// What was found of one tensor.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Verified {
    /// Its name, as in Hugging Face files.
    pub name: String,
    /// What it is.
    pub state: State,
    /// Whether an adapter touches it.
    pub touched: bool,
    /// The factor of the delta that fits best; `None` without a delta.
    pub scale: Option<f64>,
    /// Share of values further than a step of the dtype from the sum.
    pub off: f64,
    /// `||M - W - D|| / ||D||`, with `M` the model's values; relative to `||W||` without a delta.
    pub error: f64,
    /// Number of values that are NaN or infinite.
    pub non_finite: u64,
    /// The dtype that its values were rounded to before they were stored in another, if they hold only so.
    pub through: Option<&'static str>,
    /// What is wrong with it, in words; `None` if nothing is, or nothing is known beyond its state.
    pub fault: Option<String>,
}

/// Recomputes the merge and compares.
///
/// # Errors
/// Every refusal of a merge; [`Interrupted`](crate::ErrorKind::Interrupted).
pub fn verify(options: &VerifyOptions, progress: &dyn Progress) -> Result<Verification> {
    let reader = &Reader::new(options.mode);
    let merged = &Model::open_as_hf(&options.merged, reader, None)?;
    let view = Resolver::new(merged.tensors(), merged.config.as_ref());
    let question = Question { options, merged, view, reader, progress };
    let sums = question.sums(&options.sum)?;
    let Paired { mut pairs, extra } = question.pairs(&sums)?;
    let pool = pool(options.threads)?;
    let mut found = pool.install(|| question.compare(&sums, &pairs))?;
    for (pair, compared) in pairs.iter_mut().zip(&found) {
        if let Some(pair) = pair {
            pair.through = compared.through;
        }
    }
    let mut all = Measured::default();
    let touched = found.iter().filter(|compared| compared.verified.touched && compared.sums.delta > 0.0);
    touched.for_each(|compared| all.add(&compared.sums));
    let mut seen: Vec<Seen> = found.iter().map(Compared::seen).collect();
    for index in extra {
        question.go_on()?;
        if !question.adds_nothing(index)? {
            let extra = Verified::without(&merged.tensors()[index].name, State::Extra);
            found.push(Compared::of(extra));
            seen.push(Seen::of(State::Extra));
        }
    }
    let mut verdict = Verdict::of(&seen, &all);
    let mut scale = (all.delta > 0.0).then(|| all.scale());
    let (mut weights, mut remark) = (None, None);
    if !verdict.holds() {
        if let Some(proved) = pool.install(|| weights::find(&question, &sums, &pairs, &found))? {
            verdict = proved.verdict();
            for compared in found.iter_mut().filter(|compared| !compared.verified.state.holds()) {
                proved.explains(&mut compared.verified);
            }
            scale = proved.factor.or(scale);
            remark = proved.remark();
            weights = Some(proved.weights).filter(|_| !verdict.holds());
        }
        pool.install(|| mistaken::name(&mut found, &pairs, progress))?;
    }
    reader.check_unchanged()?;
    let left_out = sums.strengths.iter().map(|strength| strength.left_out.len()).sum();
    let weighted = sums.strengths.iter().map(|strength| strength.weighted.len()).sum();
    let tensors = found.into_iter().map(|compared| compared.verified).collect();
    Ok(Verification { verdict, scale, weights, remark, left_out, weighted, tensors, notes: sums.notes })
}

impl Verified {
    fn without(name: &str, state: State) -> Self {
        let name = name.to_string();
        let (off, error) = (1.0, 1.0);
        Verified {
            name,
            state,
            touched: false,
            scale: None,
            off,
            error,
            non_finite: 0,
            through: None,
            fault: None,
        }
    }
}
