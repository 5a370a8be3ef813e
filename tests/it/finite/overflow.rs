//! Values that are finite, but not in the dtype they are written in.

use insta::assert_snapshot;
use safetensors::tensor::Dtype;
use serde_json::Value;

use super::{refusal, report};
use crate::support::{Sandbox, fixtures, peft};
use crate::weights::{Tensor, edit_file};

const TOUCHED: &str = "model.layers.0.self_attn.q_proj.weight";
const UNTOUCHED: &str = "model.layers.0.mlp.up_proj.weight";

/// Sets the value `at` of a tensor of `folder/model.safetensors`, in the dtype it has or another.
fn set(sandbox: &Sandbox, file: &str, name: &str, dtype: Dtype, at: usize, value: f64) {
    edit_file(&sandbox.path(file), |weights| {
        let old = &weights[name];
        let mut values = old.values();
        values[at] = value;
        weights.insert(name.into(), Tensor::new(dtype, &old.shape, &values));
    });
}

fn message(error: &Value) -> &str {
    assert_eq!(error["kind"], "NonFinite");
    error["message"].as_str().unwrap()
}

#[test]
fn casts() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-f32"), "base");
    sandbox.copy(&peft("adapters/f32"), "adapter");
    set(&sandbox, "base/model.safetensors", UNTOUCHED, Dtype::F32, 300, 1e38);
    let said = |line: &str| message(&refusal(&sandbox, line)).to_string();
    assert_snapshot!(said("merge base adapter -o out --dtype f16"), @"`base/model.safetensors`: `model.layers.0.mlp.up_proj.weight`: comes to 1e38 at row 4, column 44, which F16 cannot hold");
    set(&sandbox, "base/model.safetensors", UNTOUCHED, Dtype::F32, 300, f64::from(f32::MAX));
    assert_snapshot!(said("merge base adapter -o out --dtype bf16"), @"`base/model.safetensors`: `model.layers.0.mlp.up_proj.weight`: comes to 3.4028235e38 at row 4, column 44, which BF16 cannot hold");
    report(&sandbox, "merge base adapter -o out --dtype f32");
    // The sum of two f32 numbers.
    set(&sandbox, "base/model.safetensors", TOUCHED, Dtype::F32, 5, 3e38);
    for (factor, at) in [("lora_A", 5), ("lora_B", 0)] {
        let name = format!("base_model.model.{}", TOUCHED.replace("weight", &format!("{factor}.weight")));
        set(&sandbox, "adapter/adapter_model.safetensors", &name, Dtype::F32, at, 1e19);
    }
    assert_snapshot!(said("merge base adapter=1e3 -o out2"), @"`base/model.safetensors`: `model.layers.0.self_attn.q_proj.weight`: comes to inf at row 0, column 5 when the deltas are added, which are too large for it");
}

/// Values that share a scale with the largest are not to blame.
#[test]
fn scales() {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "model");
    set(&sandbox, "model/model.safetensors", UNTOUCHED, Dtype::BF16, 300, 1e30);
    let said = |line: &str| message(&refusal(&sandbox, line)).to_string();
    assert_snapshot!(said("quantize model -o out.gguf --type Q8_0"), @"`model/model.safetensors`: `model.layers.0.mlp.up_proj.weight`: holds 1.00025555e30 at row 2, column 44, which Q8_0 cannot hold");
    assert_snapshot!(said("quantize model -o out.gguf --type Q4_K_M"), @"`model/model.safetensors`: `model.layers.0.mlp.up_proj.weight`: holds 1.00025555e30 at row 2, column 44, which Q5_0 cannot hold");
    assert_snapshot!(said("convert model -o out.gguf --to gguf --dtype f16"), @"`model/model.safetensors`: `model.layers.0.mlp.up_proj.weight`: holds 1.00025555e30 at row 2, column 44, which F16 cannot hold");
    // f32 scales can hold it.
    report(&sandbox, "quantize model -o nf4 --type nf4");
    report(&sandbox, "quantize model -o fp8 --type fp8");
    // A reader converts it to F16.
    edit_file(&sandbox.path("model/model.safetensors"), |weights| {
        for tensor in weights.values_mut() {
            let values: Vec<f64> = tensor.values().iter().map(|v| v.min(6e4)).collect();
            *tensor = Tensor::new(Dtype::F16, &tensor.shape, &values);
        }
    });
    sandbox.copy(&fixtures().join("tiny-upper-lora"), "adapter");
    assert_snapshot!(said("merge model adapter=1e6 -o out --quantize nf4"), @"`model/model.safetensors`: `model.layers.0.mlp.down_proj.weight`: comes to -3.4911722e5 at row 33, column 364, which NF4 that is read as F16 cannot hold");
}

#[test]
fn factors() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/f32"), "adapter");
    let name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    set(&sandbox, "adapter/adapter_model.safetensors", name, Dtype::F32, 7, -1e12);
    for line in ["convert adapter -o out --to peft --dtype f16", "reduce adapter -o out --rank 2 --dtype f16"]
    {
        assert!(message(&refusal(&sandbox, line)).contains("which F16 cannot hold"), "{line}");
    }
}
