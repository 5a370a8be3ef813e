//! Factors that are combined entry by entry.

use std::ops::Range;

use ndarray::{ArrayView2, Axis};

use super::entries::Walk;
use super::recipe::{Mixture, Recipe};

/// Entries that are mixed at a time: few enough to stay in a cache.
const RUN: usize = 1 << 12;

/// The entries of `matrices`, which have one shape, mixed place by place.
pub(super) fn mixed(
    recipe: Recipe,
    matrices: Vec<ArrayView2<'_, f32>>,
    weights: &[f64],
    streams: &[u64],
) -> Vec<f32> {
    let (rows, cols) = matrices.first().map_or((0, 0), ArrayView2::dim);
    let walks: Vec<_> =
        matrices.iter().map(|m| move |each: &mut dyn FnMut(usize, &[f64])| walk(*m, each)).collect();
    let tensors: Vec<(u64, Walk<'_>)> =
        streams.iter().zip(&walks).map(|(stream, walk)| (*stream, walk as Walk<'_>)).collect();
    let mixture = Mixture::new(recipe, weights.to_vec(), rows * cols, &tensors);
    let mut mixed: Vec<f32> = Vec::with_capacity(rows * cols);
    let mut values: Vec<Vec<f64>> = matrices.iter().map(|_| Vec::new()).collect();
    for run in runs(rows, cols) {
        let first = run.start * cols;
        matrices.iter().zip(&mut values).for_each(|(matrix, values)| widen(*matrix, run.clone(), values));
        mixed.extend(mixture.of(first, &mut values).into_iter().map(|value| value as f32));
    }
    mixed
}

/// Runs of whole rows of a matrix.
fn runs(rows: usize, cols: usize) -> impl Iterator<Item = Range<usize>> {
    let step = (RUN / cols.max(1)).max(1);
    (0..rows).step_by(step).map(move |start| start..(start + step).min(rows))
}

/// Puts rows of `matrix` into `values`, in f64.
fn widen(matrix: ArrayView2<'_, f32>, rows: Range<usize>, values: &mut Vec<f64>) {
    values.clear();
    for row in matrix.slice_axis(Axis(0), rows.into()).rows() {
        match row.to_slice() {
            Some(row) => values.extend(row.iter().map(|value| f64::from(*value))),
            None => values.extend(row.iter().map(|value| f64::from(*value))),
        }
    }
}

/// Calls `each` with the entries of `matrix`, run by run.
fn walk(matrix: ArrayView2<'_, f32>, each: &mut dyn FnMut(usize, &[f64])) {
    let mut values = Vec::new();
    for run in runs(matrix.nrows(), matrix.ncols()) {
        widen(matrix, run.clone(), &mut values);
        each(run.start * matrix.ncols(), &values);
    }
}
