//! Whether a model is a base plus adapters.
//!
//! The merge is planned again and its sums are computed panel by panel, beside what the merged model holds. Nothing is
//! written, and memory does not grow with the model.

mod measure;
mod verdict;

use std::path::{Path, PathBuf};

use lorakit_tensor::{DType, ReadMode};
use rayon::prelude::*;

pub use verdict::{State, Verdict};

use super::merge::{self, MergeOptions, Sums, Tied};
use crate::adapter::Finding;
use crate::fit::{self, BaseView, MoeLayout};
use crate::plan::{Compute, OutputTensor, Progress, Recipe, pool};
use crate::{Error, ErrorKind, Model, Result, TensorRef};
use measure::{Measured, is_float, measure};

/// What to compare.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// The model in question: a folder or file.
    pub merged: PathBuf,
    /// The base it should come from.
    pub base: PathBuf,
    /// The adapters that should be in it, with their weights.
    pub adapters: Vec<(PathBuf, f64)>,
    /// How experts are packed.
    pub moe_layout: MoeLayout,
    /// The base is the residual model that an initialisation like PiSSA left behind.
    pub residual_base: bool,
    /// Threads; 0 is one for each core.
    pub threads: usize,
    /// How inputs are read.
    pub mode: ReadMode,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Verification {
    /// What the model is.
    pub verdict: Verdict,
    /// The factor of all deltas together that fits best; `None` without deltas.
    pub scale: Option<f64>,
    /// Every tensor, in the order of the base.
    pub tensors: Vec<Verified>,
    /// Things worth telling the user.
    pub notes: Vec<Finding>,
}

/// What was found of one tensor.
#[derive(Debug, Clone, PartialEq)]
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
/// Every refusal of a merge; [`ErrorKind::Unsupported`] where the model has a tensor that cannot be decoded;
/// [`ErrorKind::Interrupted`].
pub fn verify(options: &VerifyOptions, progress: &dyn Progress) -> Result<Verification> {
    let merged = Model::open_as_hf(&options.merged, options.mode, None)?;
    let mut merge = MergeOptions {
        moe_layout: options.moe_layout,
        residual_base: options.residual_base,
        mode: options.mode,
        ..MergeOptions::new(&options.base, options.adapters.clone(), Path::new(""))
    };
    let mut sums = merge::sums(&merge)?;
    let merged_view = BaseView::new(merged.tensors(), merged.config.as_ref());
    // PEFT keeps one tensor where a merge of ours makes two.
    let kept_one = merged_view.tied() && merged_view.head().is_none();
    let stored = sums.base.tensors().iter().any(|t| is_head(&t.name));
    if kept_one && !stored && sums.tensors.iter().any(|t| is_head(&t.info.name)) {
        merge.tied = Tied::Share;
        sums = merge::sums(&merge)?;
    }
    let tied_to = merged_view.embedding().filter(|_| kept_one);
    let find = |name: &str| {
        let found = merged.tensors().iter().position(|t| t.name == name);
        found.or(tied_to.filter(|_| is_head(name)))
    };
    let one = |tensor: &OutputTensor| {
        if progress.cancelled() {
            return Err(Error::new(ErrorKind::Interrupted, "stopped before every tensor was compared"));
        }
        let found = match find(&tensor.info.name) {
            Some(index) => compare(&sums, tensor, &merged, index)?,
            None => (Verified::without(&tensor.info.name, State::Absent), Measured::default()),
        };
        progress.advance(tensor.info.byte_len());
        Ok(found)
    };
    let found: Vec<_> =
        pool(options.threads)?.install(|| sums.tensors.par_iter().map(one).collect::<Result<_>>())?;
    let mut all = Measured::default();
    found.iter().filter(|(v, m)| v.touched && m.delta > 0.0).for_each(|(_, m)| all.add(m));
    let mut tensors: Vec<Verified> = found.into_iter().map(|(verified, _)| verified).collect();
    for info in merged.tensors() {
        let known = sums.tensors.iter().any(|t| t.info.name == info.name);
        // A copy of a tied embedding adds nothing.
        if known || is_head(&info.name) && copy_of_embedding(&merged_view, &merged, &info.name)? {
            continue;
        }
        tensors.push(Verified::without(&info.name, State::Extra));
    }
    let states: Vec<State> = tensors.iter().map(|t| t.state).collect();
    let scale = (all.delta > 0.0).then(|| all.scale());
    Ok(Verification { scale, verdict: Verdict::of(&states, &all), tensors, notes: sums.notes })
}

impl Verified {
    fn without(name: &str, state: State) -> Self {
        Verified { name: name.to_string(), state, touched: false, scale: None, off: 1.0, error: 1.0 }
    }
}

/// Compares tensor `index` of the merged model.
fn compare(sums: &Sums, tensor: &OutputTensor, merged: &Model, index: usize) -> Result<(Verified, Measured)> {
    let (name, found) = (&tensor.info.name, merged.tensor(index));
    let base = sums.base.tensors().iter().position(|t| t.name == *name).map(|i| sums.base.tensor(i));
    let compute = match &tensor.recipe {
        Recipe::Copy(from) => Compute::cast(from.clone()),
        Recipe::Compute(compute) => (**compute).clone(),
        Recipe::Bytes(_) | Recipe::Part { .. } => {
            return Err(Error::new(ErrorKind::Unsupported, "is not a sum").tensor(name));
        }
    };
    let replaced = |base: &TensorRef| !std::ptr::eq(base.info(), compute.base.info());
    let touched = compute.edits() || base.as_ref().is_some_and(replaced);
    let kept = Verified { touched, off: 0.0, error: 0.0, ..Verified::without(name, State::Kept) };
    if found.info().shape != tensor.info.shape {
        return Ok((
            Verified { state: State::Reshaped, touched, ..Verified::without(name, State::Reshaped) },
            Measured::default(),
        ));
    }
    if !touched && compute.base.same_values(&found)? {
        return Ok((kept, Measured::default()));
    }
    if !touched
        && [compute.base.info().dtype, found.info().dtype].iter().any(|d| lorakit_quant::codec(*d).is_none())
    {
        return Ok((
            Verified { state: State::Changed, ..Verified::without(name, State::Changed) },
            Measured::default(),
        ));
    }
    // Rows of a replacement may be more than the base has; nothing is left of the base's then.
    let base = base.filter(|base| replaced(base) && base.info().shape == tensor.info.shape);
    let m = measure(&compute, name, base.as_ref(), &found)?;
    let quantised = !is_float(found.info().dtype) && found.info().dtype != DType::F64
        || merged.packing.as_ref().is_some_and(|packing| packing.contains(index));
    let moves = m.delta > 0.0;
    let state = match touched && moves {
        true => State::touched(&m, quantised),
        false => State::untouched(&m, quantised),
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

fn is_head(name: &str) -> bool {
    fit::is_head(name.trim_end_matches(".weight"))
}

fn copy_of_embedding(view: &BaseView<'_>, merged: &Model, name: &str) -> Result<bool> {
    let head = merged.tensors().iter().position(|t| t.name == name);
    let (Some(embedding), Some(head)) = (view.embedding(), head) else { return Ok(false) };
    merged.tensor(embedding).same_values(&merged.tensor(head))
}
