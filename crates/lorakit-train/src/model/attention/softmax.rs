//! Scores to probabilities, and their gradients. A panel is rows of `C` columns.

use multiversion::multiversion;

use crate::model::real::Real;

/// Scores of keys (rows) and queries (columns) become `exp(score - highest)` of their column. Returns the highest score of
/// each column and the sum of its powers, in the order of rows.
pub(super) fn powers<R: Real>(panel: &mut [R], width: usize) -> ([R; 32], [R; 32]) {
    match width {
        8 => powers_of::<R, 8>(panel),
        16 => powers_of::<R, 16>(panel),
        _ => powers_of::<R, 32>(panel),
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn powers_of<R: Real, const C: usize>(panel: &mut [R]) -> ([R; 32], [R; 32]) {
    let (rows, _) = panel.as_chunks_mut::<C>();
    let (mut highest, mut total) = ([R::of(-1e30); C], [R::ZERO; C]);
    for row in &*rows {
        for c in 0..C {
            highest[c] = if row[c] > highest[c] { row[c] } else { highest[c] };
        }
    }
    for row in rows {
        for c in 0..C {
            row[c] = (row[c] - highest[c]).exp();
        }
        for c in 0..C {
            total[c] += row[c];
        }
    }
    let padded = |of: [R; C]| std::array::from_fn(|c| if c < C { of[c] } else { R::ZERO });
    (padded(highest), padded(total))
}

/// Divides each column by its total.
pub(super) fn divide<R: Real>(panel: &mut [R], total: &[R], width: usize) {
    match width {
        8 => divide_by::<R, 8>(panel, total),
        16 => divide_by::<R, 16>(panel, total),
        _ => divide_by::<R, 32>(panel, total),
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn divide_by<R: Real, const C: usize>(panel: &mut [R], total: &[R]) {
    for row in panel.as_chunks_mut::<C>().0 {
        for c in 0..C {
            row[c] = row[c] / total[c];
        }
    }
}

/// Scores of queries (rows) and keys (columns) become probabilities, and gradients `d` of probabilities those of scores.
/// Each row comes with its log-sum-exp and the product of its output and that output's gradient.
pub(super) fn gradients<R: Real>(panel: &mut [R], d: &mut [R], lse: &[R], deltas: &[R], width: usize) {
    match width {
        8 => gradients_of::<R, 8>(panel, d, lse, deltas),
        16 => gradients_of::<R, 16>(panel, d, lse, deltas),
        _ => gradients_of::<R, 32>(panel, d, lse, deltas),
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn gradients_of<R: Real, const C: usize>(panel: &mut [R], d: &mut [R], lse: &[R], deltas: &[R]) {
    let rows = panel.as_chunks_mut::<C>().0.iter_mut().zip(d.as_chunks_mut::<C>().0);
    for ((row, d), (lse, delta)) in rows.zip(lse.iter().zip(deltas)) {
        for c in 0..C {
            row[c] = (row[c] - *lse).exp();
            d[c] = row[c] * (d[c] - *delta);
        }
    }
}
