//! Full deltas: `W + weight * D`, in the shape of the parameter.

use std::ops::Range;

use super::edit::{Change, Edit, Fitting};
use super::image;
use super::index::Found;
use super::layer::Fit;
use super::misfit::{Misfit, ambiguous, unmatched};
use super::problem::Reason;
use super::resolver::Resolver;
use crate::adapter::Delta;
use crate::plan::LowRank;
use crate::tensor::Factor;

/// The changes by a full delta.
pub(super) fn fit_delta(base: &Resolver<'_>, fitting: &Fitting<'_>, delta: &Delta) -> Fit<Vec<Edit>> {
    for name in image::names(delta) {
        match base.resolve(&name, |info| info.shape == delta.tensor.info().shape) {
            Found::One(index) => return Ok(vec![edit(base, index, delta, None)?]),
            Found::Several(names) => return Err(ambiguous(&name, &names)),
            Found::Absent => {}
        }
    }
    let homes = image::homes_of_delta(base, fitting, delta)?;
    if homes.is_empty() {
        return Err(unmatched(&delta.name()));
    }
    homes.into_iter().map(|(index, part, rows)| edit(base, index, &part, rows)).collect()
}

/// Adds the delta to tensor `index`, or to some of its rows.
fn edit(base: &Resolver<'_>, index: usize, delta: &Delta, rows: Option<Range<usize>>) -> Fit<Edit> {
    let (stored, tensor) = (&base.tensors[index], &delta.tensor);
    let mut shape = stored.shape.clone();
    if let (Some(first), Some(rows)) = (shape.first_mut(), &rows) {
        *first = rows.len();
    }
    if shape != tensor.info().shape {
        let reason = Reason::Weight { base: stored.shape.clone(), adapter: tensor.info().shape.clone() };
        return Err(Misfit::new(&delta.name(), reason));
    }
    let scale = delta.strength;
    let terms = match (stored.shape.len(), rows) {
        // The values of a vector are one row.
        (1, Some(rows)) => {
            let piece = (Factor::matrix(tensor.clone(), rows.len(), 1), rows.start, 0);
            let total = stored.shape[0];
            let whole = crate::TensorRef::assembled(vec![piece], 1, vec![total])
                .map_err(|_| unmatched(&delta.name()))?;
            vec![LowRank { rows: 0..1, b: Factor::one(), a: Factor::matrix(whole, 1, total), scale }]
        }
        (_, rows) => {
            let (count, cols) = tensor.info().rows_cols();
            let start = rows.map_or(0, |rows| rows.start);
            let row = |i: usize| {
                let a = Factor::matrix(tensor.clone(), count, cols).take_rows(i, 1, 1);
                LowRank { rows: start + i..start + i + 1, b: Factor::one(), a, scale }
            };
            (0..count).map(row).collect()
        }
    };
    let change = Change::LowRank { terms, dora: None, peft_rounds_delta: false, initial: None };
    Ok(Edit { target: stored.name.clone(), base: Some(index), origin: delta.name(), change })
}
