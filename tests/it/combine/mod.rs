//! `lorakit combine`: one adapter stays what it is, refusals, reports.

mod bias;
mod refusals;
mod reports;
mod strength;
mod tune;

use crate::support::{Sandbox, edit_json, entries, peft, read_json};
use crate::weights::{read_file, read_folder};

#[test]
fn one_adapter_at_weight_one_comes_back_bit_for_bit() {
    for name in entries(&peft("adapters")) {
        let sandbox = Sandbox::new();
        let adapter = peft("adapters").join(&name);
        for method in ["svd", "cat", "ties --density 0.3", "dare_linear_svd --density 0.5"] {
            sandbox.run(&format!("combine -o out --force --method {method}"), &[&adapter]).ok();
            let file = "adapter_model.safetensors";
            let (before, after) =
                (read_file(&adapter.join(file)), read_file(&sandbox.path("out").join(file)));
            assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{name}");
            for (tensor, before) in &before {
                let after = &after[tensor];
                assert_eq!((before.dtype, &before.shape), (after.dtype, &after.shape), "{name} {tensor}");
                assert!(before.bytes == after.bytes, "{name} {tensor}");
            }
            let config = |path: &std::path::Path| read_json(&path.join("adapter_config.json"));
            let (before, after) = (config(&adapter), config(&sandbox.path("out")));
            for key in ["r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "use_dora"] {
                assert_eq!(before[key], after[key], "{name} {key}");
            }
        }
    }
}

#[test]
fn the_weighted_sum_is_what_a_merge_of_both_gives() {
    let sandbox = Sandbox::new();
    let base = peft("bases/llama-bf16");
    let (a, b) = (peft("adapters/plain"), peft("adapters/attn-r4"));
    let weighted =
        |path: &std::path::Path, w: f64| std::path::PathBuf::from(format!("{}={w}", path.display()));
    let parts = [weighted(&a, 0.7), weighted(&b, -0.4)];
    for method in ["cat", "svd --rank 12"] {
        sandbox.run(&format!("combine -o both --force --method {method}"), &[&parts[0], &parts[1]]).ok();
        let together = sandbox.merge(&base, &sandbox.path("both"), "one", "--force --dtype f32");
        sandbox.run("merge -o two --force --dtype f32", &[&base, &parts[0], &parts[1]]).ok();
        let (one, two) = (read_folder(&together), read_folder(&sandbox.path("two")));
        for (name, one) in &one {
            for (x, y) in one.values().iter().zip(two[name].values()) {
                assert!((x - y).abs() <= 1e-6, "{method} {name}: {x} {y}");
            }
        }
    }
}

#[test]
fn experts_and_embeddings_are_combined_too() {
    for (name, base) in [
        ("moe-params", "qwen3-moe-bf16"),
        ("embed", "llama-bf16"),
        ("gpt2", "gpt2-f32"),
        ("lora-bias", "qwen2-bf16"),
    ] {
        let sandbox = Sandbox::new();
        let adapter = peft("adapters").join(name);
        sandbox.run("combine -o both --method cat", &[&adapter, &adapter]).ok();
        // Twice the adapter: merged, it is the same as weight 2.
        let base = peft("bases").join(base);
        let both = sandbox.merge(&base, &sandbox.path("both"), "both-merged", "--dtype f32");
        let twice = std::path::PathBuf::from(format!("{}=2", adapter.display()));
        sandbox.run("merge -o twice --dtype f32", &[&base, &twice]).ok();
        let (both, twice) = (read_folder(&both), read_folder(&sandbox.path("twice")));
        for (tensor, x) in &both {
            for (x, y) in x.values().iter().zip(twice[tensor].values()) {
                assert!((x - y).abs() <= 1e-6 * y.abs().max(0.1), "{name} {tensor}: {x} {y}");
            }
        }
    }
}

/// An adapter whose configuration gives another rank than its factors have.
#[test]
fn ranks_that_the_configuration_contradicts_are_said() {
    let sandbox = Sandbox::new();
    let adapter = sandbox.copy(&peft("adapters/plain"), "adapter");
    edit_json(&adapter.join("adapter_config.json"), |config| config["r"] = 16.into());
    let warning = "its factors have rank 8, and the configuration says 16";
    for line in ["combine adapter=0.5 -o a", "reduce adapter -o b --rank 4"] {
        let run = sandbox.run(line, &[]).ok();
        assert!(run.stderr.contains(warning), "{line}: {}", run.stderr);
    }
    let run = sandbox.run("combine adapter -o c", &[&peft("adapters/all-r8-second")]).ok();
    assert_eq!(run.stderr.matches(warning).count(), 1, "{}", run.stderr);
}
