//! `lorakit extract`: merges of PEFT taken apart and put together again, reports, refusals.

use std::path::Path;

use serde_json::Value;

use crate::support::{Sandbox, TIMES, entries, fixtures, peft, read_json};
use crate::weights::read_folder;

/// The report on an extraction to `out`.
#[track_caller]
fn extract(sandbox: &Sandbox, base: &Path, tuned: &Path, options: &str) -> Value {
    let run = sandbox.run(&format!("extract -o out --force --json {options}"), &[base, tuned]).ok();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["schema"], "lorakit.extract/1");
    report
}

/// Every merge of PEFT, whatever its adapter: factors of full rank, merged into the base again, make the same model.
#[test]
fn what_is_taken_apart_goes_together_again() {
    let sandbox = Sandbox::new();
    let cases = read_json(&fixtures().join("golden/peft/peft.json"));
    for name in entries(&peft("merged")) {
        let base = peft(&format!("bases/{}", cases["cases"][&name]["base"].as_str().unwrap()));
        let tuned = peft("merged").join(&name);
        let report = extract(&sandbox, &base, &tuned, "--rank 512");
        assert!(report["residual"].as_f64().unwrap() < 1e-6, "{name}: {}", report["residual"]);
        let again = sandbox.merge(&base, &sandbox.path("out"), "again", "--force");
        let (found, meant) = (read_folder(&again), read_folder(&tuned));
        assert!(found.keys().eq(meant.keys()), "{name}");
        for (tensor, meant) in &meant {
            let (x, y) = (found[tensor].values(), meant.values());
            // In F32 the order of the sum shows; sixteen bits round that away, except near a tie.
            let near = |(x, y): (&f64, &f64)| (x - y).abs() <= 2e-6 * y.abs().max(1.0);
            let off = x.iter().zip(&y).filter(|pair| !near(*pair)).count();
            assert!(off * 1000 <= x.len(), "{name} {tensor}: {off} of {}", x.len());
        }
    }
}

/// The rank of an adapter is found in a merge of sixteen bits, and its deltas are within the noise.
#[test]
fn the_rank_of_a_real_adapter_is_found() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (fixtures().join("tiny-orders"), fixtures().join("tiny-json-lora"));
    let tuned = sandbox.merge(&base, &adapter, "tuned", "");
    let report = extract(&sandbox, &base, &tuned, "--auto");
    let ranks: Vec<u64> =
        report["changes"].as_array().unwrap().iter().map(|c| c["rank"].as_u64().unwrap()).collect();
    assert_eq!(ranks.len(), 28);
    assert!(ranks.iter().all(|rank| *rank == 8), "{ranks:?}");
    let (residual, rounding) = (&report["residual"], &report["rounding"]);
    assert!(residual.as_f64().unwrap() < 1.05 * rounding.as_f64().unwrap(), "{residual} {rounding}");
    let line = format!("verify --adapter out --base {}", base.display());
    assert!(!sandbox.run(&line, &[&tuned]).stdout.contains("adapter missing"));
}

/// Everything goes where PEFT looks for it.
#[test]
fn configurations() {
    let sandbox = Sandbox::new();
    let mut found = String::new();
    for (name, base, options) in [
        ("plain", "llama-bf16", ""),
        ("modules-to-save", "llama-bf16", ""),
        ("lora-bias", "qwen2-bf16", ""),
        ("gpt2", "gpt2-f32", ""),
        ("tied-embed", "llama-tied-bf16", ""),
        ("tied-embed", "llama-tied-bf16", "--embeddings factors"),
        ("layers-subset", "llama-bf16", ""),
    ] {
        extract(
            &sandbox,
            &peft("bases").join(base),
            &peft("merged").join(name),
            &format!("--rank 4 {options}"),
        );
        found += &format!("{name} {options}\n");
        let config = read_json(&sandbox.path("out/adapter_config.json"));
        for field in [
            "bias",
            "ensure_weight_tying",
            "fan_in_fan_out",
            "modules_to_save",
            "target_modules",
            "task_type",
        ] {
            if !config[field].is_null() {
                found += &format!("  {field}: {}\n", config[field]);
            }
        }
        for tensor in read_folder(&sandbox.path("out")).keys().filter(|name| !name.contains("lora_")).take(4)
        {
            found += &format!("  {tensor}\n");
        }
    }
    insta::assert_snapshot!(found);
}

#[test]
fn the_report() {
    let sandbox = Sandbox::new();
    let base = sandbox.copy(&peft("bases/llama-bf16"), "base");
    let tuned = sandbox.copy(&peft("merged/modules-to-save"), "tuned");
    let run =
        sandbox.run("extract base tuned -o out --auto --skip layers.1.input --embeddings skip", &[]).ok();
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 100), "{}", run.stdout);
    insta::with_settings!({ filters => TIMES.to_vec() }, {
        insta::assert_snapshot!(format!("{}\n{}", run.stdout, run.stderr));
    });
    let run = sandbox.run("extract -o dry --rank 2 -n -v", &[&base, &tuned]).ok();
    assert!(run.stdout.contains("would write") && !sandbox.path("dry").exists(), "{}", run.stdout);
}

/// Other formats, and models of other formats.
#[test]
fn formats() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (fixtures().join("tiny-orders"), fixtures().join("tiny-upper-lora"));
    let tuned = sandbox.merge(&base, &adapter, "tuned", "--dtype f32");
    sandbox.run("convert --to gguf -o base.gguf", &[&base]).ok();
    sandbox.run("convert --to gguf -o tuned.gguf", &[&tuned]).ok();
    for (base, tuned, options) in [
        (base.as_path(), tuned.as_path(), "-o peft"),
        (&base, &tuned, "-o adapter.gguf --to gguf --dtype f16"),
        (&base, &tuned, "-o mlx --to mlx"),
        (&sandbox.path("base.gguf"), &sandbox.path("tuned.gguf"), "-o of-gguf"),
        (&base, &sandbox.path("tuned.gguf"), "-o mixed"),
    ] {
        let line = format!("extract --rank 16 --json {options}");
        let run = sandbox.run(&line, &[base, tuned]).ok();
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        assert!(report["residual"].as_f64().unwrap() < 1e-3, "{options}: {}", report["residual"]);
    }
}

#[test]
fn refusals() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.copy(&peft("merged/plain"), "tuned");
    sandbox.copy(&peft("bases/qwen2-bf16"), "qwen");
    sandbox.copy(&peft("adapters/plain"), "adapter");
    sandbox.copy(&peft("merged/modules-to-save"), "saved");
    for (name, line) in [
        ("no rule", "extract base tuned -o out"),
        ("two rules", "extract base tuned -o out --auto --energy 0.9"),
        ("the same", "extract base base -o out --auto"),
        ("another family", "extract qwen tuned -o out --auto"),
        ("an adapter", "extract base adapter -o out --auto"),
        ("over an input", "extract base tuned -o tuned --auto --force"),
        ("a pattern", "extract base tuned -o out --auto --skip ("),
        ("nothing left", "extract base tuned -o out --auto --skip proj"),
        ("a dtype", "extract base tuned -o out.gguf --to gguf --rank 2 --dtype q8_0"),
        ("no place for norms", "extract base saved -o out.gguf --to gguf --rank 2"),
    ] {
        insta::assert_snapshot!(name.replace(' ', "_"), sandbox.refused(line));
    }
}
