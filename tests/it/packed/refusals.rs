//! What cannot be decoded: exit code, words, and nothing written.

use safetensors::tensor::Dtype;
use serde_json::json;

use super::{MODULE, bytes, golden, norm, write_model};
use crate::support::{Sandbox, peft};
use crate::weights::{Tensor, Weights};

#[track_caller]
fn refused(weights: &Weights, method: &str) -> String {
    let sandbox = Sandbox::new();
    write_model(&sandbox.path("base"), weights, json!({ "quant_method": method }));
    let run = sandbox.run("merge base -o out", &[&peft("adapters/plain")]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{}", run.stderr);
    assert_eq!(sandbox.entries(), ["base"], "nothing is written");
    run.stderr
}

/// The message, without the hint.
#[track_caller]
fn message(weights: &Weights, method: &str) -> String {
    refused(weights, method).split("\n\nhint: ").next().unwrap().to_string()
}

/// Tensors of a module, of any size.
fn module(tensors: &[(&str, Dtype)]) -> Weights {
    let size = |dtype: Dtype| dtype.bitsize() / 8;
    let tensor = |dtype| bytes(dtype, &[2, 2], vec![0; 4 * size(dtype)]);
    tensors.iter().map(|(name, dtype)| (format!("{MODULE}.{name}"), tensor(*dtype))).collect()
}

const GPTQ: &[(&str, Dtype)] =
    &[("qweight", Dtype::I32), ("qzeros", Dtype::I32), ("scales", Dtype::F16), ("g_idx", Dtype::I32)];

#[test]
fn gptq() {
    insta::assert_snapshot!(refused(&module(GPTQ), "gptq"), @"
    error: `base`: is quantised by GPTQ, whose weights cannot be decoded: `model.layers.0.self_attn.q_proj.qweight` is I32 beside `g_idx`

    hint: merge into the unquantised model from which this one was made
    ");
    insta::assert_snapshot!(message(&module(&GPTQ[..3]), "gptq"), @"error: `base`: is quantised by GPTQ, whose weights cannot be decoded: `model.layers.0.self_attn.q_proj.qweight` is I32 beside `scales`, and `quant_method` is gptq");
}

#[test]
fn awq() {
    insta::assert_snapshot!(message(&module(&GPTQ[..3]), "awq"), @"error: `base`: is quantised by AWQ, whose weights cannot be decoded: `model.layers.0.self_attn.q_proj.qweight` is I32 beside `qzeros` and `scales`");
}

#[test]
fn other_schemes() {
    use Dtype::{BF16, F8_E4M3, F32, I8, I32, U8, U32};
    let cases: &[(&str, &[(&str, Dtype)])] = &[
        ("EETQ", &[("qweight", I8), ("weight_scales", BF16)]),
        ("HQQ", &[("W_q", U8), ("meta", U8)]),
        ("NVFP4", &[("weight_packed", U8), ("weight_scale", F8_E4M3), ("weight_global_scale", F32)]),
        ("NVFP4", &[("weight", U8), ("weight_scale", F8_E4M3), ("weight_scale_2", F32)]),
        ("compressed-tensors", &[("weight_packed", I32), ("weight_scale", BF16), ("weight_shape", I32)]),
        ("compressed-tensors", &[("weight", I8), ("weight_scale", BF16)]),
        ("AQLM", &[("codes", I8), ("codebooks", BF16), ("scales", BF16)]),
        ("VPTQ", &[("indices", I32), ("centroids", BF16)]),
        ("quanto", &[("weight._data", I8), ("weight._scale", BF16)]),
        ("torchao", &[("weight_qdata", I8), ("weight_scale", BF16)]),
        ("BitNet", &[("weight", U8), ("weight_scale", BF16)]),
        ("MLX", &[("weight", U32), ("scales", BF16), ("biases", BF16)]),
    ];
    for (scheme, tensors) in cases {
        let message = message(&module(tensors), "unknown");
        let expected =
            format!("error: `base`: is quantised by {scheme}, whose weights cannot be decoded: `{MODULE}.");
        assert!(message.starts_with(&expected), "{message}");
    }
}

/// The message about a golden case after a change.
#[track_caller]
fn spoiled(case: &str, change: impl FnOnce(&mut Weights)) -> String {
    let (mut weights, _) = golden(case);
    change(&mut weights);
    message(&weights, "bitsandbytes")
}

#[test]
fn four_bits_with_parts_missing_or_wrong() {
    const CASE: &str = "nf4-bf16-normal-b64-dq";
    let name = |end: &str| format!("{MODULE}.weight{end}");
    let state = name(".quant_state.bitsandbytes__nf4");
    let remove = |end: &str| spoiled(CASE, |w| drop(w.remove(&name(end))));
    insta::assert_snapshot!(remove(""), @"error: `base/model.safetensors`: `model.layers.0.self_attn.q_proj.weight.quant_state.bitsandbytes__nf4`: needs `model.layers.0.self_attn.q_proj.weight`, which is missing");
    insta::assert_snapshot!(remove(".absmax"), @"error: `base/model.safetensors`: `model.layers.0.self_attn.q_proj.weight.quant_state.bitsandbytes__nf4`: needs `model.layers.0.self_attn.q_proj.weight.absmax`, which is missing");
    insta::assert_snapshot!(remove(".nested_absmax"), @"error: `base/model.safetensors`: `model.layers.0.self_attn.q_proj.weight.quant_state.bitsandbytes__nf4`: needs `model.layers.0.self_attn.q_proj.weight.nested_absmax`, which is missing");
    insta::assert_snapshot!(remove(".nested_quant_map"), @"error: `base/model.safetensors`: `model.layers.0.self_attn.q_proj.weight.quant_state.bitsandbytes__nf4`: needs `model.layers.0.self_attn.q_proj.weight.nested_quant_map`, which is missing");
    let text = |text: &str| bytes(Dtype::U8, &[text.len()], text.as_bytes().to_vec());
    insta::assert_snapshot!(spoiled(CASE, |w| drop(w.insert(state.clone(), text("{}")))), @"error: `base/model.safetensors`: tensor `model.layers.0.self_attn.q_proj.weight.quant_state.bitsandbytes__nf4`: has no `quant_type`");
    let larger = r#"{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [128, 257]}"#;
    insta::assert_snapshot!(spoiled(CASE, |w| drop(w.insert(state.clone(), text(larger)))), @"error: `base/model.safetensors`: `model.layers.0.self_attn.q_proj.weight`: has 16384 bytes, but [128, 257] 4-bit codes take 16448");
    let plain = larger.replace("257", "256");
    insta::assert_snapshot!(spoiled(CASE, |w| drop(w.insert(state.clone(), text(&plain)))), @"error: `base/model.safetensors`: `model.layers.0.self_attn.q_proj.weight.absmax`: is U8 with 512 values; it must hold 512 values of F32");
    let twice = |w: &mut Weights| drop(w.insert(name(".quant_state.bitsandbytes__fp4"), w[&state].clone()));
    insta::assert_snapshot!(spoiled(CASE, twice), @"error: `base/model.safetensors`: `model.layers.0.self_attn.q_proj.weight`: is described twice, in different ways");
    let table = Tensor::new(Dtype::F32, &[16], &[0.5; 16]);
    insta::assert_snapshot!(spoiled(CASE, |w| drop(w.insert(name(".quant_map"), table))), @"error: `base/model.safetensors`: `model.layers.0.self_attn.q_proj.weight.quant_map`: is not the table of nf4");
}

#[test]
fn eight_bits_with_parts_wrong() {
    let weights = |rows, format| -> Weights {
        [
            (format!("{MODULE}.weight"), bytes(Dtype::I8, &[2, 3], vec![1; 6])),
            (format!("{MODULE}.SCB"), Tensor::new(Dtype::F32, &[rows], &vec![1.0; rows])),
            (format!("{MODULE}.weight_format"), bytes(Dtype::U8, &[], vec![format])),
        ]
        .into()
    };
    insta::assert_snapshot!(message(&weights(3, 0), "bitsandbytes"), @"error: `base/model.safetensors`: `model.layers.0.self_attn.q_proj.SCB`: is F32 with 3 values; it must hold 2 values of F32");
    insta::assert_snapshot!(message(&weights(2, 2), "bitsandbytes"), @"error: `base/model.safetensors`: `model.layers.0.self_attn.q_proj.weight_format`: says that rows and columns are rearranged for a GPU, which only that GPU undoes");
}

#[test]
fn float8_with_scales_of_another_shape() {
    let weights = [
        (format!("{MODULE}.weight"), bytes(Dtype::F8_E4M3, &[7, 5], vec![1; 35])),
        (format!("{MODULE}.weight_scale"), Tensor::new(Dtype::F32, &[3, 1], &[1.0; 3])),
    ];
    insta::assert_snapshot!(message(&weights.into(), "fp8"), @"error: `base/model.safetensors`: `model.layers.0.self_attn.q_proj.weight_scale`: has the shape [3, 1], which does not fit weights [7, 5]");
}

#[test]
fn experts_without_scales_or_stored_twice() {
    let name = "model.layers.0.mlp.experts.down_proj";
    let mut weights: Weights =
        [(format!("{name}_blocks"), bytes(Dtype::U8, &[1, 2, 1, 16], vec![0; 32]))].into();
    insta::assert_snapshot!(message(&weights, "mxfp4"), @"error: `base/model.safetensors`: `model.layers.0.mlp.experts.down_proj_blocks`: needs `model.layers.0.mlp.experts.down_proj_scales`, which is missing");
    weights.insert(format!("{name}_scales"), bytes(Dtype::U8, &[1, 2, 1], vec![0; 2]));
    weights.insert(name.into(), norm());
    insta::assert_snapshot!(message(&weights, "mxfp4"), @"error: `base/model.safetensors`: `model.layers.0.mlp.experts.down_proj`: is stored twice: as it is, and packed");
}
