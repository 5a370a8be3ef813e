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
mod known;
mod layer;
mod misfit;
mod nearest;
mod parameters;
mod problem;
mod resolver;
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

use crate::adapter::{Adapter, Module};
use crate::arch::names::module_of;
use crate::{Error, Result, TensorRef};

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
            match found {
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
    for delta in &adapter.deltas {
        match delta::fit_delta(base, &fitting, delta) {
            Ok(found) => edits.extend(found),
            Err(misfit) => misfits.push(misfit),
        }
    }
    for rows in &adapter.token_rows {
        match fit_token_rows(base, rows) {
            Ok(edit) => edits.push(edit),
            Err(misfit) => misfits.push(misfit),
        }
    }
    let whole = adapter.saved.len() + adapter.deltas.len() + adapter.token_rows.len();
    let total = adapter.modules.len() + whole;
    fitting.finish(base, edits, misfits, total)
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
    let index = match base.resolve(name, |_| true) {
        Found::One(index) => index,
        Found::Several(names) => return Err(ambiguous(name, &names)),
        Found::Absent => {
            let output = name.strip_suffix(".weight").and_then(|path| base.tied_output(path));
            if let Some((target, index)) = output {
                check_rows(base, index, tensor, name)?;
                return Ok(edit(&target, index));
            }
            let module = if name.contains('.') { module_of(name) } else { name };
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

fn fit_token_rows(
    base: &Resolver<'_>,
    rows: &crate::adapter::TokenRows,
) -> std::result::Result<Edit, Misfit> {
    let name = format!("{}.weight", rows.path);
    let (target, index) = match base.resolve(&name, |_| true) {
        Found::One(index) => (base.tensors[index].name.clone(), index),
        Found::Several(names) => return Err(ambiguous(&name, &names)),
        Found::Absent => match base.tied_output(&rows.path) {
            Some((target, Some(index))) => (target, index),
            _ => return Err(unmatched(&name)),
        },
    };
    let (vocabulary, dim) = base.tensors[index].rows_cols();
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
        Some(2) => Problem::Shape { count, total },
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
mod tests;
