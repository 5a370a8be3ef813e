//! `--only`, `--skip` and `--weight` of a combination: the same deltas as those of adapters scaled by hand.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Sandbox, peft, read_json};
use crate::weights::{Tensor, edit_file, read_file, read_folder};

/// A copy of `adapter` with `B` times `weight` in tensors whose names hold `part`; 0 removes them.
fn by_hand(sandbox: &Sandbox, adapter: &Path, out: &str, part: &str, weight: f64) -> PathBuf {
    let folder = sandbox.copy(adapter, out);
    edit_file(&folder.join("adapter_model.safetensors"), |weights| {
        let before = weights.clone();
        weights.retain(|name, _| weight != 0.0 || !name.contains(part));
        let scaled = weights.iter_mut().filter(|(name, _)| {
            name.contains(part) && (name.contains("lora_B") || name.contains("lora_embedding_B"))
        });
        for (_, tensor) in scaled {
            let values: Vec<f64> = tensor.values().iter().map(|value| value * weight).collect();
            *tensor = Tensor::new(tensor.dtype, &tensor.shape, &values);
        }
        assert!(*weights != before, "{part}");
    });
    folder
}

/// Adapters, their base, the options, and what to do by hand.
type Case = (&'static [&'static str], &'static str, &'static str, &'static str, f64);

const CASES: &[Case] = &[
    (&["plain", "all-r8-second"], "llama-bf16", "--skip mlp", "mlp", 0.0),
    (&["plain", "all-r8-second"], "llama-bf16", "--weight mlp=0.5", "mlp", 0.5),
    (&["plain"], "llama-bf16", "--weight q_proj=-2", "q_proj", -2.0),
    (&["rslora", "plain"], "llama-bf16", r"--weight layers\.1\.=4", "layers.1.", 4.0),
    (&["lora-bias"], "qwen2-bf16", "--weight v_proj=2", "v_proj", 2.0),
    (&["lora-bias", "lora-bias"], "qwen2-bf16", "--weight v_proj=0.5", "v_proj", 0.5),
    (&["modules-to-save"], "llama-bf16", "--skip lm_head", "lm_head", 0.0),
    (&["token-indices"], "llama-bf16", "--skip embed_tokens", "embed_tokens", 0.0),
    (&["embed"], "llama-bf16", "--skip lm_head", "lm_head", 0.0),
    (&["embed", "embed"], "llama-bf16", "--weight embed_tokens=2", "embed_tokens", 2.0),
    (&["moe-params", "moe-params"], "qwen3-moe-bf16", "--weight experts=2", "experts", 2.0),
    (&["moe-params"], "qwen3-moe-bf16", "--skip experts", "experts", 0.0),
    (&["dora"], "llama-bf16", "--skip mlp", "mlp", 0.0),
    (&["gpt2"], "gpt2-f32", "--weight mlp=0", ".mlp.", 0.0),
];

#[test]
fn deltas_are_those_of_adapters_scaled_by_hand() {
    for (adapters, base, options, part, weight) in CASES {
        let sandbox = Sandbox::new();
        let base = peft(&format!("bases/{base}"));
        let paths: Vec<PathBuf> = adapters.iter().map(|name| peft(&format!("adapters/{name}"))).collect();
        let hands: Vec<PathBuf> = paths
            .iter()
            .enumerate()
            .map(|(i, path)| by_hand(&sandbox, path, &format!("hand{i}"), part, *weight))
            .collect();
        let run = |out: &str, adapters: &[PathBuf], options: &str| {
            let adapters: Vec<&Path> = adapters.iter().map(PathBuf::as_path).collect();
            let line =
                format!("combine --method cat --dtype f32 -o {out} {options} --base {}", base.display());
            sandbox.run(&line, &adapters).ok();
            read_folder(&sandbox.merge(&base, &sandbox.path(out), &format!("{out}-merged"), "--dtype f32"))
        };
        let (expected, found) = (run("expected", &hands, ""), run("found", &paths, options));
        assert_ne!(expected, run("whole", &paths, ""), "{options}");
        for (name, tensor) in &expected {
            for (x, y) in tensor.values().iter().zip(found[name].values()) {
                assert!((x - y).abs() <= 1e-6 * x.abs().max(0.1), "{adapters:?} {options} {name}: {x} {y}");
            }
        }
    }
}

/// The weights of methods that elect signs are those of adapters, and so are those of blocks: they come after the vote.
#[test]
fn weights_come_after_votes() {
    let sandbox = Sandbox::new();
    let (a, b) = (peft("adapters/plain"), peft("adapters/all-r8-second"));
    let weighted = |path: &Path, weight: f64| PathBuf::from(format!("{}={weight}", path.display()));
    for method in ["ties_svd --density 0.5", "dare_linear --density 0.5", "svd"] {
        let line = format!("combine --force --method {method}");
        sandbox.run(&format!("{line} -o expected"), &[&weighted(&a, 0.5), &weighted(&b, 0.25)]).ok();
        sandbox.run(&format!("{line} -o found --weight .=0.5"), &[&a, &weighted(&b, 0.5)]).ok();
        let file = |out: &str| read_file(&sandbox.path(out).join("adapter_model.safetensors"));
        assert!(file("expected") == file("found"), "{method}");
    }
}

/// What is left of one adapter keeps its bytes, and its configuration names nothing else.
#[test]
fn a_part_of_one_adapter() {
    let sandbox = Sandbox::new();
    for (name, options) in
        [("plain", "--only self_attn"), ("dora", "--only mlp"), ("modules-to-save", "--skip lm_head")]
    {
        let adapter = peft("adapters").join(name);
        sandbox.run(&format!("combine -o out --force {options}"), &[&adapter]).ok();
        let file = "adapter_model.safetensors";
        let (before, after) = (read_file(&adapter.join(file)), read_file(&sandbox.path("out").join(file)));
        assert!(
            after.len() < before.len() && after.iter().all(|(name, tensor)| before[name] == *tensor),
            "{name}"
        );
        let config = read_json(&sandbox.path("out/adapter_config.json"));
        let modules: Vec<&str> =
            config["target_modules"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let named = |tensor: &String| modules.iter().any(|module| tensor.contains(&format!(".{module}.")));
        assert!(after.keys().filter(|tensor| tensor.contains("lora_")).all(named), "{modules:?}");
        assert_eq!(modules.len(), after.keys().filter(|tensor| tensor.contains("lora_A")).count());
    }
}

#[test]
fn report_and_record_tell() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/plain"), "plain");
    sandbox.copy(&peft("adapters/attn-r4"), "attn");
    let options = r"--only self_attn --weight layers\.1\.=0.5";
    let run = sandbox.run(&format!("combine plain attn=2 -o out {options}"), &[]).ok();
    insta::assert_snapshot!(run.stdout.lines().take(2).collect::<Vec<_>>().join("\n"), @"
    1  `plain` (weight 1, peft, 8 modules, 6 left out, 4 with a weight of their own)
    2  `attn` (weight 2, peft, 4 modules, 2 with a weight of their own)
    ");
    let run = sandbox.run(&format!("combine plain attn=2 -o again --json {options}"), &[]).ok();
    let json: Value = serde_json::from_str(&run.stdout).unwrap();
    let of = |field: &str| [0, 1].map(|i| json["adapters"][i][field].as_u64().unwrap());
    assert_eq!((of("left_out"), of("weighted")), ([6, 0], [4, 2]));
    let run = sandbox.run("inspect --json out", &[]).ok();
    let json: Value = serde_json::from_str(&run.stdout).unwrap();
    insta::assert_snapshot!(json["reports"][0]["lineage"]["options"], @r#"{"method":"svd","only":["self_attn"],"block_weights":["layers\\.1\\.=0.5"],"to":"peft"}"#);
    insta::assert_snapshot!(sandbox.refused("combine plain attn -o no --skip mpl"), @"
    exit 1
    error: `mpl` matches none of the 18 modules; the nearest is `model.layers.0.mlp.down_proj`

    hint: `lorakit inspect ADAPTER --verbose` lists the modules of an adapter
    ");
}
