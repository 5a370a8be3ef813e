//! Experts that PEFT packs in a parameter stay packed, and every configuration names what its file holds.

use serde_json::{Value, json};

use super::FILE;
use crate::support::{Sandbox, edit_json, peft, read_json};
use crate::weights::{read_file, read_folder};

/// Names, ranks and targets of what PEFT finds in a folder.
fn shapes(folder: &std::path::Path) -> Vec<(String, Vec<usize>)> {
    read_file(&folder.join(FILE)).into_iter().map(|(name, tensor)| (name, tensor.shape)).collect()
}

#[test]
fn experts_stay_in_their_parameter() {
    let sandbox = Sandbox::new();
    let adapter = peft("adapters/moe-params");
    sandbox.run("reduce -o out --rank 3", &[&adapter]).ok();
    let config = read_json(&sandbox.path("out/adapter_config.json"));
    assert_eq!(config["target_modules"], json!(["q_proj"]));
    assert_eq!(config["target_parameters"], json!(["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]));
    // Four experts of rank 3; the scale stays 2.
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(3), &json!(6)));
    let four = |shape: &[usize]| {
        shape
            .iter()
            .map(|d| {
                if *d == 16 {
                    12
                } else if *d == 4 {
                    3
                } else {
                    *d
                }
            })
            .collect()
    };
    let expected: Vec<_> = shapes(&adapter).into_iter().map(|(name, shape)| (name, four(&shape))).collect();
    assert_eq!(shapes(&sandbox.path("out")), expected);
}

/// Ranks of single experts differ, and PEFT packs them with one rank for each parameter.
#[test]
fn ranks_of_experts_are_padded() {
    let sandbox = Sandbox::new();
    let (adapter, base) = (peft("adapters/moe-params"), peft("bases/qwen3-moe-bf16"));
    let run = sandbox.run("reduce -o out --energy 0.999 --json", &[&adapter]).ok();
    let object: Value = serde_json::from_str(&run.stdout).unwrap();
    let ranks: std::collections::BTreeSet<u64> =
        object["modules"].as_array().unwrap().iter().map(|module| module["rank"].as_u64().unwrap()).collect();
    let config = read_json(&sandbox.path("out/adapter_config.json"));
    assert!(ranks.iter().max().copied() >= config["r"].as_u64(), "{ranks:?} {config}");
    // Nothing is lost on the way: to full energy, the merge stays the same.
    sandbox.run("reduce -o whole --energy 1", &[&adapter]).ok();
    let merged =
        |folder: &std::path::Path, out: &str| read_folder(&sandbox.merge(&base, folder, out, "--dtype f32"));
    assert!(merged(&adapter, "a") == merged(&sandbox.path("whole"), "b"));
}

/// `combine` packs them as well, and their sum is the sum of merges.
#[test]
fn combined_experts_stay_packed() {
    let sandbox = Sandbox::new();
    let (adapter, base) = (peft("adapters/moe-params"), peft("bases/qwen3-moe-bf16"));
    sandbox.run("combine --method cat -o out", &[&adapter, &adapter]).ok();
    let config = read_json(&sandbox.path("out/adapter_config.json"));
    assert_eq!(config["r"], 8);
    assert_eq!(shapes(&sandbox.path("out")).len(), shapes(&adapter).len());
    let one = format!("{}=2", adapter.display());
    let twice = sandbox.merge(&base, std::path::Path::new(&one), "twice", "--dtype f32");
    let (found, expected) = (
        read_folder(&sandbox.merge(&base, &sandbox.path("out"), "found", "--dtype f32")),
        read_folder(&twice),
    );
    for (name, tensor) in &expected {
        let (one, two) = (tensor.values(), found[name].values());
        let worst = one.iter().zip(&two).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-5, "{name} {worst}");
    }
}

/// A layer that is left out is named by no pattern, and one parameter of several goes alone.
#[test]
fn one_of_several_parameters_goes_alone() {
    let sandbox = Sandbox::new();
    let adapter = peft("adapters/moe-params");
    sandbox.run("combine --skip gate_up_proj --skip q_proj -o out", &[&adapter]).ok();
    let names: Vec<String> = shapes(&sandbox.path("out")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 4);
    assert!(names.iter().all(|name| name.contains(".mlp.experts.lora_")), "{names:?}");
    let config = read_json(&sandbox.path("out/adapter_config.json"));
    let layer = |i: usize| format!("model.layers.{i}.mlp.experts.down_proj");
    assert_eq!(config["target_parameters"], json!([layer(0), layer(1)]));
    assert_eq!(config["target_modules"], json!([]));
}

/// What PEFT would not load is said, and converting to PEFT's own format names it.
#[test]
fn modules_without_a_name_are_found_and_named() {
    let sandbox = Sandbox::new();
    let copy = sandbox.copy(&peft("adapters/moe-params"), "adapter");
    edit_json(&copy.join("adapter_config.json"), |config| config["target_parameters"] = Value::Null);
    let run = sandbox.run("inspect --for peft", &[&copy]);
    assert!(run.stdout.contains("is the first of 4 modules, of 6, that `target_modules`"), "{}", run.stdout);
    assert!(run.stdout.contains("does not name 4 of its 6 modules"), "{}", run.stdout);
    sandbox.run("convert --to peft -o named", &[&copy]).ok();
    let config = read_json(&sandbox.path("named/adapter_config.json"));
    assert_eq!(config["target_parameters"].as_array().map(Vec::len), Some(4));
    let run = sandbox.run("inspect --for peft", &[&sandbox.path("named")]).ok();
    assert!(!run.stdout.contains("do not name"), "{}", run.stdout);
}
