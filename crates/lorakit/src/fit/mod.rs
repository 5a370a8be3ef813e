//! Which base tensor each part of an adapter belongs to, proved from headers.
//!
//! [`fit`] turns an adapter into a list of [`Edit`]s on named tensors of the base, every factor already in the
//! orientation of the stored weight. What finds no home, more than one, or a home of another shape is collected
//! and reported together.

mod experts;
mod index;
mod layer;
mod nearest;
mod parameters;
mod unpack;

use std::collections::{BTreeMap, HashSet};

use lorakit_tensor::TensorInfo;

pub use experts::MoeLayout;
pub(crate) use experts::{stacked_shapes, stacks_transposed};
use index::Found;
pub use index::TensorIndex;
pub(crate) use layer::stored_transposed;
use parameters::Parameters;

use crate::adapter::{Adapter, Module};
use crate::arch::names::{is_embedding, is_head};
use crate::model::ModelConfig;
use crate::plan::{Axis, LowRank};
use crate::{Error, ErrorKind, Result, TensorRef};

/// One change to one tensor of the base.
#[derive(Debug, Clone)]
pub struct Edit {
    /// The tensor's name in the output: a name of the base, or a new one.
    pub target: String,
    /// The tensor it starts from; `None` for a tensor that the base does not have.
    pub base: Option<usize>,
    /// The adapter module or tensor it comes from.
    pub origin: String,
    /// What changes.
    pub change: Change,
}

/// What an [`Edit`] does.
#[derive(Debug, Clone)]
pub enum Change {
    /// Low-rank terms, with the DoRA magnitudes if there are any.
    LowRank {
        /// The terms, in the orientation of the stored tensor.
        terms: Vec<LowRank>,
        /// Magnitudes and what one belongs to.
        dora: Option<(TensorRef, Axis)>,
        /// PEFT rounds the delta of embeddings and expert parameters to the weight's dtype first.
        peft_rounds_delta: bool,
    },
    /// The values are replaced before anything is added.
    Replace(TensorRef),
    /// Rows are replaced after everything is added.
    Rows(TensorRef, Vec<usize>),
}

/// How adapters are fitted.
#[derive(Debug, Clone, Copy, Default)]
pub struct FitOptions {
    /// How stacked experts are packed in `B`.
    pub moe_layout: MoeLayout,
}

/// Everything about the base that fitting needs.
#[derive(Debug)]
pub struct BaseView<'a> {
    /// Tensors of the base.
    pub tensors: &'a [TensorInfo],
    /// Their names.
    pub index: TensorIndex<'a>,
    /// Its configuration, if there is one.
    pub config: Option<&'a ModelConfig>,
    embedding: Option<usize>,
    head: Option<usize>,
}

impl<'a> BaseView<'a> {
    /// A view of these tensors.
    pub fn new(tensors: &'a [TensorInfo], config: Option<&'a ModelConfig>) -> Self {
        let ends = |name: &str| name.strip_suffix(".weight").is_some_and(is_embedding);
        let mut embeddings = tensors.iter().enumerate().filter(|(_, t)| ends(&t.name));
        let embedding = match (embeddings.next(), embeddings.next()) {
            (Some((i, _)), None) => Some(i),
            _ => None,
        };
        let head = tensors.iter().position(|t| is_head(t.name.strip_suffix(".weight").unwrap_or_default()));
        BaseView { tensors, index: TensorIndex::new(tensors), config, embedding, head }
    }

    /// Whether input and output embedding are one tensor.
    pub fn tied(&self) -> bool {
        self.config.is_some_and(ModelConfig::tied)
    }

    /// The input embedding.
    pub fn embedding(&self) -> Option<usize> {
        self.embedding
    }

    /// The output embedding, if it is stored.
    pub fn head(&self) -> Option<usize> {
        self.head
    }

    /// What the output embedding of a tied model is called once it is a tensor of its own.
    pub fn head_name(&self) -> String {
        let embedding = self.embedding().map_or("", |i| self.tensors[i].name.as_str());
        let prefix = if embedding.starts_with("language_model.model.") { "language_model." } else { "" };
        format!("{prefix}lm_head.weight")
    }
}

/// Something of an adapter that does not fit.
#[derive(Debug, Clone)]
pub(crate) struct Misfit {
    kind: ErrorKind,
    origin: String,
    /// Why; `None` for a name that the base does not have.
    line: Option<String>,
}

impl Misfit {
    fn new(kind: ErrorKind, origin: &str, line: impl Into<String>) -> Self {
        Misfit { kind, origin: origin.to_string(), line: Some(line.into()) }
    }
}

/// Parts of an adapter for which the nearest name of the base is looked for: each takes a look at all of its names.
const NEAREST: usize = 64;

/// What is the same for all modules of an adapter.
pub(crate) struct Fitting<'a> {
    adapter: &'a Adapter,
    parameters: Parameters<'a>,
    options: FitOptions,
}

impl<'a> Fitting<'a> {
    pub(crate) fn new(adapter: &'a Adapter, options: FitOptions) -> Self {
        Fitting { adapter, parameters: Parameters::new(&adapter.config.target_parameters), options }
    }

    /// Finds the home of each of `modules`, which need not be all of the adapter's.
    ///
    /// # Errors
    /// As [`fit`].
    pub(crate) fn modules(&self, base: &BaseView<'_>, modules: &[Module]) -> Result<Vec<Edit>> {
        let (mut edits, mut misfits) = (Vec::new(), Vec::new());
        self.add_modules(base, modules, &mut edits, &mut misfits);
        self.finish(base, edits, misfits, modules.len())
    }

    fn add_modules(
        &self,
        base: &BaseView<'_>,
        modules: &[Module],
        edits: &mut Vec<Edit>,
        misfits: &mut Vec<Misfit>,
    ) {
        for module in modules {
            match layer::fit_module(base, self, module) {
                Ok(found) => edits.extend(found),
                Err(misfit) => misfits.push(misfit),
            }
        }
    }

    /// The edits, if all of `total` parts fit.
    fn finish(
        &self,
        base: &BaseView<'_>,
        edits: Vec<Edit>,
        misfits: Vec<Misfit>,
        total: usize,
    ) -> Result<Vec<Edit>> {
        match misfits.is_empty() {
            true => Ok(edits),
            false => Err(report(base, self.adapter, misfits, total)),
        }
    }
}

/// Finds the home of every part of `adapter`.
///
/// # Errors
/// [`ErrorKind::Unmatched`], [`ErrorKind::Ambiguous`] or [`ErrorKind::Shape`] (whichever comes first in this
/// order) with one line for each part that does not fit.
pub fn fit(base: &BaseView<'_>, adapter: &Adapter, options: FitOptions) -> Result<Vec<Edit>> {
    let mut edits = Vec::new();
    let mut misfits = Vec::new();
    let fitting = Fitting::new(adapter, options);
    fitting.add_modules(base, &adapter.modules, &mut edits, &mut misfits);
    let listed: HashSet<&str> = adapter.config.modules_to_save.iter().map(String::as_str).collect();
    for saved in &adapter.saved {
        match fit_saved(base, &listed, &saved.name, &saved.tensor) {
            Ok(edit) => edits.push(edit),
            Err(misfit) => misfits.push(misfit),
        }
    }
    for rows in &adapter.token_rows {
        match fit_token_rows(base, rows) {
            Ok(edit) => edits.push(edit),
            Err(misfit) => misfits.push(misfit),
        }
    }
    let total = adapter.modules.len() + adapter.saved.len() + adapter.token_rows.len();
    fitting.finish(base, edits, misfits, total)
}

fn fit_saved(
    base: &BaseView<'_>,
    listed: &HashSet<&str>,
    name: &str,
    tensor: &TensorRef,
) -> std::result::Result<Edit, Misfit> {
    let edit = |target: &str, base: Option<usize>| Edit {
        target: target.to_string(),
        base,
        origin: tensor.info().name.clone(),
        change: Change::Replace(tensor.clone()),
    };
    let index = match base.index.resolve(name, |_| true) {
        Found::One(index) => index,
        Found::Many(names) => return Err(ambiguous(name, &names)),
        Found::None if base.tied() && is_head(name.strip_suffix(".weight").unwrap_or_default()) => {
            let embedding = base.embedding();
            check_rows(base, embedding, tensor, name)?;
            return Ok(edit(&base.head_name(), embedding));
        }
        Found::None => {
            let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
            let mut starts = module.char_indices().map(|(start, _)| start).chain([module.len()]);
            if module.split('.').any(|c| listed.contains(c)) || starts.any(|s| listed.contains(&module[s..]))
            {
                return Ok(edit(name, None));
            }
            return Err(unmatched(name));
        }
    };
    check_rows(base, Some(index), tensor, name)?;
    Ok(edit(&base.tensors[index].name, Some(index)))
}

/// A saved tensor has the base's shape, or more rows of the same width (a vocabulary that grew).
fn check_rows(
    base: &BaseView<'_>,
    index: Option<usize>,
    tensor: &TensorRef,
    name: &str,
) -> std::result::Result<(), Misfit> {
    let Some(index) = index else { return Ok(()) };
    let (old, new) = (&base.tensors[index].shape, &tensor.info().shape);
    let grown = matches!((old.as_slice(), new.as_slice()), ([v, d], [w, e]) if w >= v && d == e);
    if old == new || grown {
        return Ok(());
    }
    Err(Misfit::new(ErrorKind::Shape, name, format!("base {old:?}, adapter {new:?}")))
}

fn fit_token_rows(
    base: &BaseView<'_>,
    rows: &crate::adapter::TokenRows,
) -> std::result::Result<Edit, Misfit> {
    let name = format!("{}.weight", rows.path);
    let (target, index) = match base.index.resolve(&name, |_| true) {
        Found::One(index) => (base.tensors[index].name.clone(), index),
        Found::Many(names) => return Err(ambiguous(&name, &names)),
        Found::None => match base.embedding() {
            Some(embedding) if base.tied() && is_head(&rows.path) => (base.head_name(), embedding),
            _ => return Err(unmatched(&name)),
        },
    };
    let (vocabulary, dim) = base.tensors[index].rows_cols();
    let (_, width) = rows.tensor.info().rows_cols();
    let too_high = rows.rows.iter().find(|&&row| row >= vocabulary);
    if width != dim || too_high.is_some() {
        let line = match too_high {
            Some(row) => format!("token {row} is trained, and the base has {vocabulary}"),
            None => format!("base rows have {dim} values, trained rows {width}"),
        };
        return Err(Misfit::new(ErrorKind::Shape, &rows.path, line));
    }
    let change = Change::Rows(rows.tensor.clone(), rows.rows.clone());
    Ok(Edit { target, base: Some(index), origin: rows.path.clone(), change })
}

fn unmatched(name: &str) -> Misfit {
    Misfit { kind: ErrorKind::Unmatched, origin: name.to_string(), line: None }
}

fn ambiguous(name: &str, names: &[&str]) -> Misfit {
    Misfit::new(ErrorKind::Ambiguous, name, format!("could be {}", names.join(" or ")))
}

/// One error for all misfits of the gravest kind, of `total` parts.
fn report(base: &BaseView<'_>, adapter: &Adapter, misfits: Vec<Misfit>, total: usize) -> Error {
    let mut by_kind: BTreeMap<u8, Vec<Misfit>> = BTreeMap::new();
    for misfit in misfits {
        let grade = match misfit.kind {
            ErrorKind::Unmatched => 0,
            ErrorKind::Ambiguous => 1,
            ErrorKind::Shape => 2,
            _ => 3,
        };
        by_kind.entry(grade).or_default().push(misfit);
    }
    let Some(worst) = by_kind.into_values().next() else {
        return Error::new(ErrorKind::Unmatched, "does not fit the base model").at(&adapter.path);
    };
    let kind = worst[0].kind;
    let of = format!("{} of {total} parts of the adapter", worst.len());
    let message = match kind {
        ErrorKind::Unmatched => {
            format!("{of} have no counterpart among the {} tensors of the base", base.tensors.len())
        }
        ErrorKind::Ambiguous => format!("{of} have more than one possible counterpart in the base"),
        ErrorKind::Shape => format!("does not fit the base model: {of} differ in shape"),
        _ => format!("{of} cannot be merged"),
    };
    let line = |(i, misfit): (usize, &Misfit)| {
        let line = match &misfit.line {
            Some(line) => line.clone(),
            None if i < NEAREST => {
                format!("nearest in the base: {}", base.index.nearest(&misfit.origin).unwrap_or("none"))
            }
            None => "not in the base".into(),
        };
        format!("{}  {line}", misfit.origin)
    };
    let lines = worst.iter().enumerate().map(line).collect();
    Error::new(kind, message).at(&adapter.path).details(lines)
}
