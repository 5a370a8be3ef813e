//! How much memory a training pass takes, besides the model, the adapter, its gradients and its optimiser.

use super::head;
use super::how::Recompute;
use super::lora::{Adapter, Lora};
use super::real::Real;
use super::shape::{Shape, Slot};

/// Bytes that are kept for the backward pass, for each token of a pass. In the last layer, tokens before untrained ones
/// take less.
pub fn kept_per_token<R: Real>(shape: &Shape, adapter: &Adapter<R>, recompute: Recompute) -> usize {
    let layers = adapter.layers.iter().skip(adapter.lowest().unwrap_or(adapter.layers.len()));
    layers.map(|layer| kept_by_layer(shape, &ranks(shape, layer), recompute)).sum()
}

fn ranks<R>(shape: &Shape, layer: &[Option<Lora<R>>; 7]) -> [usize; 7] {
    Slot::ALL.map(|slot| layer[slot as usize].as_ref().map_or(0, |lora| lora.a.len() / shape.size(slot).1))
}

fn kept_by_layer(shape: &Shape, ranks: &[usize; 7], recompute: Recompute) -> usize {
    let (queries, keys) = widths(shape);
    let [q, k, v, o, gate, up, down] = ranks;
    let after = usize::from(shape.norm_after);
    let outside = (2 + 2 * after) * shape.hidden + 2 * (queries + keys) + q + k + v + o + down;
    let inside = 2 * shape.intermediate + gate + up;
    // Of norms, and sums of softmaxes.
    let heads = if shape.query_key_norm { shape.heads + shape.kv_heads } else { 0 };
    let rates = 4 * (2 + 2 * after + heads + shape.heads);
    match recompute {
        Recompute::Nothing => 4 * (outside + inside) + rates,
        Recompute::Halves => 2 * (outside + inside) + rates,
        Recompute::Mlp => 2 * outside + rates,
        Recompute::Layers => 4 * shape.hidden,
    }
}

fn widths(shape: &Shape) -> (usize, usize) {
    (shape.size(Slot::Query).0, shape.size(Slot::Key).0)
}

/// Bytes that a pass over `tokens` tokens takes beside what it keeps: the layer that is at work, and the logits of a few
/// rows. The ranks of adapters are not in it, which are small beside the rest.
pub fn working(shape: &Shape, tokens: usize, recompute: Recompute) -> usize {
    let (queries, keys) = widths(shape);
    let mlp = 4 * shape.intermediate + 4 * shape.hidden;
    // Heads in several orders for tiles are among it.
    let attention = 8 * queries + 10 * keys + 3 * shape.hidden;
    let tables = shape.ropes.len() * shape.head_dim;
    let again = match recompute {
        Recompute::Layers => kept_by_layer(shape, &[0; 7], Recompute::Nothing),
        _ => 0,
    };
    let each = 4 * (mlp.max(attention) + tables) + again;
    let logits = 4 * head::rows_at_once(shape.vocabulary) * (shape.vocabulary + shape.hidden);
    tokens * each.max(16 * shape.hidden) + logits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::golden_json;

    /// The numbers of a Llama: 32 wide, MLP 40, 4 heads of 8, of which keys and values have 2, two layers.
    #[test]
    fn what_is_kept_is_counted() {
        let config = golden_json("llama")["config"].to_string();
        let shape = Shape::from_config(config.as_bytes()).unwrap();
        let lora = Lora { scale: 1.0, a: vec![0.0f32; 2 * 32], b: vec![0.0; 2 * 32] };
        let mut adapter = Adapter::none(&shape);
        assert_eq!(kept_per_token(&shape, &adapter, Recompute::Nothing), 0);
        adapter.layers[1][Slot::Query as usize] = Some(lora);
        let found = Recompute::LEVELS.map(|level| kept_per_token(&shape, &adapter, level));
        let (outside, inside, rates) = (2 * 32 + 2 * (32 + 16) + 2, 2 * 40, 4 * (2 + 4));
        let expected =
            [4 * (outside + inside) + rates, 2 * (outside + inside) + rates, 2 * outside + rates, 4 * 32];
        assert_eq!(found, expected);
        assert!(working(&shape, 10, Recompute::Layers) > working(&shape, 10, Recompute::Halves));
    }
}
