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

mod factors;
mod measure;
mod pair;
mod report;
mod state;
mod verdict;

use std::path::PathBuf;

use lorakit_tensor::{ReadMode, Reader};

pub use report::VerifyReport;
pub use state::State;
pub use verdict::{Proof, Verdict};

use super::merge::{self, Form, Sum, Tied};
use crate::arch::names;
use crate::fit::Resolver;
use crate::plan::{OutputTensor, Progress, Stretch, in_order, pool};
use crate::{Finding, Model, Result};
use factors::Factors;
use measure::Measured;
use pair::Pair;
use verdict::Seen;

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
    /// The factor of all deltas together that fits best; `None` without deltas.
    pub scale: Option<f64>,
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
}

/// Recomputes the merge and compares.
///
/// # Errors
/// Every refusal of a merge; [`Unsupported`](crate::ErrorKind::Unsupported) if the model has a tensor that cannot be
/// decoded; [`Interrupted`](crate::ErrorKind::Interrupted).
pub fn verify(options: &VerifyOptions, progress: &dyn Progress) -> Result<Verification> {
    let reader = &Reader::new(options.mode);
    let merged = Model::open_as_hf(&options.merged, reader, None)?;
    let mut sums = merge::sums(&options.sum, &Form::default(), reader, progress)?;
    let merged_view = Resolver::new(merged.tensors(), merged.config.as_ref());
    // PEFT keeps one tensor where our merge makes two.
    let base_view = Resolver::new(sums.base.tensors(), sums.base.config.as_ref());
    let split = |t: &OutputTensor| {
        base_view.in_place_of(&t.info.name).is_some() && merged_view.in_place_of(&t.info.name).is_some()
    };
    if sums.tensors.iter().any(split) {
        let share = options.sum.clone().with_tied(Tied::Share);
        sums = merge::sums(&share, &Form::default(), reader, progress)?;
    }
    let expected: Vec<&str> = sums.tensors.iter().map(|t| t.info.name.as_str()).collect();
    let there: Vec<&str> = merged.tensors().iter().map(|t| t.name.as_str()).collect();
    let paired = names::pairs(&expected, &there);
    let (counterparts, extra) = paired.split_at(expected.len());
    let pairs = sums.tensors.iter().zip(counterparts).map(|(tensor, (_, index))| {
        go_on(progress)?;
        let index = index.or_else(|| merged_view.in_place_of(&tensor.info.name));
        index.map(|index| Pair::new(&sums, tensor, &merged, index)).transpose()
    });
    let pairs: Vec<Option<Pair<'_>>> = pairs.collect::<Result<_>>()?;
    let one = |(tensor, pair): (&OutputTensor, &Option<Pair<'_>>)| {
        go_on(progress)?;
        let stretch = Stretch::new(progress, tensor.info.byte_len());
        let found = match pair {
            Some(pair) => compare(pair, tensor, &stretch)?,
            None => (Verified::without(&tensor.info.name, State::Absent), Measured::default()),
        };
        stretch.finish();
        Ok(found)
    };
    let pool = pool(options.threads)?;
    progress.begin(sums.tensors.iter().map(|tensor| tensor.info.byte_len()).sum());
    let found = pool.install(|| in_order(sums.tensors.iter().zip(&pairs), one))?;
    let mut all = Measured::default();
    found.iter().filter(|(v, m)| v.touched && m.delta > 0.0).for_each(|(_, m)| all.add(m));
    let proof = pool.install(|| proof(&found, &pairs, progress))?;
    reader.check_unchanged()?;
    let seen = |(verified, m): &(Verified, Measured)| Seen {
        state: verified.state,
        uneven: m.uneven(),
        uncertainty: if m.delta > 0.0 { m.uncertainty() } else { 0.0 },
    };
    let mut seen: Vec<Seen> = found.iter().map(seen).collect();
    let mut tensors: Vec<Verified> = found.into_iter().map(|(verified, _)| verified).collect();
    for (_, index) in extra {
        go_on(progress)?;
        let Some(index) = *index else { continue };
        let info = &merged.tensors()[index];
        // A copy of a tied embedding adds nothing.
        if is_copy(&merged_view, &merged, index)? {
            continue;
        }
        tensors.push(Verified::without(&info.name, State::Extra));
        seen.push(Seen { state: State::Extra, uneven: 0.0, uncertainty: 0.0 });
    }
    let mut scale = (all.delta > 0.0).then(|| all.scale());
    let mut verdict = Verdict::of(&seen, &all);
    if let Some((factor, proof)) = proof.filter(|_| !tensors.iter().any(|t| t.state == State::Extra)) {
        // Every value is the sum, rounded otherwise than by one of the rules.
        let holds = verdict::is_one(factor, proof);
        verdict = if holds { Verdict::WithinRounding } else { Verdict::WrongScale(factor, proof) };
        let state = if holds { State::Near } else { State::Scaled(factor) };
        scale = Some(factor);
        for tensor in tensors.iter_mut().filter(|t| t.touched && !t.state.holds()) {
            (tensor.state, tensor.scale) = (state, scale);
        }
    }
    let left_out = sums.strengths.iter().map(|strength| strength.left_out.len()).sum();
    let weighted = sums.strengths.iter().map(|strength| strength.weighted.len()).sum();
    Ok(Verification { scale, verdict, left_out, weighted, tensors, notes: sums.notes })
}

/// Stops if the caller wants to.
fn go_on(progress: &dyn Progress) -> Result<()> {
    crate::plan::go_on(progress, "every tensor was compared")
}

/// The one number that all deltas were multiplied by, if that is what is wrong and it can be proved. Tensors are read
/// again only if nothing speaks against it.
fn proof(
    found: &[(Verified, Measured)],
    pairs: &[Option<Pair<'_>>],
    progress: &dyn Progress,
) -> Result<Option<(f64, Proof)>> {
    let perhaps = |(verified, m): &(Verified, Measured)| match verified.state {
        State::Kept | State::Scaled(_) | State::Missing | State::Other => true,
        // A delta so small that the sum rounds to the base.
        State::Exact { .. } => m.copy,
        _ => false,
    };
    let moved =
        |(verified, _): &(Verified, Measured)| matches!(verified.state, State::Scaled(_) | State::Other);
    let no_sum = |pair: &Pair<'_>| pair.touched && (pair.quantised || !pair.is_decodable());
    if pairs.iter().flatten().any(no_sum) || !found.iter().all(perhaps) || !found.iter().any(moved) {
        return Ok(None);
    }
    if found.iter().all(|(verified, m)| verified.state == State::Kept || m.again) {
        return Ok(Some((2.0, Proof::MergedTwice)));
    }
    Ok(Factors::of_all(pairs, progress)?.only().map(|factor| (factor, Proof::Values)))
}

impl Verified {
    fn without(name: &str, state: State) -> Self {
        Verified { name: name.to_string(), state, touched: false, scale: None, off: 1.0, error: 1.0 }
    }
}

/// Compares a tensor of the merged model with the sum `tensor`.
fn compare(pair: &Pair<'_>, tensor: &OutputTensor, stretch: &Stretch<'_>) -> Result<(Verified, Measured)> {
    let Pair { name, compute, merged, touched, quantised, .. } = pair;
    let of_state = |state| Verified { touched: *touched, ..Verified::without(name, state) };
    if merged.info().shape != tensor.info.shape {
        return Ok((of_state(State::Reshaped), Measured::default()));
    }
    let kept = Verified { off: 0.0, error: 0.0, ..of_state(State::Kept) };
    let as_it_was = !compute.edits() && pair.base.is_none();
    if as_it_was && compute.base.same_values(merged)? {
        return Ok((kept, Measured::default()));
    }
    if !pair.is_decodable() {
        // Such as counters of normalisations, which are saved whole: they are equal, or they are not.
        if !touched {
            return Ok((of_state(State::Changed), Measured::default()));
        }
        let exact = State::Exact { once: true, twice: true, in_turn: false };
        if !compute.edits() && compute.base.same_values(merged)? {
            return Ok((Verified { state: exact, ..kept }, Measured::default()));
        }
        let of_base = pair.base.as_ref().map(|base| base.same_values(merged)).transpose()?;
        let state = if of_base == Some(true) { State::Missing } else { State::Other };
        return Ok((of_state(state), Measured::default()));
    }
    let m = pair.measure(stretch)?;
    let moves = m.delta > 0.0;
    let state = if *touched && moves {
        State::touched(&m, *quantised)
    } else {
        match State::untouched(&m, *quantised) {
            // A delta of zeros: an adapter that was not trained, or at weight 0.
            State::Changed if *touched => State::Other,
            state => state,
        }
    };
    let size = if moves { m.delta } else { m.sum };
    let verified = Verified {
        state,
        scale: moves.then(|| m.scale()),
        off: m.off as f64 / m.values.max(1) as f64,
        error: if m.error > 0.0 { (m.error / size).sqrt() } else { 0.0 },
        ..kept
    };
    Ok((verified, m))
}

/// Whether a tensor holds the same values as another one that models of this class tie it to.
fn is_copy(view: &Resolver<'_>, merged: &Model, index: usize) -> Result<bool> {
    for other in view.may_copy(index) {
        if merged.tensor(other).same_values(&merged.tensor(index))? {
            return Ok(true);
        }
    }
    Ok(false)
}
