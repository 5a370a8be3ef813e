//! Merges into quantised bases.

use std::fs;
use std::path::Path;

use safetensors::tensor::Dtype;
use serde_json::json;

use super::{MODULE, bytes, golden, norm, write_model};
use crate::near::assert_near;
use crate::support::{Sandbox, edit_json, entries, read_json};
use crate::weights::{Matrix, Tensor, Weights, noise, read_folder, write_file};

const RANK: usize = 4;

/// Writes a LoRA for [`MODULE`], scale 2; returns its delta.
fn write_adapter(folder: &Path, rows: usize, cols: usize) -> Matrix {
    let a = Tensor::new(Dtype::F32, &[RANK, cols], &noise(1, RANK * cols, 0.2));
    let b = Tensor::new(Dtype::F32, &[rows, RANK], &noise(2, rows * RANK, 0.2));
    let product = b.matrix().times(&a.matrix());
    let delta = Matrix::from_fn(rows, cols, |i, j| 2.0 * product.at(i, j));
    fs::create_dir(folder).unwrap();
    let prefix = format!("base_model.model.{MODULE}");
    let weights = [(format!("{prefix}.lora_A.weight"), a), (format!("{prefix}.lora_B.weight"), b)];
    write_file(&folder.join("adapter_model.safetensors"), &weights.into());
    let config = json!({
        "peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM",
    });
    fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    delta
}

fn bnb_config() -> serde_json::Value {
    json!({ "quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4" })
}

/// Merges into an NF4 base, whose output must be the rounded sum of the delta and what bitsandbytes decodes.
fn assert_nf4(sandbox: &Sandbox, options: &str, dtype: Dtype) {
    let (packed, dequantized) = golden("nf4-bf16-normal-b64-dq");
    write_model(&sandbox.path("base"), &packed, bnb_config());
    let delta = write_adapter(&sandbox.path("adapter"), 128, 256);
    sandbox.merge(&sandbox.path("base"), &sandbox.path("adapter"), "out", options);
    let sum = dequantized.matrix().plus(1.0, &delta);
    let weight = Tensor::new(dtype, &[128, 256], &sum.values);
    let kept = if options.is_empty() { norm() } else { Tensor::new(dtype, &[4], &norm().values()) };
    let wanted = [(format!("{MODULE}.weight"), weight), ("model.norm.weight".to_string(), kept)];
    assert_near("nf4", &Weights::new(), &read_folder(&sandbox.path("out")), &wanted.into());
}

#[test]
fn into_four_bits() {
    let sandbox = Sandbox::new();
    assert_nf4(&sandbox, "", Dtype::BF16);
    let config = read_json(&sandbox.path("out/config.json"));
    assert_eq!(config.get("quantization_config"), None);
    assert_eq!(config["torch_dtype"], "bfloat16");
    assert_eq!(config["architectures"][0], "LlamaForCausalLM");
}

#[test]
fn into_four_bits_as_another_dtype() {
    let sandbox = Sandbox::new();
    assert_nf4(&sandbox, "--dtype f16", Dtype::F16);
    assert_eq!(read_json(&sandbox.path("out/config.json"))["torch_dtype"], "float16");
}

#[test]
fn it_is_said_how_the_base_was_packed() {
    let sandbox = Sandbox::new();
    let (packed, _) = golden("nf4-bf16-normal-b64-dq");
    write_model(&sandbox.path("base"), &packed, bnb_config());
    write_adapter(&sandbox.path("adapter"), 128, 256);
    let run = sandbox.run("merge base adapter -o out", &[]).ok();
    let said = run.stderr.lines().chain(run.stdout.lines()).find(|line| line.contains("bitsandbytes"));
    insta::assert_snapshot!(said.unwrap().trim(), @"note: `base`: weights are packed (bitsandbytes NF4, double quantised); they are decoded and written as BF16");
}

/// Float8 weights are written in the dtype of the configuration; everything else keeps its own.
#[test]
fn into_float8() {
    let sandbox = Sandbox::new();
    let (rows, cols) = (130, 40);
    // The exponent below that of 1: every code is 1/2.
    let weights: Weights = [
        (format!("{MODULE}.weight"), bytes(Dtype::F8_E4M3, &[rows, cols], vec![0x30; rows * cols])),
        (format!("{MODULE}.weight_scale_inv"), Tensor::new(Dtype::F32, &[2, 1], &[0.5, 3.0])),
        ("model.layers.0.mlp.up_proj.weight".into(), bytes(Dtype::F8_E4M3, &[1, 2], vec![0x38, 0xb8])),
        ("model.layers.0.mlp.up_proj.weight_scale_inv".into(), Tensor::new(Dtype::F32, &[1, 1], &[0.3])),
        ("model.norm.weight".into(), norm()),
    ]
    .into();
    let quantization = json!({ "quant_method": "fp8", "weight_block_size": [128, 128] });
    write_model(&sandbox.path("base"), &weights, quantization);
    fs::write(sandbox.path("base/hf_quant_config.json"), "{}").unwrap();
    edit_json(&sandbox.path("base/config.json"), |config| config["torch_dtype"] = "float8_e4m3fn".into());
    let delta = write_adapter(&sandbox.path("adapter"), rows, cols);
    let out = sandbox.merge(&sandbox.path("base"), &sandbox.path("adapter"), "out", "");

    let base = Matrix::from_fn(rows, cols, |i, _| 0.5 * if i < 128 { 0.5 } else { 3.0 });
    let wanted: Weights = [
        (format!("{MODULE}.weight"), Tensor::new(Dtype::BF16, &[rows, cols], &base.plus(1.0, &delta).values)),
        (
            "model.layers.0.mlp.up_proj.weight".into(),
            Tensor::new(Dtype::BF16, &[1, 2], &[f64::from(0.3f32), -f64::from(0.3f32)]),
        ),
        ("model.norm.weight".into(), norm()),
    ]
    .into();
    assert_near("fp8", &Weights::new(), &read_folder(&out), &wanted);
    assert_eq!(entries(&out), ["README.md", "config.json", "lorakit.json", "model.safetensors"]);
    assert_eq!(read_json(&out.join("config.json"))["torch_dtype"], "bfloat16");
}
