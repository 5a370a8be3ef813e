//! Other prefixes of paths.

use std::fs;

use serde_json::json;

use super::{FILE, bases, parts, report};
use crate::support::{Sandbox, edit_json, entries, peft, read_json};
use crate::weights::{Weights, edit_file, read_file, read_folder};

/// The names of a base with another prefix.
fn prefixed(weights: Weights, old: &str, new: &str) -> Weights {
    let name = |name: String| name.strip_prefix(old).map_or(name.clone(), |rest| format!("{new}{rest}"));
    weights.into_iter().map(|(key, tensor)| (name(key), tensor)).collect()
}

#[test]
fn a_renamed_adapter_fits_the_renamed_base() {
    let sandbox = Sandbox::new();
    for (case, base) in bases() {
        let case = case.as_str();
        if !["plain", "patterns", "modules-to-save", "embed", "lora-bias", "dora", "token-indices"]
            .contains(&case)
        {
            continue;
        }
        let base = sandbox.copy(&peft("bases").join(base), &format!("{case}-b"));
        sandbox.copy(&peft("adapters").join(case), case);
        let merged = read_folder(&sandbox.merge(&base, &sandbox.path(case), &format!("{case}-m"), ""));
        let line = format!("{case} -o {case}-r --rename-prefix model=inner.text.model --lineage never");
        let report = report(&sandbox, &line);
        assert_eq!(report["max_error"], 0.0, "{case}");
        assert_eq!(report["rounding"], json!(null));
        let renamed = sandbox.copy(&base, &format!("{case}-base"));
        edit_file(&renamed.join("model.safetensors"), |weights| {
            *weights = prefixed(std::mem::take(weights), "model.", "inner.text.model.");
        });
        let out = format!("{case}-rm");
        let found = read_folder(&sandbox.merge(&renamed, &sandbox.path(&format!("{case}-r")), &out, ""));
        assert!(found == prefixed(merged, "model.", "inner.text.model."), "{case}");
        // Only names changed.
        let file = |folder: &str| parts(&sandbox.path(folder).join(FILE)).1;
        assert!(file(case) == file(&format!("{case}-r")), "{case}");
    }
}

#[test]
fn there_and_back_gives_the_same_files() {
    for name in entries(&peft("adapters")) {
        if !peft("adapters").join(&name).join(FILE).exists() || name == "gpt2" {
            continue;
        }
        let sandbox = Sandbox::new();
        sandbox.copy(&peft("adapters").join(&name), "adapter");
        sandbox.run("edit adapter -o there --rename-prefix =outer --lineage never", &[]).ok();
        sandbox.run("edit there -o back --rename-prefix outer= --lineage never", &[]).ok();
        for file in [FILE, "adapter_config.json"] {
            let read = |folder: &str| fs::read(sandbox.path(folder).join(file)).unwrap();
            assert!(read("adapter") == read("back"), "{name}: {file}");
        }
    }
}

/// Whole paths in the configuration, as lists, patterns and expressions spell them.
#[test]
fn the_configuration_follows() {
    let sandbox = Sandbox::new();
    let adapter = sandbox.copy(&peft("adapters/plain"), "adapter");
    let (q, up) = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj");
    edit_json(&adapter.join("adapter_config.json"), |config| {
        config["target_modules"] =
            json!([q, "v_proj", up, "k_proj", "o_proj", "gate_proj", "down_proj", "q_proj", "up_proj"]);
        config["alpha_pattern"] = json!({ q: 4, "^model\\.layers\\.1\\.mlp\\.up_proj": 32, "v_proj": 2 });
        config["rank_pattern"] = json!({ "model\\.layers\\.(0|1)\\..*": 8 });
    });
    let report = report(&sandbox, "adapter -o out --rename-prefix model=language_model.model");
    assert_eq!(report["max_error"], 0.0);
    let config = read_json(&sandbox.path("out/adapter_config.json"));
    insta::assert_snapshot!(
        [&config["target_modules"], &config["alpha_pattern"], &config["rank_pattern"]]
            .map(ToString::to_string).join("\n"),
        @r#"
        ["language_model.model.layers.0.self_attn.q_proj","v_proj","language_model.model.layers.1.mlp.up_proj","k_proj","o_proj","gate_proj","down_proj","q_proj","up_proj"]
        {"language_model.model.layers.0.self_attn.q_proj":4,"^language_model\\.model\\.layers\\.1\\.mlp\\.up_proj":32,"v_proj":2}
        {"language_model\\.model\\.layers\\.(0|1)\\..*":8}
        "#
    );

    // An expression for whole paths, which PEFT matches from the beginning.
    edit_json(&adapter.join("adapter_config.json"), |config| {
        config["target_modules"] = r"model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj".into();
    });
    sandbox.run("edit adapter -o expression --rename-prefix model=m", &[]).ok();
    let config = read_json(&sandbox.path("expression/adapter_config.json"));
    assert_eq!(config["target_modules"], r"m\.layers\.\d+\.(self_attn|mlp)\.\w+_proj");
    edit_json(&adapter.join("adapter_config.json"), |config| {
        config["target_modules"] = r"(?:model|other)\.layers\.\d+\.(self_attn|mlp)\.\w+_proj".into();
    });
    let run = sandbox.run("edit adapter -o listed --rename-prefix model=m", &[]).ok();
    assert_eq!(run.stderr, "note: `target_modules` lists 14 modules by their whole paths\n");
    let config = read_json(&sandbox.path("listed/adapter_config.json"));
    assert_eq!(config["target_modules"][0], "m.layers.0.mlp.down_proj");
    let names = read_file(&sandbox.path("listed").join(FILE));
    assert!(names.keys().all(|name| name.starts_with("base_model.model.m.layers.")));
}
