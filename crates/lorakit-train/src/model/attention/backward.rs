//! Blocks of keys, each against all queries that see one of them.

use std::ops::Range;

use super::packed::{self, Head};
use super::{BLOCK, Heads, Places, STRIP, Unit, softmax};
use crate::kernel::tiles::BEHIND;
use crate::model::parallel;
use crate::model::real::Real;

/// What [`forward`](super::forward) left for the backward pass, and the gradient of its output.
pub(in crate::model) struct Kept<'a, R> {
    pub(in crate::model) q: &'a [R],
    pub(in crate::model) k: &'a [R],
    pub(in crate::model) v: &'a [R],
    pub(in crate::model) o: &'a [R],
    pub(in crate::model) lse: &'a [R],
    pub(in crate::model) d_o: &'a [R],
}

/// The gradients of `q`, `k` and `v`.
pub(in crate::model) fn backward<R: Real>(
    heads: &Heads,
    places: &Places,
    kept: &Kept<R>,
    threads: usize,
) -> (Vec<R>, Vec<R>, Vec<R>) {
    let units = heads.units(places);
    let found =
        parallel::map(threads, units.len(), |at| of_unit(heads, &units[at], places.positions.len(), kept));
    let zeros = |like: &[R]| vec![R::ZERO; like.len()];
    let (mut dq, mut dk, mut dv) = (zeros(kept.q), zeros(kept.k), zeros(kept.v));
    let (_, width) = R::tile();
    for (unit, found) in units.iter().zip(&found) {
        let place = |row: usize, head: usize, heads_of: usize| (row * heads_of + head) * heads.dim;
        for (head, panels) in heads.group(unit.kv_head).zip(&found.queries) {
            for (part, panel) in panels.chunks_exact(unit.queries.len().max(1) * width).enumerate() {
                let columns = part * width..heads.dim.min((part + 1) * width);
                for (row, values) in unit.queries.clone().zip(panel.chunks_exact(width)) {
                    dq[place(row, head, heads.heads)..][columns.clone()]
                        .copy_from_slice(&values[..columns.len()]);
                }
            }
        }
        for (to, panels) in [(&mut dk, &found.keys), (&mut dv, &found.values)] {
            packed::from_row_panels(panels, unit.keys.len(), heads.dim, |row, values| {
                to[place(unit.keys.start + row, unit.kv_head, heads.kv_heads)..][..heads.dim]
                    .copy_from_slice(values);
            });
        }
    }
    (dq, dk, dv)
}

/// Gradients of one key head in one document.
struct Found<R> {
    /// Of each query head, `[panel][query][column]`.
    queries: Vec<Vec<R>>,
    /// `[panel][column][key]`.
    keys: Vec<R>,
    values: Vec<R>,
}

/// With `p` the probabilities: `dv = pᵀ do`, `ds = p (do vᵀ - rowsum(do o))`, `dq = scale ds k`, `dk = scale dsᵀ q`.
fn of_unit<R: Real>(heads: &Heads, unit: &Unit, count: usize, kept: &Kept<R>) -> Found<R> {
    let (dim, scale, (height, width)) = (heads.dim, R::of(heads.scale), R::tile());
    let (tokens, rows) = (unit.keys.len(), unit.queries.len());
    let of = (unit.kv_head, heads.kv_heads);
    let k = Head::of(kept.k, &unit.keys, of, dim);
    let (k_panels, k_columns) = (k.row_panels(), k.column_panels());
    let v_panels = Head::of(kept.v, &unit.keys, of, dim).row_panels();
    let zeros = || vec![R::ZERO; tokens.next_multiple_of(width) * dim];
    let (mut dk, mut dv) = (zeros(), zeros());
    let mut dqs = Vec::new();
    let (mut p, mut dp, mut turned) = (Vec::new(), Vec::new(), vec![R::ZERO; width * height + BEHIND]);
    for head in heads.group(unit.kv_head) {
        let at = (head, heads.heads);
        let q = packed::scaled(Head::of(kept.q, &unit.queries, at, dim), scale);
        let q = Head::of(&q, &(0..rows), (0, 1), dim);
        let (q_rows, q_columns) = (q.row_tiles(), q.column_tiles());
        let d_o = Head::of(kept.d_o, &unit.queries, at, dim);
        let (d_rows, d_columns) = (d_o.row_tiles(), d_o.column_tiles());
        let o = Head::of(kept.o, &unit.queries, at, dim);
        let deltas = packed::dots(&o, &d_o);
        let lse = &kept.lse[head * count..][unit.queries.clone()];
        let mut dq = vec![R::ZERO; dim.div_ceil(width) * rows * width];
        for (panel, first) in (0..tokens).step_by(width).enumerate() {
            let seeing = seeing(heads, unit, first);
            let start = seeing.start / STRIP * STRIP;
            for of in [&mut p, &mut dp] {
                of.clear();
                of.resize((seeing.end - start) * width, R::ZERO);
            }
            let lanes = panel * dim * width;
            packed::add(&q_rows[start * dim..], dim, 0..dim, &k_panels[lanes..], &mut p);
            packed::add(&d_rows[start * dim..], dim, 0..dim, &v_panels[lanes..], &mut dp);
            softmax::gradients(&mut p, &mut dp, &lse[start..], &deltas[start..], width);
            hide(heads, unit, start..seeing.end, first, [&mut p, &mut dp]);
            let inside = (seeing.start - start) * width;
            packed::add(&d_columns, rows, seeing.clone(), &p[inside..], &mut dv[lanes..][..dim * width]);
            packed::add(&q_columns, rows, seeing.clone(), &dp[inside..], &mut dk[lanes..][..dim * width]);
            let keys = width.min(tokens - first);
            for (tile, ds) in dp.chunks(height * width).enumerate() {
                let (row, count) = (start + tile * height, ds.len() / width);
                R::transpose(ds, width, count, width, &mut turned, height);
                for part in 0..dim.div_ceil(width) {
                    let sums = &mut dq[(part * rows + row) * width..][..count * width];
                    R::add_tile(keys, &turned, &k_columns[(part * tokens + first) * width..], sums);
                }
            }
        }
        dq.iter_mut().for_each(|value| *value = *value * scale);
        dqs.push(dq);
    }
    Found { queries: dqs, keys: dk, values: dv }
}

/// The queries that see a key of the block with key `at`.
fn seeing(heads: &Heads, unit: &Unit, at: usize) -> Range<usize> {
    let first = at / BLOCK * BLOCK;
    let last = (first + BLOCK).min(unit.keys.len()) - 1;
    let end = last.saturating_add(heads.reach());
    let start = unit.positions.partition_point(|position| *position < first);
    start..unit.positions.partition_point(|position| *position <= end).max(start)
}

/// Makes what queries (rows) do not see of keys (columns, from `key` on) zero.
fn hide<R: Real>(heads: &Heads, unit: &Unit, queries: Range<usize>, key: usize, [p, ds]: [&mut [R]; 2]) {
    let (_, width) = R::tile();
    let rows = p.chunks_exact_mut(width).zip(ds.chunks_exact_mut(width));
    for (query, (p, ds)) in unit.positions[queries].iter().zip(rows) {
        if !(heads.sees(*query, key) && heads.sees(*query, key + width - 1)) {
            for (key, (p, ds)) in (key..).zip(p.iter_mut().zip(ds)) {
                let sees = heads.sees(*query, key);
                (*p, *ds) = if sees { (*p, *ds) } else { (R::ZERO, R::ZERO) };
            }
        }
    }
}
