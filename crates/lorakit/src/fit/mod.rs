//! Which base tensor each part of an adapter belongs to, proved from headers.
//!
//! [`fit`] turns an adapter into a list of [`Edit`]s on named tensors of the base, every factor already in the
//! orientation of the stored weight. Parts that find no home, several homes, or a home of another shape are
//! collected and reported together.

mod delta;
mod edit;
mod experts;
mod image;
mod index;
mod initial;
mod known;
mod layer;
mod misfit;
mod multiply;
mod nearest;
mod prefix;
mod problem;
mod resolver;
mod tied;
mod unpack;

use std::collections::HashSet;

pub(crate) use edit::Fitting;
pub use edit::MoeLayout;
pub(crate) use edit::{Change, Edit, FitOptions};
pub(crate) use experts::{modules_of_stack, stacked_shapes};
pub(crate) use index::Found;
use misfit::{Misfit, ambiguous, check_rows, unmatched};
pub(crate) use problem::{Problem, Reason};
pub(crate) use resolver::Resolver;
pub(crate) use tied::{Member, TiedSet};

use crate::adapter::{Adapter, Module};
use crate::arch::names::{ends, module_of};
use crate::{Error, Finding, Result, TensorRef};

/// The most parts for which the nearest name of the base is looked up, since each takes a look at all names.
const NEAREST: usize = 64;

impl Fitting<'_> {
    /// Finds the home of each of `modules`, which need not be all modules of the adapter.
    ///
    /// # Errors
    /// As [`fit`].
    pub(crate) fn modules(&self, base: &Resolver<'_>, modules: &[Module]) -> Result<Vec<Edit>> {
        let (mut edits, mut misfits) = (Vec::new(), Vec::new());
        self.add_modules(base, modules, &mut edits, &mut misfits);
        self.finish(base, edits, misfits, modules.len())
    }

    fn add_modules(
        &self,
        base: &Resolver<'_>,
        modules: &[Module],
        edits: &mut Vec<Edit>,
        misfits: &mut Vec<Misfit>,
    ) {
        for module in modules {
            let found = layer::fit_module(base, self, module).or_else(|misfit| match misfit.grade() {
                // The base may have the layer under the name of another publication.
                0 => image::fit_module(base, self, module)?.ok_or(misfit),
                _ => Err(misfit),
            });
            match found.and_then(|found| initial::with(base, self, module, found)) {
                Ok(found) => edits.extend(found),
                Err(misfit) => misfits.push(misfit),
            }
        }
    }

    /// The edits, if all of `total` parts fit.
    fn finish(
        &self,
        base: &Resolver<'_>,
        edits: Vec<Edit>,
        misfits: Vec<Misfit>,
        total: usize,
    ) -> Result<Vec<Edit>> {
        if misfits.is_empty() { Ok(edits) } else { Err(report(base, self.adapter, misfits, total)) }
    }
}

/// Finds the home of every part of `adapter`.
///
/// # Errors
/// [`Unmatched`](crate::ErrorKind::Unmatched), [`Ambiguous`](crate::ErrorKind::Ambiguous) or
/// [`Shape`](crate::ErrorKind::Shape) (the first that applies) with one line for each part that does not fit.
pub(crate) fn fit(base: &Resolver<'_>, adapter: &Adapter, options: FitOptions) -> Result<Vec<Edit>> {
    Ok(fit_and_say(base, adapter, options)?.0)
}

/// As [`fit`], with what is worth telling the user.
///
/// # Errors
/// As [`fit`].
pub(crate) fn fit_and_say(
    base: &Resolver<'_>,
    adapter: &Adapter,
    options: FitOptions,
) -> Result<(Vec<Edit>, Option<Finding>)> {
    let fitting = Fitting::new(adapter, options);
    let (edits, misfits) = homes(base, &fitting);
    if let Some((edits, note)) = prefix::explained(base, &fitting, &misfits) {
        return Ok((edits, Some(note)));
    }
    let whole = adapter.saved.len() + adapter.deltas.len() + adapter.token_rows.len();
    let total = adapter.modules.len() + adapter.multiplied.len() + whole;
    Ok((fitting.finish(base, edits, misfits, total)?, None))
}

/// What is done to the base, and what does not fit.
fn homes(base: &Resolver<'_>, fitting: &Fitting<'_>) -> (Vec<Edit>, Vec<Misfit>) {
    let adapter = fitting.adapter;
    let mut edits = Vec::new();
    let mut misfits = Vec::new();
    fitting.add_modules(base, &adapter.modules, &mut edits, &mut misfits);
    let listed: HashSet<&str> = adapter.config.modules_to_save.iter().map(String::as_str).collect();
    for saved in &adapter.saved {
        match fit_saved(base, &listed, &saved.name, &saved.tensor) {
            Ok(edit) => edits.push(edit),
            Err(misfit) => misfits.push(misfit),
        }
    }
    for delta in &adapter.deltas {
        match delta::fit_delta(base, fitting, delta) {
            Ok(found) => edits.extend(found),
            Err(misfit) => misfits.push(misfit),
        }
    }
    for rows in &adapter.token_rows {
        match fit_token_rows(base, &edits, rows) {
            Ok(edit) => edits.push(edit),
            Err(misfit) => misfits.push(misfit),
        }
    }
    for layer in &adapter.multiplied {
        match multiply::fit(base, adapter, layer) {
            Ok(found) => edits.extend(found),
            Err(misfit) => misfits.push(misfit),
        }
    }
    (edits, misfits)
}

fn fit_saved(
    base: &Resolver<'_>,
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
    if let Some((target, index)) = base.tied_parameter(name) {
        check_rows(base, Some(index), tensor, name)?;
        return Ok(edit(&target, Some(index)));
    }
    // As for factors: PEFT wraps `nn.MultiheadAttention` as a whole, and its output projection inside.
    let unwrapped = name.replace(".base_layer.", ".");
    let index = match base.resolve(&unwrapped, |_| true) {
        Found::One(index) => index,
        Found::Several(names) => return Err(ambiguous(name, &names)),
        Found::Absent => {
            if let Some(edit) = experts::fit_listed_bias(base, name, tensor) {
                return Ok(edit);
            }
            let module = if name.contains('.') { module_of(name) } else { name };
            if let Some(index) = named_layer(base, listed, name, tensor) {
                return Ok(edit(&base.tensors[index].name, Some(index)));
            }
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

/// The tensor of a layer in `modules_to_save` whose saved name still has the name of its adapter:
/// `lm_head.my_adapter.weight`.
fn named_layer(base: &Resolver<'_>, listed: &HashSet<&str>, name: &str, tensor: &TensorRef) -> Option<usize> {
    let (module, param) = name.rsplit_once('.')?;
    let (layer, _) = module.rsplit_once('.')?;
    if !ends(layer).any(|end| listed.contains(end)) {
        return None;
    }
    let name = format!("{layer}.{param}");
    match base.resolve(&name, |_| true) {
        Found::One(index) => check_rows(base, Some(index), tensor, &name).is_ok().then_some(index),
        _ => None,
    }
}

fn fit_token_rows(
    base: &Resolver<'_>,
    edits: &[Edit],
    rows: &crate::adapter::TokenRows,
) -> std::result::Result<Edit, Misfit> {
    let name = format!("{}.weight", rows.path);
    let (target, index) = match base.tied_parameter(&name) {
        Some(tied) => tied,
        None => match base.resolve(&name, |_| true) {
            Found::One(index) => (base.tensors[index].name.clone(), index),
            Found::Several(names) => return Err(ambiguous(&name, &names)),
            Found::Absent => return Err(unmatched(&name)),
        },
    };
    // A vocabulary that grew brings the whole embedding along, and the rows replace those of that.
    let grown = edits.iter().find_map(|edit| match &edit.change {
        Change::Replace(tensor) if edit.target == target => Some(tensor.info()),
        _ => None,
    });
    let (vocabulary, dim) = grown.unwrap_or(&base.tensors[index]).rows_cols();
    let (_, width) = rows.tensor.info().rows_cols();
    let too_high = rows.rows.iter().find(|&&row| row >= vocabulary);
    if width != dim || too_high.is_some() {
        let reason = match too_high {
            Some(&token) => Reason::Token { token, vocabulary },
            None => Reason::RowWidth { base: dim, trained: width },
        };
        return Err(Misfit::new(&rows.path, reason));
    }
    let change = Change::Rows(rows.tensor.clone(), rows.rows.clone());
    Ok(Edit { target, base: Some(index), origin: rows.path.clone(), change })
}

/// One error for all misfits of the most serious kind, among `total` parts.
fn report(base: &Resolver<'_>, adapter: &Adapter, misfits: Vec<Misfit>, total: usize) -> Error {
    let gravest = misfits.iter().map(Misfit::grade).min();
    let worst: Vec<Misfit> = misfits.into_iter().filter(|m| Some(m.grade()) == gravest).collect();
    let count = worst.len();
    let problem = match gravest {
        None | Some(0) => Problem::Unmatched { count, total, tensors: base.tensors.len() },
        Some(1) => Problem::Ambiguous { count, total },
        Some(2) => match misfit::slices(&worst) {
            Some(parts) if count > 1 && count == adapter.modules.len() => Problem::Slices { count, parts },
            _ => Problem::Shape { count, total },
        },
        Some(_) => Problem::Unmergeable { count, total },
    };
    let line = |(i, Misfit { origin, reason }): (usize, &Misfit)| match reason {
        Reason::NotThere if i < NEAREST => {
            format!("{origin}  nearest in the base: {}", base.nearest(origin).unwrap_or("none"))
        }
        reason => format!("{origin}  {reason}"),
    };
    let lines = worst.iter().enumerate().map(line).collect();
    Error::from(problem).at(&adapter.path).details(lines)
}

#[cfg(test)]
mod refusals;
#[cfg(test)]
mod tests;
