//! What a merge adds up: a base and adapters, opened, and the recipe of every tensor of the sum, not yet in a file.

use std::collections::HashSet;
use std::path::PathBuf;

use lorakit_tensor::{DType, Reader, TensorInfo};

use super::group::{Group, Groups};
use super::tied::{self, Tied, Untied};
use super::{Problem, refuse, undo, vocabulary};
use crate::adapter::{Adapter, Strength, Strengths, repeated};
use crate::fit::{self, FitOptions, MoeLayout, Resolver};
use crate::model::folder::adapter_in;
use crate::ops::quantize::Quantization;
use crate::ops::{inspect, refuse_weights};
use crate::plan::{Compute, OutputTensor, Progress, Recipe, Rounding, go_on};
use crate::{Base, Error, Finding, Model, Result, Severity, TensorRef};

/// Which reference's arithmetic a merge follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MergeRounding {
    /// One rounding everywhere: the correctly rounded sum.
    #[default]
    Once,
    /// PEFT with `safe_merge=False`: as [`Self::Once`], but deltas of embeddings and expert parameters are
    /// rounded to the weight's dtype first.
    Peft,
    /// PEFT with `safe_merge=True`: every delta is rounded to the weight's dtype first.
    PeftSafe,
}

crate::choice::choices! { MergeRounding {
    Once = "once", "one rounding everywhere: the correctly rounded sum";
    Peft = "peft", "as PEFT with safe_merge=False";
    PeftSafe = "peft-safe", "as PEFT with safe_merge=True";
} }

/// A base, adapters with their weights, and how they add up.
///
/// ```
/// use lorakit::ops::merge::{Sum, Tied};
///
/// let sum = Sum::new("base/", [("style/", 0.7), ("facts/", 1.0)]).with_tied(Tied::Share);
/// assert_eq!(sum.adapters[0].1, 0.7);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Sum {
    /// The base model: a folder or file.
    pub base: PathBuf,
    /// Adapters with their weights.
    pub adapters: Vec<(PathBuf, f64)>,
    /// What to do if input and output embedding are one tensor.
    pub tied: Tied,
    /// How experts are packed.
    pub moe_layout: MoeLayout,
    /// When sums are rounded.
    pub rounding: MergeRounding,
    /// The base is the residual model that an initialisation like PiSSA left behind.
    pub residual_base: bool,
    /// Which modules of the adapters take part, and how strongly.
    pub strengths: Strengths,
}

impl Sum {
    /// A base and adapters with their weights, added up by default rules.
    pub fn new<A: Into<PathBuf>>(
        base: impl Into<PathBuf>,
        adapters: impl IntoIterator<Item = (A, f64)>,
    ) -> Self {
        Sum {
            base: base.into(),
            adapters: adapters.into_iter().map(|(path, weight)| (path.into(), weight)).collect(),
            tied: Tied::default(),
            moe_layout: MoeLayout::default(),
            rounding: MergeRounding::default(),
            residual_base: false,
            strengths: Strengths::default(),
        }
    }
}

crate::ops::setters! { Sum {
    with_tied: tied: Tied,
    with_moe_layout: moe_layout: MoeLayout,
    with_rounding: rounding: MergeRounding,
    with_residual_base: residual_base: bool,
    with_strengths: strengths: Strengths,
} }

/// The form that a sum is written in, as far as its tensors must know.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Form<'a> {
    /// Dtype of floating-point tensors.
    pub(crate) dtype: Option<DType>,
    /// Types that are chosen, or a packing.
    pub(crate) quantization: Option<&'a Quantization>,
}

/// Base and adapters, opened, and every tensor of the merged model, not yet in a file.
pub(crate) struct Sums {
    pub(crate) base: Model,
    pub(crate) adapters: Vec<(Adapter, f64)>,
    /// What became of the modules of each adapter.
    pub(crate) strengths: Vec<Strength>,
    pub(crate) tensors: Vec<OutputTensor>,
    /// Names of those that the base does not have.
    pub(crate) added: Vec<String>,
    /// Number of those that adapters change.
    pub(crate) edited: usize,
    /// Of these, the number that are replaced as a whole.
    pub(super) replaced: usize,
    /// Names of tensors whose only changes are deltas multiplied by 0.
    pub(crate) silent: HashSet<String>,
    pub(crate) notes: Vec<Finding>,
    pub(super) untied: Untied,
    /// The dtype that floating-point tensors are written in, unless each keeps its own.
    pub(super) dtype: Option<DType>,
}

/// Opens everything and finds each tensor's home.
///
/// # Errors
/// Every refusal of a merge that is not about the output; [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
pub(crate) fn sums(sum: &Sum, form: &Form<'_>, reader: &Reader, progress: &dyn Progress) -> Result<Sums> {
    refuse_weights(&sum.adapters)?;
    let base = Model::open_as_hf(&sum.base, reader, form.dtype)?;
    refuse::unmerged(&base)?;
    // The tensors of a GGUF base are decoded and all written in one dtype, unless types are chosen for a GGUF output.
    let to_gguf = matches!(form.quantization, Some(Quantization::Gguf { .. }));
    let to_packed = matches!(form.quantization, Some(Quantization::Packed { .. }));
    let decoded = !to_gguf && (to_packed || base.is_gguf());
    let dtype = form.dtype.or_else(|| decoded.then(|| base.natural_dtype()));
    let mut notes = Vec::new();
    let mut adapters = Vec::new();
    notes.extend(adapter_in(&base));
    let known = Base::of(&base);
    for (path, weight) in &sum.adapters {
        go_on(progress, "anything was written")?;
        let adapter = Adapter::open(path, reader, Some(&known))?;
        refuse::unmergeable(&adapter, sum.residual_base)?;
        adapter.check_for_merge()?;
        notes.extend(inspect::doubts_of_sum(&adapter));
        adapters.push((adapter, *weight));
    }
    let strengths = sum.strengths.apply(adapters.iter_mut().map(|(adapter, _)| adapter))?;
    for ((adapter, weight), strength) in adapters.iter().zip(&strengths) {
        refuse::strength(adapter, *weight, strength, sum.residual_base)?;
    }
    // Values are read only once every adapter is known to fit.
    let view = Resolver::new(base.tensors(), base.config.as_ref());
    let options = FitOptions { moe_layout: sum.moe_layout, initial: !sum.residual_base };
    let mut groups = Groups::default();
    for (adapter, weight) in &adapters {
        go_on(progress, "anything was written")?;
        let (edits, note) = fit::fit_and_say(&view, adapter, options)
            .map_err(|misfit| refuse::packed(&base).unwrap_or(misfit))?;
        notes.extend(note);
        if edits.is_empty() {
            return Err(Error::from(Problem::Nothing).at(&adapter.path));
        }
        groups.add(&base, adapter, *weight, edits, progress)?;
    }
    for ((adapter, weight), strength) in adapters.iter().zip(&strengths) {
        notes.extend(refuse::non_finite_or_untrained(adapter, progress)?);
        notes.extend(refuse::weighted_away(adapter, *weight));
        notes.extend(refuse::weighted_replacements(adapter, *weight, strength));
    }
    notes.extend(repeated(&adapters)?);
    let silent = groups.drop_unchanged(&base)?;
    let untied = tied::resolve(&view, &base, (&adapters, &strengths), &mut groups, sum.tied)?;
    // A mix chooses types of its own, so only decoding is needed.
    let mixed = matches!(form.quantization, Some(Quantization::Gguf { mix, .. }) if mix.file_type.is_some());
    refuse::quantized(&base, &groups, if mixed { Some(DType::F32) } else { dtype })?;

    let edited = groups.iter().count();
    let replaced =
        groups.iter().filter(|(_, group)| group.replace.is_some() && group.only_replaces()).count();
    let undoes = undo::undoes(&adapters, &strengths);
    let (tensors, added) = output_tensors(&base, groups, (sum.rounding, dtype, undoes), progress)?;
    vocabulary::both_ends(&view, &base, &tensors)?;
    notes.extend(untied.notes.iter().cloned());
    if base.config.is_none() {
        let message =
            "has no `config.json`: only tensors are written, and whether embeddings are tied is not known";
        let subject = base.path.display().to_string();
        notes.push(Finding::new(Severity::Warning, "no-config", &subject, message));
    }
    Ok(Sums { base, adapters, strengths, tensors, added, edited, replaced, silent, notes, untied, dtype })
}

/// Base tensors in file order, edited if a group says so, then the tensors that are new. Also returns the
/// names of those that the base does not have under any name.
fn output_tensors(
    base: &Model,
    mut groups: Groups,
    as_asked: (MergeRounding, Option<DType>, bool),
    progress: &dyn Progress,
) -> Result<(Vec<OutputTensor>, Vec<String>)> {
    let mut tensors = Vec::with_capacity(base.tensors().len() + 1);
    for (index, info) in base.tensors().iter().enumerate() {
        go_on(progress, "anything was written")?;
        let tensor = base.tensor(index);
        let dtype = output_dtype(base.kept_dtype(index), as_asked.1);
        tensors.push(match groups.take(&info.name) {
            Some(group) => edit(base, info.name.clone(), group, as_asked)?,
            None => OutputTensor::cast(tensor, dtype),
        });
    }
    let mut added = Vec::new();
    for (name, group) in groups.rest() {
        if group.base.is_none() {
            added.push(name.clone());
        }
        tensors.push(edit(base, name, group, as_asked)?);
    }
    Ok((tensors, added))
}

/// The tensor `name` with the changes of its group, rounded and written as asked.
fn edit(
    base: &Model,
    name: String,
    group: Group,
    (rounding, dtype, undoes): (MergeRounding, Option<DType>, bool),
) -> Result<OutputTensor> {
    // The values of adapters have already been checked.
    let replacement = group.replace.clone().map(TensorRef::known_finite);
    let Some(tensor) = replacement.or_else(|| Some(base.tensor(group.base?))) else {
        return Err(Error::from(Problem::NothingToAddTo).tensor(&name));
    };
    let matrix = || base.tensors().iter().position(|t| t.shape.len() > 1);
    let kept = group.base.or_else(matrix).map_or(tensor.info().dtype, |index| base.kept_dtype(index));
    let dtype = output_dtype(kept, dtype);
    let info = TensorInfo { name, dtype, shape: tensor.info().shape.clone() };
    if group.only_replaces() && tensor.info().dtype == dtype {
        return Ok(OutputTensor { info, recipe: Recipe::Copy(tensor) });
    }
    let (rows, cols) = group.matrix_shape(&tensor);
    let rounding = match rounding {
        MergeRounding::PeftSafe => Rounding::DeltaFirst,
        MergeRounding::Peft if group.peft_rounds_delta => Rounding::DeltaFirst,
        _ => Rounding::Once,
    };
    let original = group.base.filter(|_| undoes).and_then(|index| undo::original(base, index));
    let Group { initial, multiplied, dora, terms, rows: replaced, .. } = group;
    let compute = Compute {
        rows,
        cols,
        initial,
        multiplied,
        dora,
        terms,
        replaced,
        rounding,
        original,
        ..Compute::cast(tensor)
    };
    Ok(OutputTensor { info, recipe: Recipe::Compute(Box::new(compute)) })
}

/// `wanted` for numeric tensors; integers and tensors that cannot be decoded keep their dtype.
fn output_dtype(kept: DType, wanted: Option<DType>) -> DType {
    wanted.filter(|_| refuse::holds_numbers(kept)).unwrap_or(kept)
}
