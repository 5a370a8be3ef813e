//! Causal attention within documents, on tiles of the matrix kernels. The forward pass keeps the output and the logarithm
//! of each softmax's sum; the backward pass computes the probabilities again from it.
//!
//! ```text
//!   forward  backward   blocks of queries against all keys, blocks of keys against all queries
//!   packed              heads in the orders in which tiles read them
//!   softmax             exponentials and their gradient, many queries or keys at a time
//! ```
//!
//! Every sum is one chain over keys or over queries, in order: how wide tiles are changes no bit.

mod backward;
mod forward;
mod packed;
mod softmax;

use std::ops::Range;

pub(super) use self::backward::{Kept, backward};
pub(super) use self::forward::forward;
use super::shape::Shape;

/// Queries or keys that are worked on together: a multiple of the columns of any tile.
const BLOCK: usize = 32;

/// Where chains over queries may begin: a multiple of the rows of any tile, so that they begin at the same one whatever
/// the tile.
const STRIP: usize = 24;

/// The heads of a layer. `q` and the output are `(queries, heads, dim)`, `k` and `v` `(tokens, kv_heads, dim)`.
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

impl Heads {
    /// Those of layer `layer`.
    pub(super) fn of(shape: &Shape, layer: usize) -> Self {
        Self {
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            dim: shape.head_dim,
            window: shape.layers[layer].window,
            scale: shape.score_scale,
        }
    }

    /// The query heads of key head `kv_head`.
    fn group(&self, kv_head: usize) -> Range<usize> {
        let group = self.heads / self.kv_heads;
        kv_head * group..(kv_head + 1) * group
    }

    /// How far behind a query the farthest key is that it sees.
    fn reach(&self) -> usize {
        self.window.map_or(usize::MAX >> 1, |window| window.saturating_sub(1))
    }

    fn sees(&self, query: usize, key: usize) -> bool {
        // A key that comes later is very far behind.
        query.wrapping_sub(key) <= self.reach()
    }

    /// The key heads of all documents: what a thread computes alone, so that sums over query heads have one order.
    fn units<'a>(&self, places: &'a Places) -> Vec<Unit<'a>> {
        let documents = places.documents.iter().zip(&places.queries);
        let heads = |(keys, queries): (&'a Range<usize>, &Range<usize>)| {
            let positions = &places.positions[queries.clone()];
            let (keys, queries) = (keys.clone(), queries.clone());
            let unit =
                move |kv_head| Unit { kv_head, keys: keys.clone(), queries: queries.clone(), positions };
            (0..self.kv_heads).map(unit)
        };
        documents.flat_map(heads).collect()
    }
}

/// Which tokens attend: all of them, or some.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The tokens of each document.
    documents: Vec<Range<usize>>,
    /// Its queries.
    queries: Vec<Range<usize>>,
    /// Of each query, in its document.
    positions: Vec<usize>,
}

impl Places {
    /// Every token is a query.
    pub(super) fn all(documents: &[Range<usize>]) -> Self {
        let positions = documents.iter().flat_map(|document| 0..document.len()).collect();
        Self { documents: documents.to_vec(), queries: documents.to_vec(), positions }
    }

    /// Only the tokens `rows` are, which are in order.
    pub(super) fn some(documents: &[Range<usize>], rows: &[usize]) -> Self {
        let (mut queries, mut positions) = (Vec::new(), Vec::new());
        for document in documents {
            let first = positions.len();
            let inside = rows.iter().filter(|row| document.contains(row));
            positions.extend(inside.map(|row| row - document.start));
            queries.push(first..positions.len());
        }
        Self { documents: documents.to_vec(), queries, positions }
    }
}

/// One key head in one document.
struct Unit<'a> {
    kv_head: usize,
    /// Tokens.
    keys: Range<usize>,
    /// Rows of queries, and the position of each.
    queries: Range<usize>,
    positions: &'a [usize],
}

#[cfg(test)]
mod tests;
