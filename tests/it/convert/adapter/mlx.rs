//! PEFT to mlx-lm and back.

use super::{convert, golden, proof, refusal, same_weights};
use crate::support::{Sandbox, entries, peft, read_json};

const EXACT: &str = "read again: every delta is the same, bit for bit";

/// Bytes are moved, not changed: a merge of either adapter is the same model.
#[test]
fn there_and_back_is_the_same() {
    let uniform = [
        ("plain", "llama-bf16"),
        ("f16", "llama-f16"),
        ("rslora", "llama-bf16"),
        ("layers-subset", "llama-bf16"),
        ("dora", "llama-bf16"),
        ("qwen2", "qwen2-bf16"),
        ("moe-params", "qwen3-moe-bf16"),
    ];
    for (adapter, base) in uniform {
        let sandbox = Sandbox::new();
        let there = golden(&sandbox, adapter, "mlx", "mlx", Some(base)).ok();
        assert_eq!(proof(&there), EXACT, "{adapter}");
        assert_eq!(
            entries(&sandbox.path("mlx")),
            ["README.md", "adapter_config.json", "adapters.safetensors", "lorakit.json"]
        );
        let back = convert(&sandbox, &sandbox.path("mlx"), "back", "peft", Some(base)).ok();
        assert_eq!(proof(&back), EXACT, "{adapter}");
        let base = peft(&format!("bases/{base}"));
        let merged = sandbox.merge(&base, &peft(&format!("adapters/{adapter}")), "merged", "");
        let by_mlx = sandbox.merge(&base, &sandbox.path("mlx"), "by-mlx", "");
        same_weights(&merged, &by_mlx);
    }
}

#[test]
fn one_rank_and_one_scale_are_for_all() {
    let sandbox = Sandbox::new();
    let run = golden(&sandbox, "patterns", "mlx", "mlx", Some("llama-bf16")).ok();
    assert!(proof(&run).starts_with("read again: every delta is the same within rounding"), "{}", run.stdout);
    insta::assert_snapshot!(format!("{:#}", read_json(&sandbox.path("mlx/adapter_config.json"))));
    let path = sandbox.path("mlx");
    let run = sandbox.run("convert -o x --to peft --dry-run", &[&path]).ok();
    insta::assert_snapshot!(run.stdout.lines().take(4).collect::<Vec<_>>().join("\n"));
}

#[test]
fn what_mlx_has_no_place_for() {
    let sandbox = Sandbox::new();
    let refused =
        |adapter: &str, base: Option<&str>| refusal(&sandbox, &golden(&sandbox, adapter, "mlx", "mlx", base));
    let messages = [
        refused("lora-bias", None),
        refused("modules-to-save", None),
        refused("token-indices", None),
        refused("embed", None),
        refused("tied-embed", Some("llama-tied-bf16")),
    ];
    insta::assert_snapshot!(messages.join("\n\n"));
}
