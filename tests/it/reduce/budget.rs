//! One budget for all modules is spent where the deltas are, as they are merged: times their scales, and up to the
//! highest rank that is allowed.

use std::fs;
use std::path::PathBuf;

use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::support::Sandbox;
use crate::weights::{Tensor, Weights, noise, write_file};

const SIDE: usize = 24;
const RANK: usize = 8;
/// Parameters of one rank of one module.
const COST: usize = 2 * SIDE;

/// Modules with the same factors; the scale of each is its alpha divided by the rank.
fn adapter(sandbox: &Sandbox, alphas: &[f64]) -> PathBuf {
    let folder = sandbox.path("adapter");
    fs::create_dir_all(&folder).unwrap();
    let mut weights = Weights::new();
    let mut pattern = serde_json::Map::new();
    for (i, alpha) in alphas.iter().enumerate() {
        let key = format!("base_model.model.layers.{i}.q_proj");
        let factor = |seed, shape: &[usize]| Tensor::new(Dtype::F32, shape, &noise(seed, RANK * SIDE, 1.0));
        weights.insert(format!("{key}.lora_A.weight"), factor(1, &[RANK, SIDE]));
        weights.insert(format!("{key}.lora_B.weight"), factor(2, &[SIDE, RANK]));
        pattern.insert(format!("layers.{i}.q_proj"), json!(alpha));
    }
    write_file(&folder.join("adapter_model.safetensors"), &weights);
    let config = json!({
        "peft_type": "LORA", "peft_version": "0.21.2", "r": RANK, "lora_alpha": 1, "alpha_pattern": pattern,
        "target_modules": ["q_proj"],
    });
    fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    folder
}

/// The ranks of the modules, in order.
fn ranks(sandbox: &Sandbox, rule: &str) -> Vec<u64> {
    let run = sandbox.run(&format!("reduce adapter -o out --force --json {rule}"), &[]).ok();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    report["modules"].as_array().unwrap().iter().map(|m| m["rank"].as_u64().unwrap()).collect()
}

/// Of modules that differ only in scale, one that is much stronger gets everything but the rank that each must have.
#[test]
fn strong_modules_come_first() {
    let sandbox = Sandbox::new();
    for (alphas, wanted) in [([1.0, 64.0], [1, 7]), ([64.0, 1.0], [7, 1]), ([8.0, 8.0], [4, 4])] {
        adapter(&sandbox, &alphas);
        assert_eq!(ranks(&sandbox, &format!("--budget {}", 8 * COST)), wanted, "{alphas:?}");
    }
}

/// What a module may not use goes to the others.
#[test]
fn a_highest_rank_leaves_its_share_to_the_others() {
    let sandbox = Sandbox::new();
    adapter(&sandbox, &[1.0, 64.0, 2.0]);
    let budget = format!("--budget {}", 12 * COST);
    assert_eq!(ranks(&sandbox, &budget), [1, 8, 3], "without a highest rank");
    let capped = ranks(&sandbox, &format!("{budget} --rank 5"));
    assert_eq!((capped[1], capped.iter().sum::<u64>()), (5, 12), "{capped:?}");
    assert_eq!(ranks(&sandbox, &format!("{budget} --rank 3")), [3, 3, 3]);
}
