//! How much memory a training pass takes.

use super::how::Recompute;
use super::lora::Adapter;
use super::real::Real;
use super::shape::{Shape, Slot};

/// Bytes that are kept for the backward pass, for each token of a pass.
pub fn kept_per_token<R: Real>(shape: &Shape, adapter: &Adapter<R>, recompute: Recompute) -> usize {
    let trained = adapter.layers.iter().skip_while(|layer| layer.iter().all(Option::is_none));
    trained.map(|layer| kept_by_layer(shape, layer.each_ref().map(Option::is_some), recompute)).sum()
}

fn kept_by_layer(shape: &Shape, _trained: [bool; 7], recompute: Recompute) -> usize {
    let (queries, keys) = (shape.size(Slot::Query).0, shape.size(Slot::Key).0);
    let attention = 2 * shape.hidden + 2 * queries + 2 * keys;
    let mlp = 2 * shape.intermediate;
    match recompute {
        Recompute::Nothing => 4 * (attention + mlp),
        Recompute::Halves => 2 * (attention + mlp),
        Recompute::Mlp => 2 * attention,
        Recompute::Layers => 4 * shape.hidden,
    }
}

/// Bytes that a pass over `tokens` tokens takes beside what it keeps: one layer at work, and the logits of a few rows.
pub fn working(shape: &Shape, tokens: usize, recompute: Recompute) -> usize {
    let (queries, keys) = (shape.size(Slot::Query).0, shape.size(Slot::Key).0);
    let layer = 6 * shape.hidden + 4 * queries + 6 * keys + 4 * shape.intermediate;
    let again = match recompute {
        Recompute::Layers => kept_by_layer(shape, [true; 7], Recompute::Nothing),
        _ => 0,
    };
    tokens * (4 * layer + again) + 4 * super::head::CHUNK * shape.vocabulary
}
