use serde_json::json;

use super::super::testing::{Folder, Given, counted, held, json, read};
use crate::ErrorKind;

const FILE: &str = "adapter_model.safetensors";

fn config() -> serde_json::Value {
    json!({"r": 1, "lora_alpha": 4, "peft_type": "LORA", "target_modules": "all-linear",
           "base_model_name_or_path": "org/moe"})
}

fn name(module: &str, half: &str) -> String {
    format!("base_model.model.model.{module}.lora_{half}.weight")
}

#[test]
fn stacks_come_apart_and_shared_factors_are_everybodys() {
    let folder = Folder::new();
    let of = |w: &str, half: &str| name(&format!("layers.0.mlp.experts.{w}"), half);
    let given: [Given<'_>; 10] = [
        (&of("w1", "A"), &[1, 1, 2], &[1.0, 2.0]),
        (&of("w1", "B"), &[2, 3, 1], &counted(6)),
        (&of("w3", "A"), &[1, 1, 2], &[3.0, 4.0]),
        (&of("w3", "B"), &[2, 3, 1], &counted(6)),
        (&of("w2", "A"), &[2, 1, 3], &counted(6)),
        (&of("w2", "B"), &[1, 2, 1], &counted(2)),
        (&name("layers.0.attn.q_proj", "A"), &[1, 2], &counted(2)),
        (&name("layers.0.attn.q_proj", "B"), &[2, 1], &counted(2)),
        (&name("unembed_tokens", "A"), &[1, 2], &counted(2)),
        (&name("unembed_tokens", "B"), &[5, 1], &counted(5)),
    ];
    let source = folder.adapter("tinker", FILE, config(), &given);
    let adapter = read(&source, None).unwrap();
    assert_eq!(adapter.format, "tinker");
    let modules: Vec<_> = adapter.modules.iter().map(|m| (m.path.as_str(), m.scale(m.rank()))).collect();
    let expected = [
        "lm_head",
        "model.layers.0.mlp.experts.0.down_proj",
        "model.layers.0.mlp.experts.0.gate_proj",
        "model.layers.0.mlp.experts.0.up_proj",
        "model.layers.0.mlp.experts.1.down_proj",
        "model.layers.0.mlp.experts.1.gate_proj",
        "model.layers.0.mlp.experts.1.up_proj",
        "model.layers.0.self_attn.q_proj",
    ];
    assert_eq!(modules, expected.map(|path| (path, 4.0)));
    let down = &adapter.modules[4];
    assert_eq!(
        (held(&down.a), held(&down.b)),
        ((vec![1, 3], vec![4.0, 5.0, 6.0]), (vec![2, 1], vec![1.0, 2.0]))
    );
    let gate = &adapter.modules[5];
    assert_eq!(
        (held(&gate.a), held(&gate.b)),
        ((vec![1, 2], vec![1.0, 2.0]), (vec![3, 1], vec![4.0, 5.0, 6.0]))
    );

    let peft = folder.convert(&source, "peft", "peft", None).unwrap();
    let written = json(&peft.join("adapter_config.json"));
    assert_eq!((&written["lora_alpha"], &written["r"]), (&json!(4), &json!(1)));
    assert_ne!(written["target_modules"], "all-linear");
    assert_eq!(read(&peft, None).unwrap().format, "peft");
}

#[test]
fn models_without_gates_have_an_empty_third() {
    let folder = Folder::new();
    let of = |w: &str, half: &str| name(&format!("layers.0.mixer.experts.{w}"), half);
    let given: [Given<'_>; 4] = [
        (&of("w1", "A"), &[1, 1, 1], &[1.0]),
        (&of("w1", "B"), &[2, 1, 1], &counted(2)),
        (&of("w3", "A"), &[0, 1, 1], &[]),
        (&of("w3", "B"), &[0, 1, 1], &[]),
    ];
    let adapter = read(&folder.adapter("tinker", FILE, config(), &given), None).unwrap();
    adapter.check().unwrap();
    let paths: Vec<_> = adapter.modules.iter().map(|m| m.path.as_str()).collect();
    assert_eq!(paths, ["model.layers.0.mixer.experts.0.up_proj", "model.layers.0.mixer.experts.1.up_proj"]);
}

#[test]
fn split_attention_is_fused() {
    let folder = Folder::new();
    let of = |part: &str, half: &str| name(&format!("layers.0.linear_attn.in_proj_{part}"), half);
    let given: [Given<'_>; 8] = [
        (&of("q", "A"), &[1, 1], &[1.0]),
        (&of("q", "B"), &[1, 1], &[2.0]),
        (&of("k", "A"), &[1, 1], &[3.0]),
        (&of("k", "B"), &[1, 1], &[4.0]),
        (&of("v", "A"), &[1, 1], &[5.0]),
        (&of("v", "B"), &[2, 1], &[6.0, 7.0]),
        (&name("unembed_tokens", "A"), &[1, 1], &[1.0]),
        (&name("unembed_tokens", "B"), &[1, 1], &[1.0]),
    ];
    let adapter = read(&folder.adapter("all", FILE, config(), &given), None).unwrap();
    let qkv = &adapter.modules[1];
    assert_eq!((qkv.path.as_str(), qkv.scale(qkv.rank())), ("model.layers.0.linear_attn.in_proj_qkv", 4.0));
    assert_eq!(held(&qkv.a), (vec![3, 1], vec![1.0, 3.0, 5.0]));
    assert_eq!(held(&qkv.b), (vec![4, 3], vec![2.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 6.0, 0.0, 0.0, 7.0]));
    let adapter = read(&folder.adapter("some", FILE, config(), &given[2..]), None).unwrap();
    assert_eq!(adapter.findings[0].code, "missing-part");
}

#[test]
fn stacks_that_do_not_fit_are_faults() {
    let folder = Folder::new();
    let of = |w: &str, half: &str| name(&format!("layers.0.mlp.experts.{w}"), half);
    let given: [Given<'_>; 3] = [
        (&of("w1", "A"), &[2, 1, 1], &counted(2)),
        (&of("w1", "B"), &[3, 1, 1], &counted(3)),
        (&of("w2", "B"), &[3, 1, 1], &counted(3)),
    ];
    let adapter = read(&folder.adapter("odd", FILE, config(), &given), None).unwrap();
    let codes: Vec<_> = adapter.findings.iter().map(|fault| fault.code).collect();
    assert_eq!(codes, ["missing-half", "shape"]);
    let unscaled = folder.adapter("unscaled", FILE, json!({"peft_type": "LORA"}), &given);
    assert_eq!(read(&unscaled, None).unwrap_err().kind(), ErrorKind::Config);
}
