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

/// What PEFT 0.21 writes by itself for experts of transformers 5: both parameters, the first innermost, and rank and alpha
/// of gate and up by a pattern for the name of the parameter. The base is as it is published.
#[test]
fn patterns_of_parameters() {
    let layer = "model.layers.0";
    for (published, [gate, up, down]) in
        [("mlp", ["gate_proj", "up_proj", "down_proj"]), ("block_sparse_moe", ["w1", "w3", "w2"])]
    {
        let mut pair = Pair::new();
        let mut weights = Vec::new();
        for expert in 0..EXPERTS {
            for (leaf, rows, cols) in [(gate, INNER, HIDDEN), (up, INNER, HIDDEN), (down, HIDDEN, INNER)] {
                let name = format!("{layer}.{published}.experts.{expert}.{leaf}.weight");
                let weight = pair.base_tensor(&name, Dtype::BF16, &[rows, cols]);
                weights.push((expert, leaf, name, weight));
            }
        }
        let router = format!("{layer}.{published}.gate.weight");
        let routing = pair.base_tensor(&router, Dtype::BF16, &[EXPERTS, HIDDEN]);
        let mut of = |path: &str, rank: usize, outputs: usize, inputs: usize| {
            let path = format!("{layer}.mlp.{path}");
            let a = pair.adapter_tensor(&format!("{path}.lora_A.weight"), &[rank, inputs]);
            (a, pair.adapter_tensor(&format!("{path}.lora_B.weight"), &[outputs, rank]))
        };
        let (a, b) = of("experts.base_layer", 4 * EXPERTS, 2 * INNER, HIDDEN);
        let first = deltas(&a, &b, RANK_MAJOR);
        let (a, b) = of("experts", 2 * EXPERTS, HIDDEN, INNER);
        let second = deltas(&a, &b, RANK_MAJOR);
        let (a, b) = of("gate", 2, EXPERTS, HIDDEN);
        let mut config = lora(2, 6);
        config["rank_pattern"] = json!({ r".*\.gate_up_proj": 4 });
        config["alpha_pattern"] = json!({ r".*\.gate_up_proj": 12, "gate.weight": 2 });
        config["target_parameters"] = json!(["gate.weight", "gate_up_proj", "down_proj"]);
        config["target_modules"] = json!([]);
        let found = pair.merge(json!({ "model_type": "mixtral" }), config, "");
        for (expert, leaf, name, weight) in weights {
            let delta = if leaf == down {
                second[expert].clone()
            } else {
                let skipped = if leaf == up { INNER } else { 0 };
                Matrix::from_fn(INNER, HIDDEN, |i, j| first[expert].at(skipped + i, j))
            };
            pair.expect(&name, &weight.plus(3.0, &delta));
        }
        pair.assert(&found, &router, &routing.plus(1.0, &b.times(&a)));
    }
}

/// A linear layer for each expert, as trainers make them for 4 bits, on the one parameter that GPT-OSS is published with:
/// expert N gets the transposed delta, and its biases a row.
#[test]
fn a_list_of_layers_on_a_transposed_stack() {
    for (inner, hidden) in [(INNER, HIDDEN), (HIDDEN / 2, HIDDEN)] {
        let name = "model.layers.0.mlp.experts.gate_up_proj";
        let mut pair = Pair::new();
        let weight = pair.base_tensor(name, Dtype::BF16, &[EXPERTS, hidden, 2 * inner]);
        let biases = pair.base_tensor(&format!("{name}_bias"), Dtype::BF16, &[EXPERTS, 2 * inner]);
        let a = pair.adapter_tensor(&format!("{name}s.2.lora_A.weight"), &[4, hidden]);
        let b = pair.adapter_tensor(&format!("{name}s.2.lora_B.weight"), &[2 * inner, 4]);
        let bias = pair.adapter_tensor(&format!("{name}s.2.lora_B.bias"), &[1, 2 * inner]);
        let mut config = lora(4, 8);
        config["lora_bias"] = json!(true);
        let found = pair.merge(json!({ "model_type": "gpt_oss" }), config, "");
        let added = |sum: &mut Matrix, first: usize, delta: &Matrix| {
            sum.values[first..].iter_mut().zip(&delta.values).for_each(|(w, d)| *w += 2.0 * d);
        };
        let (mut sum, mut moved) = (weight.clone(), biases.clone());
        added(&mut sum, 2 * hidden * 2 * inner, &b.times(&a).transposed());
        added(&mut moved, 2 * 2 * inner, &bias);
        pair.expect(name, &sum);
        pair.assert(&found, &format!("{name}_bias"), &moved);
    }
}

/// GraniteMoE is published with a module for all experts; transformers 5 has the parameters of other families, and its
/// router has a shorter name. Parameters that are matrices are adapted as they are stored.
#[test]
fn experts_in_modules_of_their_own() {
    let mut pair = Pair::new();
    let moe = "model.layers.0.block_sparse_moe";
    let name = format!("{moe}.input_linear.weight");
    let weight = pair.base_tensor(&name, Dtype::BF16, &[EXPERTS, 2 * INNER, HIDDEN]);
    let router = format!("{moe}.router.layer.weight");
    let routing = pair.base_tensor(&router, Dtype::BF16, &[EXPERTS, HIDDEN]);
    let a = pair.adapter_tensor(&format!("{moe}.experts.lora_A.weight"), &[4 * EXPERTS, HIDDEN]);
    let b = pair.adapter_tensor(&format!("{moe}.experts.lora_B.weight"), &[2 * INNER, 4 * EXPERTS]);
    let router_a = pair.adapter_tensor(&format!("{moe}.router.lora_A.weight"), &[4, HIDDEN]);
    let router_b = pair.adapter_tensor(&format!("{moe}.router.lora_B.weight"), &[EXPERTS, 4]);
    let mut config = lora(4, 8);
    config["target_parameters"] = json!(["experts.gate_up_proj", "router.weight"]);
    let found = pair.merge(json!({ "model_type": "granitemoe" }), config, "");
    let delta = deltas(&a, &b, RANK_MAJOR).into_iter().flat_map(|d| d.values).collect();
    let delta = Matrix { values: delta, ..weight };
    pair.expect(&name, &weight.plus(2.0, &delta));
    pair.assert(&found, &router, &routing.plus(2.0, &router_b.times(&router_a)));
}

/// The biases of GPT-OSS's experts are a matrix, which may be a parameter to adapt.
#[test]
fn biases_of_experts_as_a_parameter() {
    let name = "model.layers.0.mlp.experts.gate_up_proj_bias";
    let mut pair = Pair::new();
    let biases = pair.base_tensor(name, Dtype::BF16, &[EXPERTS, 2 * INNER]);
    let a = pair.adapter_tensor("model.layers.0.mlp.experts.lora_A.weight", &[3, 2 * INNER]);
    let b = pair.adapter_tensor("model.layers.0.mlp.experts.lora_B.weight", &[EXPERTS, 3]);
    let mut config = lora(3, 6);
    config["target_parameters"] = json!(["experts.gate_up_proj_bias"]);
    let found = pair.merge(json!({ "model_type": "gpt_oss" }), config, "");
    pair.assert(&found, name, &biases.plus(2.0, &b.times(&a)));
}
