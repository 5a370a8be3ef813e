//! The orientation of stacked experts, by PEFT's version, the family and the shape; and both packings of `B`.

use safetensors::tensor::Dtype;
use serde_json::json;

use super::made::{Pair, lora};
use crate::weights::Matrix;

const EXPERTS: usize = 3;
const RANK: usize = 2;
const DOWN: &str = "model.layers.0.mlp.experts.down_proj";

/// `B_e A_e` of every expert, of a `B` that is packed rank-major, as PEFT writes it.
fn deltas(a: &Matrix, b: &Matrix) -> Vec<Matrix> {
    let one = |e: usize| {
        let a = Matrix::from_fn(RANK, a.cols, |k, j| a.at(e * RANK + k, j));
        Matrix::from_fn(b.rows, RANK, |i, k| b.at(i, k * EXPERTS + e)).times(&a)
    };
    (0..EXPERTS).map(one).collect()
}

/// Merges an adapter of `inputs` and `outputs` into a stack of that shape; its deltas are transposed or not.
fn assert_merged(
    shape: [usize; 3],
    (inputs, outputs): (usize, usize),
    (version, family): (Option<&str>, &str),
    transposed: bool,
) {
    let mut pair = Pair::new();
    let weight = pair.base_tensor(DOWN, Dtype::BF16, &shape);
    let a = pair.adapter_tensor("model.layers.0.mlp.experts.lora_A.weight", &[RANK * EXPERTS, inputs]);
    let b = pair.adapter_tensor("model.layers.0.mlp.experts.lora_B.weight", &[outputs, RANK * EXPERTS]);
    let mut config = lora(RANK, 6);
    config["target_parameters"] = json!(["mlp.experts.down_proj"]);
    config["peft_version"] = json!(version);
    let found = pair.merge(json!({ "model_type": family }), config, "");
    let delta = deltas(&a, &b).into_iter();
    let delta = delta.flat_map(|d| if transposed { d.transposed() } else { d }.values).collect();
    pair.assert(&found, DOWN, &weight.plus(3.0, &Matrix { values: delta, ..weight }));
}

/// Square experts show no orientation. PEFT before 0.19, which wrote no version for most of that time, took all stacks
/// for `[E, in, out]`; since then the class of the model decides.
#[test]
fn square_experts() {
    const SIDE: usize = 16;
    for (version, family, transposed) in [
        (None, "qwen3_moe", true),
        (None, "gpt_oss", true),
        (Some("0.17.1"), "qwen3_moe", true),
        (Some("0.18.2.dev0"), "qwen3_moe", true),
        (Some("0.18.1"), "gpt_oss", true),
        (Some("0.19.0"), "qwen3_moe", false),
        (Some("0.19.0"), "gpt_oss", true),
        (Some("0.21.2"), "qwen3_moe", false),
        (Some("0.21.2"), "llama4_text", false),
        (Some("1.0.0"), "qwen3_moe", false),
    ] {
        assert_merged([EXPERTS, SIDE, SIDE], (SIDE, SIDE), (version, family), transposed);
    }
}

/// Shapes that show an orientation decide, whatever the version and the family.
#[test]
fn oblong_experts() {
    for version in ["0.18.1", "0.21.2"] {
        for family in ["qwen3_moe", "gpt_oss"] {
            for (shape, transposed) in [([EXPERTS, 12, 20], false), ([EXPERTS, 20, 12], true)] {
                assert_merged(shape, (20, 12), (Some(version), family), transposed);
            }
        }
    }
}
