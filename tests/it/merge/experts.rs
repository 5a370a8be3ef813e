//! Stacked experts: layouts of the base, packings of the adapter.

use safetensors::tensor::Dtype;
use serde_json::json;

use super::made::{Pair, lora};
use crate::weights::Matrix;

const EXPERTS: usize = 4;
const HIDDEN: usize = 24;
const INNER: usize = 20;

/// Which column of B belongs to factor `k` of expert `e`, of rank `r`.
type Packing = fn(usize, usize, usize) -> usize;

const RANK_MAJOR: Packing = |k, e, _| k * EXPERTS + e;
const EXPERT_MAJOR: Packing = |k, e, r| e * r + k;

/// `B_e A_e` of every expert.
fn deltas(a: &Matrix, b: &Matrix, packing: Packing) -> Vec<Matrix> {
    let rank = a.rows / EXPERTS;
    let one = |e: usize| {
        let a = Matrix::from_fn(rank, a.cols, |k, j| a.at(e * rank + k, j));
        Matrix::from_fn(b.rows, rank, |i, k| b.at(i, packing(k, e, rank))).times(&a)
    };
    (0..EXPERTS).map(one).collect()
}

/// Experts stacked in one tensor, `[E, 2I, H]` or transposed, with either packing of B.
#[test]
fn stacked_experts() {
    let name = "model.layers.0.mlp.experts.gate_up_proj";
    for (transposed, packing, options) in [
        (false, RANK_MAJOR, ""),
        (true, RANK_MAJOR, ""),
        (false, EXPERT_MAJOR, "--moe-b-layout expert_major"),
        (true, EXPERT_MAJOR, "--moe-b-layout expert_major"),
        (false, RANK_MAJOR, "--moe-b-layout rank_major"),
    ] {
        let mut pair = Pair::new();
        let shape = if transposed { [EXPERTS, HIDDEN, 2 * INNER] } else { [EXPERTS, 2 * INNER, HIDDEN] };
        let weight = pair.base_tensor(name, Dtype::BF16, &shape);
        let a = pair.adapter_tensor("model.layers.0.mlp.experts.lora_A.weight", &[4 * EXPERTS, HIDDEN]);
        let b = pair.adapter_tensor("model.layers.0.mlp.experts.lora_B.weight", &[2 * INNER, 4 * EXPERTS]);
        let mut config = lora(4, 8);
        config["target_parameters"] = json!(["mlp.experts.gate_up_proj"]);
        let found = pair.merge(json!({ "model_type": "qwen3_moe" }), config, options);
        let deltas = deltas(&a, &b, packing).into_iter();
        let delta = deltas.flat_map(|d| if transposed { d.transposed() } else { d }.values).collect();
        let delta = Matrix { values: delta, ..weight };
        pair.assert(&found, name, &weight.plus(2.0, &delta));
    }
}

/// The configuration can say how B is packed.
#[test]
fn a_declared_packing() {
    let name = "model.layers.0.mlp.experts.down_proj";
    let mut pair = Pair::new();
    let weight = pair.base_tensor(name, Dtype::BF16, &[EXPERTS, HIDDEN, INNER]);
    let a = pair.adapter_tensor("model.layers.0.mlp.experts.lora_A.weight", &[4 * EXPERTS, INNER]);
    let b = pair.adapter_tensor("model.layers.0.mlp.experts.lora_B.weight", &[HIDDEN, 4 * EXPERTS]);
    let mut config = lora(4, 8);
    config["target_parameters"] = json!(["mlp.experts.down_proj"]);
    config["lora_B_layout"] = json!("expert_major");
    let found = pair.merge(json!({ "model_type": "qwen3_moe" }), config, "");
    let delta = deltas(&a, &b, EXPERT_MAJOR).into_iter().flat_map(|d| d.values).collect();
    let delta = Matrix { values: delta, ..weight };
    pair.assert(&found, name, &weight.plus(2.0, &delta));
}

/// An adapter on single experts finds them in a base that stacks them.
#[test]
fn single_experts_in_a_stacked_base() {
    let name = "model.layers.0.mlp.experts.gate_up_proj";
    let mut pair = Pair::new();
    let weight = pair.base_tensor(name, Dtype::BF16, &[EXPERTS, 2 * INNER, HIDDEN]);
    let a = pair.adapter_tensor("model.layers.0.mlp.experts.2.up_proj.lora_A.weight", &[4, HIDDEN]);
    let b = pair.adapter_tensor("model.layers.0.mlp.experts.2.up_proj.lora_B.weight", &[INNER, 4]);
    let found = pair.merge(json!({ "model_type": "qwen3_moe" }), lora(4, 8), "");
    let delta = b.times(&a);
    let mut sum = weight.clone();
    let first = (2 * 2 * INNER + INNER) * HIDDEN;
    sum.values[first..first + INNER * HIDDEN].iter_mut().zip(&delta.values).for_each(|(w, d)| *w += 2.0 * d);
    pair.assert(&found, name, &sum);
}
