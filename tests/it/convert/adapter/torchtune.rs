//! PEFT to torchtune and back.

use super::{convert, golden, proof, refusal, same_weights};
use crate::support::{Sandbox, entries, peft, read_json};

const EXACT: &str = "read again: every delta is the same, bit for bit";

#[test]
fn there_and_back_is_the_same() {
    for (adapter, base) in
        [("attn-r4", "llama-bf16"), ("plain", "llama-bf16"), ("dora", "llama-bf16"), ("qwen2", "qwen2-bf16")]
    {
        let sandbox = Sandbox::new();
        let there = golden(&sandbox, adapter, "tune", "torchtune", Some(base)).ok();
        assert_eq!(proof(&there), EXACT, "{adapter}");
        assert_eq!(
            entries(&sandbox.path("tune")),
            ["README.md", "adapter_config.json", "adapter_model.safetensors", "lorakit.json"]
        );
        let back = convert(&sandbox, &sandbox.path("tune"), "back", "peft", Some(base)).ok();
        assert_eq!(proof(&back), EXACT, "{adapter}");
        let base = peft(&format!("bases/{base}"));
        let merged = sandbox.merge(&base, &peft(&format!("adapters/{adapter}")), "merged", "");
        same_weights(&merged, &sandbox.merge(&base, &sandbox.path("tune"), "by-tune", ""));
    }
}

#[test]
fn the_configuration_is_torchtunes() {
    let sandbox = Sandbox::new();
    golden(&sandbox, "attn-r4", "tune", "torchtune", Some("llama-bf16")).ok();
    insta::assert_snapshot!(format!("{:#}", read_json(&sandbox.path("tune/adapter_config.json"))));
}

#[test]
fn what_torchtune_has_no_place_for() {
    let sandbox = Sandbox::new();
    let refused = |adapter: &str, base: Option<&str>| {
        refusal(&sandbox, &golden(&sandbox, adapter, "tune", "torchtune", base))
    };
    let messages = [
        refused("attn-r4", None),
        refused("lora-bias", Some("llama-bf16")),
        refused("embed", Some("llama-bf16")),
        refused("moe-params", Some("qwen3-moe-bf16")),
        refused("gpt2", Some("gpt2-f32")),
    ];
    insta::assert_snapshot!(messages.join("\n\n"));
}
