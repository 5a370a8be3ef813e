//! Blocks of queries, each against all keys that one of them sees.

use std::ops::Range;

use super::packed::{self, Head};
use super::{BLOCK, Heads, Places, Unit, softmax};
use crate::model::math::ln;
use crate::model::parallel;
use crate::model::real::Real;

/// The output `(queries, heads, dim)`, and the log-sum-exp `(heads, queries)`.
pub(in crate::model) fn forward<R: Real>(
    heads: &Heads,
    places: &Places,
    (q, k, v): (&[R], &[R], &[R]),
    threads: usize,
) -> (Vec<R>, Vec<R>) {
    let units = heads.units(places);
    let found = parallel::map(threads, units.len(), |at| of_unit(heads, &units[at], q, k, v));
    let count = places.positions.len();
    let (mut o, mut lse) = (vec![R::ZERO; q.len()], vec![R::ZERO; count * heads.heads]);
    for (unit, found) in units.iter().zip(found) {
        let rows =
            o[unit.queries.start * heads.heads * heads.dim..].chunks_exact_mut(heads.heads * heads.dim);
        let group = heads.group(unit.kv_head);
        let columns = group.start * heads.dim..group.end * heads.dim;
        for (to, from) in rows.zip(found.0.chunks_exact(columns.len())) {
            to[columns.clone()].copy_from_slice(from);
        }
        for (head, sums) in group.zip(found.1.chunks_exact(unit.queries.len().max(1))) {
            lse[head * count..][unit.queries.clone()].copy_from_slice(sums);
        }
    }
    (o, lse)
}

/// The output `(queries, heads of the group, dim)`, and the log-sum-exp of each head.
fn of_unit<R: Real>(heads: &Heads, unit: &Unit, q: &[R], k: &[R], v: &[R]) -> (Vec<R>, Vec<R>) {
    let (dim, count) = (heads.dim, unit.queries.len());
    let (height, width) = R::tile();
    let group = heads.group(unit.kv_head);
    let of = (unit.kv_head, heads.kv_heads);
    let keys = Head::of(k, &unit.keys, of, dim).row_tiles();
    let values = Head::of(v, &unit.keys, of, dim).column_tiles();
    let mut o = vec![R::ZERO; count * group.len() * dim];
    let mut lse = Vec::with_capacity(count * group.len());
    let mut scores = Vec::new();
    for (at, head) in group.clone().enumerate() {
        let q = packed::scaled(Head::of(q, &unit.queries, (head, heads.heads), dim), R::of(heads.scale));
        let queries = Head::of(&q, &(0..count), (0, 1), dim).row_panels();
        let mut outputs = vec![R::ZERO; count.next_multiple_of(width) * dim];
        for (panel, first) in (0..count).step_by(width).enumerate() {
            let seen = seen(heads, unit, first);
            let start = seen.start / height * height;
            scores.clear();
            scores.resize((seen.end - start) * width, R::ZERO);
            packed::add(&keys[start * dim..], dim, 0..dim, &queries[panel * dim * width..], &mut scores);
            let scores = &mut scores[(seen.start - start) * width..];
            hide(heads, unit, first, seen.start, scores);
            let (highest, total) = softmax::powers(scores, width);
            let outputs = &mut outputs[panel * dim * width..][..dim * width];
            packed::add(&values, unit.keys.len(), seen, scores, outputs);
            softmax::divide(outputs, &total, width);
            let sums = highest.iter().zip(total).take(width.min(count - first));
            lse.extend(sums.map(|(highest, total)| *highest + R::of(ln(total.to_f64()))));
        }
        packed::from_row_panels(&outputs, count, dim, |row, values| {
            o[(row * group.len() + at) * dim..][..dim].copy_from_slice(values);
        });
    }
    (o, lse)
}

/// The keys that a query of the block with query `at` sees.
fn seen(heads: &Heads, unit: &Unit, at: usize) -> Range<usize> {
    let first = at / BLOCK * BLOCK;
    let last = (first + BLOCK).min(unit.positions.len()) - 1;
    unit.positions[first].saturating_sub(heads.reach())..unit.positions[last] + 1
}

/// Makes the scores of keys (rows, from `key` on) that are not seen by queries (columns, from `first` on) very low.
fn hide<R: Real>(heads: &Heads, unit: &Unit, first: usize, key: usize, scores: &mut [R]) {
    let (_, width) = R::tile();
    let positions = &unit.positions[first..unit.positions.len().min(first + width)];
    let (lowest, highest) = (positions[0], positions[positions.len() - 1]);
    for (key, scores) in (key..).zip(scores.chunks_exact_mut(width)) {
        if !(heads.sees(lowest, key) && heads.sees(highest, key)) {
            for (score, query) in scores.iter_mut().zip(positions) {
                *score = if heads.sees(*query, key) { *score } else { R::of(-1e30) };
            }
        }
    }
}
