//! A merge that loses the adapter is refused before it is published.

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{Sandbox, fixtures};

/// A model whose weights are on the grid of `kind`, and the small adapter's folder.
fn sandbox(kind: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "model");
    sandbox.copy(&fixtures().join("tiny-json-lora"), "adapter");
    sandbox.run(&format!("quantize model --type {kind}"), &[]).ok();
    sandbox
}

/// The adapter is strong; this share of it is as small relative to the weights as adapters of large models are.
const SMALL: &str = "adapter=0.02";

#[test]
fn four_bits_onto_the_same_four_bits() {
    let sandbox = sandbox("Q4_0 -o base.gguf");
    let run = sandbox.run(&format!("merge base.gguf {SMALL} -o out.gguf --quantize keep"), &[]);
    assert_eq!(run.code, Some(1));
    assert_snapshot!(run.stderr);
    assert_eq!(sandbox.entries(), ["adapter", "base.gguf", "model"]);

    let kept = |options: &str| {
        let line = format!("merge base.gguf {SMALL} -o out.gguf --json {options}");
        let json: Value = serde_json::from_str(&sandbox.run(&line, &[]).ok().stdout).unwrap();
        json["retention"].clone()
    };
    assert!(kept("--quantize keep --force")["Q4_0"]["retention"].as_f64().unwrap() < 0.1);
    assert!(kept("--quantize keep --promote Q8_0 --force")["Q8_0"]["retention"].as_f64().unwrap() > 0.9);
    assert!(kept("--quantize Q8_0 --force")["Q8_0"]["retention"].as_f64().unwrap() > 0.9);
}

#[test]
fn nf4_onto_nf4() {
    let sandbox = sandbox("nf4 -o base --double-quant");
    let run = sandbox.run(&format!("merge base {SMALL} -o out --quantize nf4 --double-quant"), &[]);
    assert_eq!(run.code, Some(1));
    assert_snapshot!(run.stderr);
    assert_eq!(sandbox.entries(), ["adapter", "base", "model"]);

    sandbox.run(&format!("merge base {SMALL} -o out --quantize nf4 --promote"), &[]).ok();
    let config = crate::support::read_json(&sandbox.path("out/config.json"));
    let skipped = config["quantization_config"]["llm_int8_skip_modules"].as_array().unwrap();
    assert!(skipped.contains(&"model.layers.0.self_attn.q_proj".into()), "{skipped:?}");
    assert!(skipped.contains(&"lm_head".into()), "{skipped:?}");
}

#[test]
fn sixteen_bits_onto_four() {
    let sandbox = sandbox("BF16 -o base.gguf");
    for kind in ["Q4_0", "Q8_0", "IQ4_NL"] {
        let line = format!("merge base.gguf {SMALL} -o {kind}.gguf --quantize {kind} --json");
        let json: Value = serde_json::from_str(&sandbox.run(&line, &[]).ok().stdout).unwrap();
        let kept = json["retention"][kind]["retention"].as_f64().unwrap();
        assert!((kept - 1.0).abs() < 0.2, "{kind}: {kept}");
    }
}
