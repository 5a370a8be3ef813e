//! Keys and values of the tokens before, so that a token is one row in every product.

use std::ops::Range;

use multiversion::multiversion;

use super::shape::Shape;
use crate::kernel::math;

/// Keys that are scored together.
const TILE: usize = 32;

/// Tokens for which memory is taken at a time: doubling it would take up to twice as much as is needed.
const GROWTH: usize = 256;

/// What a text that is being generated has of each layer.
#[derive(Debug, Clone)]
pub struct Cache {
    layers: Vec<Kept>,
    len: usize,
}

/// The keys and values of one layer: of all tokens, or at least of those that the next one sees.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    heads: Vec<Head>,
    dim: usize,
    /// How many tokens a query sees, itself included.
    window: Option<usize>,
    /// The position of the first token that is there.
    first: usize,
    /// Tokens that are there.
    len: usize,
}

/// One key head.
#[derive(Debug, Clone, Default)]
struct Head {
    /// Tiles of keys: `[tile][column][key]`.
    keys: Vec<f32>,
    /// `(tokens, dim)`.
    values: Vec<f32>,
}

impl Cache {
    /// Of no tokens.
    pub fn new(shape: &Shape) -> Self {
        let kept = |window| Kept {
            heads: vec![Head::default(); shape.kv_heads],
            dim: shape.head_dim,
            window,
            first: 0,
            len: 0,
        };
        Self { layers: shape.layers.iter().map(|layer| kept(layer.window)).collect(), len: 0 }
    }

    /// Tokens that it has seen.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has seen none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        let heads = self.layers.iter().flat_map(|kept| &kept.heads);
        heads.map(|head| 4 * (head.keys.capacity() + head.values.capacity())).sum()
    }

    pub(super) fn layer(&mut self, index: usize) -> &mut Kept {
        &mut self.layers[index]
    }

    /// Says that all layers have so many tokens more.
    pub(super) fn advance(&mut self, tokens: usize) {
        self.len += tokens;
    }
}

impl Kept {
    /// Adds tokens: `k` and `v` are `(tokens, kv_heads, dim)`, keys as attention takes them.
    pub(super) fn push(&mut self, k: &[f32], v: &[f32]) {
        let width = self.heads.len() * self.dim;
        for (k, v) in k.chunks_exact(width).zip(v.chunks_exact(width)) {
            let place = self.len % TILE;
            for ((head, k), v) in
                self.heads.iter_mut().zip(k.chunks_exact(self.dim)).zip(v.chunks_exact(self.dim))
            {
                if place == 0 {
                    reserve(&mut head.keys, TILE * self.dim, GROWTH * self.dim);
                    reserve(&mut head.values, TILE * self.dim, GROWTH * self.dim);
                    head.keys.resize(head.keys.len() + TILE * self.dim, 0.0);
                }
                let tile = head.keys.len() - TILE * self.dim;
                for (to, key) in head.keys[tile + place..].iter_mut().step_by(TILE).zip(k) {
                    *to = *key;
                }
                head.values.extend_from_slice(v);
            }
            self.len += 1;
        }
        self.forget();
    }

    /// Drops tiles that no later query sees, many at a time.
    fn forget(&mut self) {
        let Some(window) = self.window else { return };
        let tiles = self.len.saturating_sub(window) / TILE;
        if tiles * TILE < window.max(8 * TILE) {
            return;
        }
        for head in &mut self.heads {
            head.keys.drain(..tiles * TILE * self.dim);
            head.values.drain(..tiles * TILE * self.dim);
            head.keys.shrink_to(head.keys.len() + GROWTH * self.dim);
            head.values.shrink_to(head.values.len() + GROWTH * self.dim);
        }
        self.first += tiles * TILE;
        self.len -= tiles * TILE;
    }

    /// The keys and values of the last `count` tokens: `(count, kv_heads, dim)`.
    pub(super) fn last(&self, count: usize) -> (Vec<f32>, Vec<f32>) {
        let (mut k, mut v) = (Vec::new(), Vec::new());
        for at in self.len - count..self.len {
            for head in &self.heads {
                let tile = &head.keys[at / TILE * TILE * self.dim..][..TILE * self.dim];
                k.extend(tile.iter().skip(at % TILE).step_by(TILE));
                v.extend_from_slice(&head.values[at * self.dim..][..self.dim]);
            }
        }
        (k, v)
    }

    /// How many of the tokens that are there a query right behind them sees.
    pub(super) fn seen(&self) -> usize {
        self.window.map_or(self.len, |window| self.len.min(window.saturating_sub(1)))
    }

    /// What the last token sees with the queries `q (heads, dim)` of the group of key head `head`: `o (heads, dim)`.
    pub(super) fn attend(&self, head: usize, q: &[f32], scale: f32, o: &mut [f32]) {
        let seen = self.window.map_or(0, |window| self.len.saturating_sub(window))..self.len;
        let Head { keys, values } = &self.heads[head];
        let first = seen.start / TILE;
        let mut scores = vec![0.0; (seen.end.div_ceil(TILE) - first) * TILE];
        let inside: Range<usize> = seen.start - first * TILE..seen.end - first * TILE;
        let values = &values[seen.start * self.dim..seen.end * self.dim];
        for (q, o) in q.chunks_exact(self.dim).zip(o.chunks_exact_mut(self.dim)) {
            score(q, scale, &keys[first * TILE * self.dim..], &mut scores);
            let scores = &mut scores[inside.clone()];
            let total = math::exp_of_differences(scores, math::max(scores));
            o.fill(0.0);
            add_weighted(scores, values, o);
            o.iter_mut().for_each(|o| *o /= total);
        }
    }
}

/// Makes room for `values` more, or for `growth` where there is none.
fn reserve(vector: &mut Vec<f32>, values: usize, growth: usize) {
    if vector.capacity() - vector.len() < values {
        vector.reserve_exact(growth);
    }
}

/// The products of `scale q` and of the keys of all tiles: each a chain over columns.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn score(q: &[f32], scale: f32, keys: &[f32], scores: &mut [f32]) {
    for (tile, scores) in keys.chunks_exact(TILE * q.len()).zip(scores.as_chunks_mut::<TILE>().0) {
        let mut sums = [0.0f32; TILE];
        for (q, keys) in q.iter().zip(tile.as_chunks::<TILE>().0) {
            let q = *q * scale;
            for (sum, key) in sums.iter_mut().zip(keys) {
                *sum = q.mul_add(*key, *sum);
            }
        }
        *scores = sums;
    }
}

/// Adds rows of `o.len()` values times their weights: each sum is a chain over rows.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn add_weighted(weights: &[f32], rows: &[f32], o: &mut [f32]) {
    for (weight, row) in weights.iter().zip(rows.chunks_exact(o.len().max(1))) {
        for (o, value) in o.iter_mut().zip(row) {
            *o = weight.mul_add(*value, *o);
        }
    }
}
