//! Layers that adapters save whole, in every spelling that PEFT has written; PEFT's merges are the goldens.

use std::path::Path;

use safetensors::tensor::Dtype;
use serde_json::json;

use crate::support::{Sandbox, edit_json, fixtures, read_json};
use crate::weights::{Tensor, Weights, edit_file, read_file};

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";
const PREFIX: &str = "base_model.model.";

fn golden(name: &str) -> std::path::PathBuf {
    fixtures().join("golden/saved").join(name)
}

#[track_caller]
fn assert_close(case: &str, name: &str, found: &Tensor, wanted: &Tensor) {
    assert_eq!((found.dtype, &found.shape), (wanted.dtype, &wanted.shape), "{case}: {name}");
    if found.dtype == Dtype::I64 {
        return assert_eq!(found.bytes, wanted.bytes, "{case}: {name}");
    }
    for (x, y) in found.values().iter().zip(wanted.values()) {
        assert!((x - y).abs() <= 1e-6 * y.abs().max(1.0), "{case}: {name}: {x} instead of {y}");
    }
}

fn merged(sandbox: &Sandbox, base: &Path, adapter: &Path, out: &str) -> Weights {
    read_file(&sandbox.merge(base, adapter, out, "").join("model.safetensors"))
}

/// Input and output embedding of PEFT's merge, and a layer with factors, whether a vocabulary grew or embeddings are one.
#[test]
fn merges_are_those_of_peft() {
    let sandbox = Sandbox::new();
    for kind in ["untied", "tied"] {
        for what in ["layers", "layers-grown", "tokens", "tokens-grown"] {
            let case = format!("{kind}-{what}");
            let found = merged(&sandbox, &golden(kind), &golden(&case), &case);
            let wanted = read_file(&golden(&format!("{case}.merged.safetensors")));
            let config = read_json(&sandbox.path(&case).join("config.json"));
            let tied = config["tie_word_embeddings"] == true;
            assert_eq!(tied, !found.contains_key(HEAD), "{case}");
            assert_eq!(tied, kind == "tied" && what.starts_with("tokens"), "{case}");
            assert_eq!(config["vocab_size"], if what.ends_with("grown") { 14 } else { 12 }, "{case}");
            for (name, wanted) in &wanted {
                let stored = if tied && name == HEAD { EMBEDDING } else { name };
                assert_close(&case, name, &found[stored], wanted);
            }
        }
    }
}

/// A normalisation whose counter is an integer, and a saved layer whose biases are in the file three times.
#[test]
fn integers_and_all_biases_are_those_of_peft() {
    let sandbox = Sandbox::new();
    for case in ["net-integers", "net-biases"] {
        let found = merged(&sandbox, &golden("net"), &golden(case), case);
        let wanted = read_file(&golden(&format!("{case}.merged.safetensors")));
        assert!(found.keys().eq(wanted.keys()), "{case}");
        for (name, wanted) in &wanted {
            assert_close(case, name, &found[name], wanted);
        }
    }
    let counter = &read_file(&sandbox.path("net-integers/model.safetensors"))["norm.num_batches_tracked"];
    assert_eq!(counter.bytes, 3i64.to_le_bytes());
    // Another dtype is for weights; counters stay integers.
    let half = sandbox.merge(&golden("net"), &golden("net-integers"), "half", "--dtype f16");
    let half = read_file(&half.join("model.safetensors"));
    assert_eq!(half["norm.num_batches_tracked"], *counter);
    assert!(half.values().any(|tensor| tensor.dtype == Dtype::F16));
    // Integers hold if they are equal, in PEFT's merge as in ours.
    let line = format!(
        "verify net-integers --base {} --adapter {}",
        golden("net").display(),
        golden("net-integers").display()
    );
    sandbox.run(&line, &[]).ok();
    let merged = sandbox.path("net-integers/model.safetensors");
    for (count, is) in [(4i64, "something else"), (0, "delta missing")] {
        edit_file(&merged, |weights| {
            weights.get_mut("norm.num_batches_tracked").unwrap().bytes = count.to_le_bytes().to_vec();
        });
        let run = sandbox.run(&line, &[]);
        assert_eq!(run.code, Some(1), "{}", run.stdout);
        let row = run.stdout.lines().find(|line| line.starts_with("  norm.num_batches_tracked")).unwrap();
        assert!(row.contains(is), "{row}");
    }
    let report = sandbox.run("inspect --norms --json", &[&golden("net-integers")]).ok().stdout;
    assert!(!report.contains("\"dtype\",\n"), "{report}");
}

/// The same values under every name that PEFT has given them, with copies that do not count beside them.
#[test]
fn every_spelling_means_the_same() {
    let sandbox = Sandbox::new();
    let adapter = golden("untied-layers");
    let wanted = merged(&sandbox, &golden("untied"), &adapter, "wanted");
    let layers = ["lm_head", "model.embed_tokens"];
    for (case, trained, untrained) in [
        ("peft-0.2", "modules_to_save.weight", Some("original_module.weight")),
        ("dump", "modules_to_save.default.weight", Some("original_module.weight")),
        ("dump-of-another", "modules_to_save.style.weight", None),
        ("named", "default.weight", None),
        ("named-otherwise", "style.weight", None),
        ("resized", "weight", Some("modules_to_save.weight")),
    ] {
        let copy = sandbox.copy(&adapter, case);
        edit_file(&copy.join("adapter_model.safetensors"), |weights| {
            for layer in layers {
                let value = weights.remove(&format!("{PREFIX}{layer}.weight")).unwrap();
                if let Some(untrained) = untrained {
                    let other = Tensor::new(Dtype::F32, &value.shape, &vec![0.5; value.values().len()]);
                    weights.insert(format!("{PREFIX}{layer}.{untrained}"), other);
                }
                weights.insert(format!("{PREFIX}{layer}.{trained}"), value);
            }
        });
        let found = merged(&sandbox, &golden("untied"), &copy, &format!("{case}-merged"));
        assert!(found == wanted, "{case}");
        let report = sandbox.run("inspect --json", &[&copy]).ok().stdout;
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let saved = report["reports"][0]["saved"].as_array().unwrap();
        assert_eq!(saved.len(), 2, "{case}: {saved:?}");
    }
}

/// PEFT would not say which of two adapters in one file is meant.
#[test]
fn two_trained_copies_are_refused() {
    let sandbox = Sandbox::new();
    let copy = sandbox.copy(&golden("untied-layers"), "adapter");
    edit_file(&copy.join("adapter_model.safetensors"), |weights| {
        let value = weights.remove(&format!("{PREFIX}lm_head.weight")).unwrap();
        for adapter in ["one", "two"] {
            weights.insert(format!("{PREFIX}lm_head.modules_to_save.{adapter}.weight"), value.clone());
        }
    });
    sandbox.copy(&golden("untied"), "base");
    let said = sandbox.refused("merge base adapter -o out");
    assert!(said.contains("is a second trained copy of the same parameter"), "{said}");
}

/// The embedding goes where PEFT looks for it: inside the wrapper of the token rows.
#[test]
fn a_grown_vocabulary_survives_a_conversion() {
    let sandbox = Sandbox::new();
    let adapter = golden("tied-tokens-grown");
    let wanted = merged(&sandbox, &golden("tied"), &adapter, "wanted");
    sandbox.run("convert --to peft --dtype f32 -o written", &[&adapter]).ok();
    let written = read_file(&sandbox.path("written/adapter_model.safetensors"));
    assert!(
        written.keys().eq(read_file(&adapter.join("adapter_model.safetensors")).keys()),
        "{:?}",
        written.keys()
    );
    let found = merged(&sandbox, &golden("tied"), &sandbox.path("written"), "found");
    assert!(found == wanted);
}

/// A row beyond the vocabulary that the adapter brings along.
#[test]
fn a_token_beyond_the_grown_vocabulary_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.copy(&golden("untied"), "base");
    let copy = sandbox.copy(&golden("untied-tokens-grown"), "adapter");
    edit_json(&copy.join("adapter_config.json"), |config| {
        config["trainable_token_indices"] = json!({"embed_tokens": [11, 14]});
    });
    let said = sandbox.refused("merge base adapter -o out");
    assert!(said.contains("token 14 is trained, and the base has 14"), "{said}");
}

/// TRL saves its value head beside the factors; no model of the base's class has one.
#[test]
fn a_value_head_is_said_to_be_left_out() {
    let sandbox = Sandbox::new();
    let adapter = golden("untied-layers");
    let wanted = merged(&sandbox, &golden("untied"), &adapter, "wanted");
    let copy = sandbox.copy(&adapter, "adapter");
    edit_file(&copy.join("adapter_model.safetensors"), |weights| {
        weights.insert("v_head.summary.weight".into(), Tensor::new(Dtype::F32, &[1, 8], &[1.0; 8]));
        weights.insert("v_head.summary.bias".into(), Tensor::new(Dtype::F32, &[1], &[1.0]));
    });
    let said = sandbox.run("merge -o out", &[&golden("untied"), &copy]).ok().stderr;
    assert!(said.contains("holds a value head, `v_head` (2 tensors)"), "{said}");
    assert!(read_file(&sandbox.path("out/model.safetensors")) == wanted);
    let report = sandbox.run("inspect", &[&copy]).ok().stdout;
    assert!(report.contains("value head"), "{report}");
}
