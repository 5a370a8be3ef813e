//! Causal attention within documents, a tile of queries and keys at a time. The forward pass keeps the output and the
//! logarithm of each softmax's sum; the backward pass computes the probabilities again from it.

mod tile;

use std::ops::Range;

use self::tile::{Padded, SIDE, add_product, masked_exp, row_products, scores_gradient};
use super::math::ln;
use super::parallel;
use super::real::{Real, sum};

/// The heads of a layer. `q` and the output are `(tokens, heads, dim)`, `k` and `v` `(tokens, kv_heads, dim)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) dim: usize,
    /// Keys that a query sees, itself included.
    pub(super) window: Option<usize>,
    /// Multiplies scores.
    pub(super) scale: f64,
}

/// One key head in one document: what a thread computes alone, so that sums over its query heads have one order.
struct Unit<'a> {
    document: &'a Range<usize>,
    kv_head: usize,
}

impl Heads {
    fn units<'a>(&self, documents: &'a [Range<usize>]) -> Vec<Unit<'a>> {
        let heads = |document| (0..self.kv_heads).map(move |kv_head| Unit { document, kv_head });
        documents.iter().flat_map(heads).collect()
    }

    fn queries(&self, unit: &Unit) -> Range<usize> {
        let group = self.heads / self.kv_heads;
        unit.kv_head * group..(unit.kv_head + 1) * group
    }

    /// Tiles of keys that some query of tile `queries` sees.
    fn key_tiles(&self, queries: usize) -> Range<usize> {
        let lowest = self.window.map_or(0, |window| (queries * SIDE + 1).saturating_sub(window));
        lowest / SIDE..queries + 1
    }

    /// The first key that query `at` sees.
    fn lowest(&self, at: usize) -> usize {
        self.window.map_or(0, |window| (at + 1).saturating_sub(window))
    }
}

/// The output, and the log-sum-exp `(tokens, heads)`.
pub(super) fn forward<R: Real>(
    heads: &Heads,
    documents: &[Range<usize>],
    (q, k, v): (&[R], &[R], &[R]),
    threads: usize,
) -> (Vec<R>, Vec<R>) {
    let tokens = documents.last().map_or(0, |last| last.end);
    let units = heads.units(documents);
    let found = parallel::map(threads, units.len(), |at| unit_forward(heads, &units[at], q, k, v));
    let (mut o, mut lse) = (vec![R::ZERO; q.len()], vec![R::ZERO; tokens * heads.heads]);
    for (unit, found) in units.iter().zip(found) {
        for (head, (out, sums)) in heads.queries(unit).zip(found) {
            out.add_to(&mut o, unit.document, head, heads.heads);
            let column = lse[unit.document.start * heads.heads..].chunks_exact_mut(heads.heads);
            column.zip(sums).for_each(|(row, sum)| row[head] = sum);
        }
    }
    (o, lse)
}

fn unit_forward<R: Real>(heads: &Heads, unit: &Unit, q: &[R], k: &[R], v: &[R]) -> Vec<(Padded<R>, Vec<R>)> {
    let (document, dim) = (unit.document, heads.dim);
    let kt = Padded::of(k, document, unit.kv_head, heads.kv_heads, dim, R::ONE).transposed();
    let v = Padded::of(v, document, unit.kv_head, heads.kv_heads, dim, R::ONE);
    let one_head = |head| {
        let q = Padded::of(q, document, head, heads.heads, dim, R::of(heads.scale));
        let mut o = Padded::zeros(document.len(), dim);
        let mut lse = Vec::with_capacity(document.len());
        for tile in 0..o.tiles() {
            let mut top = [R::of(-1e30); SIDE];
            let mut total = [R::ZERO; SIDE];
            for keys in heads.key_tiles(tile) {
                let mut p = [R::ZERO; SIDE * SIDE];
                add_product(
                    (q.tile(tile), q.width, 1),
                    (&kt.values[keys * SIDE..], kt.width),
                    dim,
                    &mut p,
                    SIDE,
                );
                for row in 0..SIDE {
                    let at = tile * SIDE + row;
                    let p = &mut p[row * SIDE..][..SIDE];
                    let seen =
                        heads.lowest(at).saturating_sub(keys * SIDE)..(at + 1).saturating_sub(keys * SIDE);
                    let highest = masked_exp(p, seen, top[row]);
                    let shrink = (top[row] - highest).exp();
                    top[row] = highest;
                    total[row] = total[row] * shrink + sum(p);
                    o.row_mut(at).iter_mut().for_each(|value| *value = *value * shrink);
                }
                add_product((&p, SIDE, 1), (v.tile(keys), v.width), SIDE, o.tile_mut(tile), v.width);
            }
            for row in 0..SIDE.min(document.len() - tile * SIDE) {
                o.row_mut(tile * SIDE + row).iter_mut().for_each(|value| *value = *value / total[row]);
                lse.push(top[row] + R::of(ln(total[row].to_f64())));
            }
        }
        (o, lse)
    };
    heads.queries(unit).map(one_head).collect()
}

/// What [`forward`] left for the backward pass, and the gradient of its output.
pub(super) struct Kept<'a, R> {
    pub(super) q: &'a [R],
    pub(super) k: &'a [R],
    pub(super) v: &'a [R],
    pub(super) o: &'a [R],
    pub(super) lse: &'a [R],
    pub(super) d_o: &'a [R],
}

/// The gradients of `q`, `k` and `v`.
pub(super) fn backward<R: Real>(
    heads: &Heads,
    documents: &[Range<usize>],
    kept: &Kept<R>,
    threads: usize,
) -> (Vec<R>, Vec<R>, Vec<R>) {
    let units = heads.units(documents);
    let found = parallel::map(threads, units.len(), |at| unit_backward(heads, &units[at], kept));
    let zeros = |like: &[R]| vec![R::ZERO; like.len()];
    let (mut dq, mut dk, mut dv) = (zeros(kept.q), zeros(kept.k), zeros(kept.v));
    for (unit, (queries, keys, values)) in units.iter().zip(found) {
        for (head, found) in heads.queries(unit).zip(queries) {
            found.add_to(&mut dq, unit.document, head, heads.heads);
        }
        keys.add_to(&mut dk, unit.document, unit.kv_head, heads.kv_heads);
        values.add_to(&mut dv, unit.document, unit.kv_head, heads.kv_heads);
    }
    (dq, dk, dv)
}

/// With `p` the probabilities: `dv = pᵀ do`, `ds = p (do vᵀ - rowsum(do o))`, `dq = scale ds k`, `dk = scale dsᵀ q`.
fn unit_backward<R: Real>(
    heads: &Heads,
    unit: &Unit,
    kept: &Kept<R>,
) -> (Vec<Padded<R>>, Padded<R>, Padded<R>) {
    let (document, dim, scale) = (unit.document, heads.dim, R::of(heads.scale));
    let k = Padded::of(kept.k, document, unit.kv_head, heads.kv_heads, dim, R::ONE);
    let kt = k.transposed();
    let vt = Padded::of(kept.v, document, unit.kv_head, heads.kv_heads, dim, R::ONE).transposed();
    let mut dk = Padded::zeros(document.len(), dim);
    let mut dv = Padded::zeros(document.len(), dim);
    let mut dqs = Vec::new();
    for head in heads.queries(unit) {
        let q = Padded::of(kept.q, document, head, heads.heads, dim, scale);
        let o = Padded::of(kept.o, document, head, heads.heads, dim, R::ONE);
        let d_o = Padded::of(kept.d_o, document, head, heads.heads, dim, R::ONE);
        let mut dq = Padded::zeros(document.len(), dim);
        for tile in 0..q.tiles() {
            let rows = SIDE.min(document.len() - tile * SIDE);
            let lse = |row: usize| kept.lse[(document.start + tile * SIDE + row) * heads.heads + head];
            let deltas = row_products(o.tile(tile), d_o.tile(tile), o.width);
            for keys in heads.key_tiles(tile) {
                let mut p = [R::ZERO; SIDE * SIDE];
                let mut dp = [R::ZERO; SIDE * SIDE];
                add_product(
                    (q.tile(tile), q.width, 1),
                    (&kt.values[keys * SIDE..], kt.width),
                    dim,
                    &mut p,
                    SIDE,
                );
                let values = (&vt.values[keys * SIDE..], vt.width);
                add_product((d_o.tile(tile), d_o.width, 1), values, dim, &mut dp, SIDE);
                for row in 0..SIDE {
                    let at = tile * SIDE + row;
                    let (p, dp) = (&mut p[row * SIDE..][..SIDE], &mut dp[row * SIDE..][..SIDE]);
                    let seen =
                        heads.lowest(at).saturating_sub(keys * SIDE)..(at + 1).saturating_sub(keys * SIDE);
                    let seen = if row < rows { seen } else { 0..0 };
                    let lse = if row < rows { lse(row) } else { R::ZERO };
                    scores_gradient(p, dp, seen, lse, deltas[row]);
                }
                add_product((&p, 1, SIDE), (d_o.tile(tile), d_o.width), SIDE, dv.tile_mut(keys), d_o.width);
                add_product((&dp, 1, SIDE), (q.tile(tile), q.width), SIDE, dk.tile_mut(keys), q.width);
                add_product((&dp, SIDE, 1), (k.tile(keys), k.width), SIDE, dq.tile_mut(tile), k.width);
            }
        }
        dq.values.iter_mut().for_each(|value| *value = *value * scale);
        dqs.push(dq);
    }
    (dqs, dk, dv)
}

#[cfg(test)]
mod tests;
