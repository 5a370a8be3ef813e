//! Reports on sound adapters.

use super::Case;
use crate::support::{Sandbox, fixtures, peft};

#[test]
fn a_trained_adapter() {
    insta::assert_snapshot!(Case::trained().report(""));
}

#[test]
fn a_trained_adapter_with_norms() {
    insta::assert_snapshot!(Case::trained().report("--norms"));
}

#[test]
fn a_trained_adapter_with_its_base() {
    let case = Case::trained();
    case.sandbox.copy(&fixtures().join("tiny-orders"), "base");
    insta::assert_snapshot!(case.report("--base base"));
}

#[test]
fn every_module() {
    insta::assert_snapshot!(Case::new("attn-r4").report("-v"));
}

#[test]
fn dora() {
    insta::assert_snapshot!(Case::new("dora").report("--norms"));
}

#[test]
fn patterns_of_rank_and_alpha() {
    insta::assert_snapshot!(Case::new("patterns").report(""));
}

#[test]
fn expert_parameters_with_their_base() {
    insta::assert_snapshot!(Case::new("moe-params").with_base("qwen3-moe-bf16").report("--base base"));
}

#[test]
fn embeddings() {
    insta::assert_snapshot!(Case::new("embed").report(""));
}

#[test]
fn a_head_on_tied_embeddings() {
    insta::assert_snapshot!(Case::new("tied-head").with_base("llama-tied-bf16").report("--base base"));
}

#[test]
fn modules_to_save() {
    insta::assert_snapshot!(Case::new("modules-to-save").report(""));
}

#[test]
fn token_indices() {
    insta::assert_snapshot!(Case::new("token-indices").report(""));
}

#[test]
fn lora_bias() {
    insta::assert_snapshot!(Case::new("lora-bias").report(""));
}

#[test]
fn a_subset_of_layers() {
    insta::assert_snapshot!(Case::new("layers-subset").with_base("llama-bf16").report("--base base"));
}

/// What `torch.save` wrote is described like what `safetensors` wrote, except for its size.
#[test]
fn a_torch_file() {
    let torch = Case::of(&peft("adapters-bin/attn-r4")).report("--norms");
    let safetensors = Case::new("attn-r4").report("--norms");
    let parameters = |text: &str| text.lines().find(|l| l.starts_with("  parameters")).unwrap().to_string();
    assert_eq!(torch.replace(&parameters(&torch), ""), safetensors.replace(&parameters(&safetensors), ""));
    insta::assert_snapshot!(parameters(&torch), @"  parameters    3.58 k in 8 tensors, 18.3 kB");
}

/// Outputs of lorakit say so, and by which version.
#[test]
fn an_adapter_of_lorakit() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/plain"), "one");
    sandbox.copy(&peft("adapters/all-r8-second"), "two");
    sandbox.run("combine one two -o both --method cat", &[]).ok();
    let run = sandbox.run("inspect both", &[]).ok();
    let line = run.stdout.lines().find(|line| line.contains("made by")).unwrap();
    let expected = format!("lorakit {} (`combine`)", env!("CARGO_PKG_VERSION"));
    assert!(line.contains(&expected), "{line}");
    let run = sandbox.run("inspect both --json", &[]).ok();
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["reports"][0]["lineage"]["verb"], "combine");
}
