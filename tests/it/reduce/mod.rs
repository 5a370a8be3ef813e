//! `lorakit reduce`: every kind of adapter, truthful configurations, reports, refusals.

mod bits;
mod budget;
mod packed;

use crate::support::{Sandbox, TIMES, edit_json, entries, fixtures, peft, read_json};
use crate::weights::read_file;

const FILE: &str = "adapter_model.safetensors";

#[test]
fn every_kind_of_adapter_is_reduced() {
    for name in entries(&peft("adapters")) {
        let sandbox = Sandbox::new();
        let adapter = peft("adapters").join(&name);
        let run = sandbox.run("reduce -o out --rank 2 --json", &[&adapter]).ok();
        let object: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        for module in object["modules"].as_array().unwrap() {
            let (energy, error) = (module["energy"].as_f64().unwrap(), module["error"].as_f64().unwrap());
            assert_eq!(module["rank"], 2, "{name} {module}");
            assert!((energy + error * error - 1.0).abs() < 1e-6, "{name} {module}");
        }
        // Tensors that are not factors stay the same.
        let (before, after) = (read_file(&adapter.join(FILE)), read_file(&sandbox.path("out").join(FILE)));
        for (tensor, before) in
            before.iter().filter(|(tensor, _)| !tensor.contains("lora_") || tensor.contains("magnitude"))
        {
            assert!(before.bytes == after[tensor].bytes, "{name} {tensor}");
        }
    }
}

#[test]
fn a_rank_that_no_module_exceeds_changes_nothing() {
    let sandbox = Sandbox::new();
    let adapter = peft("adapters/patterns");
    let run = sandbox.run("reduce -o out --rank 12", &[&adapter]).ok();
    assert_eq!(run.stderr, "note: every module keeps its rank; nothing was reduced\n");
    let (before, after) = (read_file(&adapter.join(FILE)), read_file(&sandbox.path("out").join(FILE)));
    assert!(before.iter().all(|(name, tensor)| tensor.bytes == after[name].bytes));
}

#[test]
fn the_configuration_gives_each_module_its_rank_and_its_scale() {
    for (name, scales) in [("patterns", &[1.0, 8.0, 0.125, 8.0 / 12.0][..]), ("rslora", &[4.0][..])] {
        let sandbox = Sandbox::new();
        sandbox.run("reduce -o out --energy 0.8", &[&peft("adapters").join(name)]).ok();
        let config = read_json(&sandbox.path("out/adapter_config.json"));
        assert_eq!(config["use_rslora"], false);
        let of = |pattern: &str, default: &str, path: &str| {
            let (_, end) = path.split_once('.').unwrap();
            let key = end.replace('.', "\\.");
            config[pattern][key].as_f64().unwrap_or(config[default].as_f64().unwrap())
        };
        let weights = read_file(&sandbox.path("out").join(FILE));
        for (tensor, a) in weights.iter().filter(|(tensor, _)| tensor.contains("lora_A")) {
            let path = tensor.trim_start_matches("base_model.model.").trim_end_matches(".lora_A.weight");
            let (rank, alpha) = (of("rank_pattern", "r", path), of("alpha_pattern", "lora_alpha", path));
            assert_eq!(rank as usize, a.shape[0], "{name} {path}");
            assert!(scales.iter().any(|s| (alpha / rank - s).abs() < 1e-12), "{name} {path} {alpha} {rank}");
        }
    }
}

#[test]
fn kohyas_rules_are_known_by_name() {
    let sandbox = Sandbox::new();
    let ranks = |options: &str| -> Vec<u64> {
        let line = format!("reduce -o out --force --json {options}");
        let run = sandbox.run(&line, &[&peft("adapters/plain")]).ok();
        let object: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        object["modules"].as_array().unwrap().iter().map(|m| m["rank"].as_u64().unwrap()).collect()
    };
    for rule in ["sv_ratio=1.5", "sv_fro=0.8", "sv_cumulative=0.5"] {
        let current = ranks(&format!("--kohya {rule}"));
        let legacy = ranks(&format!("--kohya {rule} --kohya-edition legacy"));
        for (current, legacy) in current.iter().zip(legacy) {
            assert!(legacy == (current + 1).min(8), "{rule}: {current} {legacy}");
        }
        assert!(ranks(&format!("--kohya {rule} --rank 2")).iter().all(|rank| *rank <= 2));
    }
}

#[test]
fn the_report() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("reduce -o out --rank 4", &[&fixtures().join("smollm2-orders-lora")]).ok();
    let fits = |line: &str| line.contains("[FIXTURES]") || line.chars().count() <= 100;
    assert!(run.stdout.lines().all(fits), "{}", run.stdout);
    insta::with_settings!({ filters => TIMES.to_vec() }, { insta::assert_snapshot!(run.stdout) });
    let all = sandbox.run("reduce -o again --rank 4 -v -n", &[&fixtures().join("smollm2-orders-lora")]).ok();
    assert!(all.stdout.matches("proj").count() >= 60 && !sandbox.path("again").exists());
}

#[test]
fn dora_keeps_its_magnitudes_and_says_what_the_error_is_of() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("reduce -o out --rank 3", &[&peft("adapters/dora")]).ok();
    insta::assert_snapshot!(run.stderr);
}

#[test]
fn an_error_that_the_rank_does_not_allow() {
    let sandbox = Sandbox::new();
    let plain = peft("adapters/plain");
    let run = sandbox.run("reduce -o out --max-error 0.05 --rank 2", &[&plain]).ok();
    insta::assert_snapshot!(run.stderr, @"warning: `model.layers.1.mlp.up_proj`: its error is 0.804, the largest of the 14 modules above the 0.05 that was asked for: rank 2 is the highest allowed");
}

#[test]
fn refusals() {
    let sandbox = Sandbox::new();
    let plain = peft("adapters/plain");
    let refused = |line: &str, code| {
        let run = sandbox.run(line, &[&plain]);
        assert_eq!(run.code, Some(code), "{}{}", run.stdout, run.stderr);
        assert!(sandbox.entries().is_empty());
        run.stderr
    };
    insta::assert_snapshot!(refused("reduce -o out --budget 100", 2));
    insta::assert_snapshot!(refused("reduce -o out --target-size 1kB", 2));
    insta::assert_snapshot!(refused("reduce -o out --rank 2 --to hf", 2));
    insta::assert_snapshot!(refused("reduce -o out --energy 0.9 --max-error 0.1", 2));
    insta::assert_snapshot!(refused("reduce -o out --kohya sv_rato=2", 2));
    insta::assert_snapshot!(refused("reduce -o out", 2));
    let json: serde_json::Value = serde_json::from_str(&refused("reduce --rank 2 --json", 2)).unwrap();
    assert_eq!(json["error"]["details"], serde_json::json!(["--output <OUT>"]));
    let model = peft("bases/llama-f32");
    insta::assert_snapshot!(sandbox.run("reduce -o out --rank 2", &[&model]).stderr);
    let qa = sandbox.copy(&plain, "qa");
    edit_json(&qa.join("adapter_config.json"), |config| config["use_qalora"] = true.into());
    insta::assert_snapshot!(sandbox.run("reduce -o out --rank 2", &[&qa]).stderr);
}
