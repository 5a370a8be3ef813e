//! What is refused, and with which message. Nothing is published.

use insta::assert_snapshot;
use safetensors::tensor::Dtype;

use super::copy;
use crate::support::{Sandbox, edit_json, peft};
use crate::weights::{Tensor, Weights, edit_file, write_file};

const ADAPTER: &str = "adapter/adapter_model.safetensors";
const Q: &str = "base_model.model.model.layers.0.self_attn.q_proj";

/// A sandbox with the golden adapter `plain` and its base.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    copy(&sandbox, "plain");
    sandbox
}

#[test]
fn mixed_formats_in_one_file() {
    let sandbox = Sandbox::new();
    let tensor = |shape: &[usize]| Tensor::new(Dtype::F32, shape, &vec![0.5; shape.iter().product()]);
    let weights: Weights = [
        ("model.layers.0.self_attn.q_proj.lora_a".to_string(), tensor(&[8, 2])),
        ("model.layers.0.self_attn.q_proj.lora_b".to_string(), tensor(&[2, 8])),
        ("layers.0.attn.q_proj.lora_a.weight".to_string(), tensor(&[2, 8])),
        ("layers.0.attn.q_proj.lora_b.weight".to_string(), tensor(&[8, 2])),
    ]
    .into_iter()
    .collect();
    write_file(&sandbox.path("mixed.safetensors"), &weights);
    assert_snapshot!(sandbox.refused("convert mixed.safetensors -o out --to peft"));
}

#[test]
fn a_half_pair() {
    let sandbox = sandbox();
    edit_file(&sandbox.path(ADAPTER), |weights| {
        weights.remove(&format!("{Q}.lora_B.weight")).unwrap();
    });
    assert_snapshot!(sandbox.refused("convert adapter -o out --to mlx"));
}

#[test]
fn a_base_that_is_missing_where_it_is_needed() {
    let sandbox = sandbox();
    assert_snapshot!(sandbox.refused("convert adapter -o out.gguf --to gguf"));
    assert_snapshot!(sandbox.refused("convert adapter -o out --to torchtune"));
    sandbox.run("convert adapter -o a.gguf --to gguf --base base", &[]).ok();
    assert_snapshot!(sandbox.refused("convert a.gguf -o out --to peft"));
}

#[test]
fn a_base_of_an_unknown_family() {
    let sandbox = sandbox();
    edit_json(&sandbox.path("base/config.json"), |config| {
        config["architectures"] = serde_json::json!(["MambaForCausalLM"]);
        config["model_type"] = "mamba".into();
    });
    assert_snapshot!(sandbox.refused("convert adapter -o out.gguf --to gguf --base base"));
}

#[test]
fn a_wrong_base() {
    let sandbox = sandbox();
    sandbox.copy(&peft("bases/llama-f32"), "other");
    assert_snapshot!(sandbox.refused("convert adapter -o out.gguf --to gguf --base other"));
    assert_snapshot!(sandbox.refused("convert adapter -o out --to torchtune --base other"));
    sandbox.copy(&peft("bases/qwen2-bf16"), "qwen");
    sandbox.run("convert adapter -o a.gguf --to gguf --base base", &[]).ok();
    assert_snapshot!(sandbox.refused("convert a.gguf -o out --to peft --base qwen"));
}

#[test]
fn parts_that_the_format_has_no_place_for() {
    for (case, to) in
        [("dora", "gguf"), ("lora-bias", "mlx"), ("modules-to-save", "gguf"), ("token-indices", "torchtune")]
    {
        let sandbox = Sandbox::new();
        copy(&sandbox, case);
        let out = if to == "gguf" { "out.gguf" } else { "out" };
        let line = format!("convert adapter -o {out} --to {to} --base base");
        assert_snapshot!(format!("{case} to {to}"), sandbox.refused(&line));
    }
}

#[test]
fn values_that_are_no_numbers() {
    let sandbox = sandbox();
    edit_file(&sandbox.path(ADAPTER), |weights| {
        let tensor = weights.get_mut(&format!("{Q}.lora_A.weight")).unwrap();
        tensor.bytes[400..404].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert_snapshot!(sandbox.refused("convert adapter -o out --to mlx"));
}

#[test]
fn an_output_of_the_wrong_form() {
    let sandbox = sandbox();
    assert_snapshot!(sandbox.refused("convert adapter -o out --to gguf --base base"));
    assert_snapshot!(sandbox.refused("convert adapter -o out.safetensors --to peft"));
    assert_snapshot!(sandbox.refused("convert adapter -o out --to hf"));
    assert_snapshot!(sandbox.refused("convert base -o out --to mlx"));
    assert_snapshot!(sandbox.refused("convert adapter -o out --to mlx --dtype q8_0"));
    assert_snapshot!(sandbox.refused("convert adapter -o adapter --to mlx --force"));
}
