//! Two models.

use std::path::Path;

use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::{diff, number, states, text};
use crate::support::{Sandbox, edit_json, fixtures, peft};
use crate::weights::{Tensor, edit_file, read_file};

const MODEL: &str = "model.safetensors";

#[test]
fn a_merge_and_its_base() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.copy(&peft("merged/attn-r4"), "merged");
    insta::assert_snapshot!(text(&sandbox.run("diff base merged", &[]).ok()));
}

/// Every figure, by definition.
#[test]
fn figures_of_a_tensor() {
    let sandbox = Sandbox::new();
    let (base, merged) = (peft("bases/llama-bf16"), peft("merged/plain"));
    let report = diff(&sandbox, &base, &merged, "");
    let (a, b) = (read_file(&base.join(MODEL)), read_file(&merged.join(MODEL)));
    let (mut whole, mut moved) = (0.0, 0.0);
    for tensor in report["tensors"].as_array().unwrap() {
        let name = tensor["name"].as_str().unwrap();
        let (x, y) = (a[name].values(), b[name].values());
        let pairs = || x.iter().zip(&y);
        let off: f64 = pairs().map(|(x, y)| (y - x) * (y - x)).sum();
        let (xx, yy, xy): (f64, f64, f64) =
            (x.iter().map(|v| v * v).sum(), y.iter().map(|v| v * v).sum(), pairs().map(|(x, y)| x * y).sum());
        let near = |found: &Value, expected: f64| {
            assert!((number(found) - expected).abs() < 1e-9, "{name} {found} {expected}");
        };
        near(&tensor["values"]["distance"], (off / xx).sqrt());
        near(&tensor["values"]["cosine"], xy / (xx * yy).sqrt());
        near(&tensor["differing"], pairs().filter(|(x, y)| x != y).count() as f64 / x.len() as f64);
        near(&tensor["largest"], pairs().map(|(x, y)| (y - x).abs()).fold(0.0, f64::max));
        (whole, moved) = (whole + xx, moved + off);
    }
    let distance = number(&report["values"]["distance"]);
    assert!((distance - f64::sqrt(moved / whole)).abs() < 1e-12);
}

/// Two fine-tunes of one base: what they add points where their adapters do.
#[test]
fn what_two_models_add_to_a_base() {
    let sandbox = Sandbox::new();
    let base = sandbox.copy(&peft("bases/llama-bf16"), "base");
    let (plain, second) = (peft("adapters/plain"), peft("adapters/all-r8-second"));
    let one = sandbox.merge(&base, &plain, "one", "--dtype f32");
    let two = sandbox.merge(&base, &second, "two", "--dtype f32");
    let models = diff(&sandbox, &one, &two, "--base base");
    let adapters = diff(&sandbox, &plain, &second, "");
    for figure in ["cosine", "ratio", "a", "b", "distance"] {
        let (x, y) = (number(&models["deltas"][figure]), number(&adapters["deltas"][figure]));
        assert!((x - y).abs() < 1e-5 * (1.0 + y.abs()), "{figure} {x} {y}");
    }
    insta::assert_snapshot!(text(&sandbox.run("diff one two --base base", &[]).ok()));
    // Against itself, and against the base.
    let report = diff(&sandbox, &one, &one, "--base base");
    assert!((number(&report["deltas"]["cosine"]) - 1.0).abs() < 1e-12, "{report}");
    let report = diff(&sandbox, &one, &base, "--base base");
    assert_eq!((&report["deltas"]["cosine"], number(&report["deltas"]["b"])), (&Value::Null, 0.0));
}

/// A base that has nothing in common with A and B is refused; one with little in common gets a note.
#[test]
fn a_base_of_another_model() {
    let sandbox = Sandbox::new();
    let one = sandbox.copy(&peft("bases/llama-bf16"), "one");
    sandbox.copy(&peft("merged/plain"), "two");
    sandbox.copy(&peft("bases/qwen3-moe-bf16"), "wrong");
    insta::assert_snapshot!(sandbox.refused("diff one two --base wrong"));
    let part = sandbox.copy(&one, "part");
    edit_file(&part.join(MODEL), |weights| {
        weights.remove("model.norm.weight").unwrap();
        weights.remove("model.layers.0.mlp.up_proj.weight").unwrap();
    });
    let run = sandbox.run("diff one two --base part --quiet", &[]).ok();
    assert_eq!(run.stderr, "");
    let run = sandbox.run("diff one two --base part", &[]).ok();
    insta::assert_snapshot!(run.stderr);
    let report = diff(&sandbox, &one, &sandbox.path("two"), "--base part");
    assert_eq!(report["base_lacks"], 2);
}

/// Stores the weights of a model as another dtype.
fn as_dtype(model: &Path, dtype: Dtype) {
    edit_file(&model.join(MODEL), |weights| {
        for tensor in weights.values_mut() {
            *tensor = Tensor::new(dtype, &tensor.shape, &tensor.values());
        }
    });
}

/// Names and order of rows are those of Hugging Face, whatever the container; dtypes may differ.
#[test]
fn containers_and_dtypes() {
    let sandbox = Sandbox::new();
    let base = fixtures().join("tiny-orders");
    let convert = |line: &str| sandbox.run(&format!("convert {line}"), &[&base]).ok();
    convert("--to gguf -o same.gguf");
    convert("--to gguf -o f16.gguf --dtype f16");
    as_dtype(&sandbox.copy(&base, "f32"), Dtype::F32);
    sandbox.run("quantize -o q8.gguf --type Q8_0", &[&base]).ok();
    for (name, differs) in [("same.gguf", false), ("f32", false), ("q8.gguf", true)] {
        let report = diff(&sandbox, &base, &sandbox.path(name), "");
        assert_eq!(report["differs"], differs, "{name} {report}");
    }
    let q8 = diff(&sandbox, &sandbox.path("f32"), &sandbox.path("q8.gguf"), "");
    let lost = number(&q8["values"]["distance"]);
    assert!(lost > 1e-4 && lost < 0.01, "{lost}");
    // A rounded tensor is neither the same nor changed.
    let f32s = peft("bases/llama-f32");
    as_dtype(&sandbox.copy(&f32s, "bf16"), Dtype::BF16);
    let report = diff(&sandbox, &f32s, &sandbox.path("bf16"), "");
    assert_eq!(states(&report["tensors"]), "equal 5, recast 16");
    insta::assert_snapshot!(report["message"].as_str().unwrap());
}

/// A head that is not stored because it is the embedding is not a difference; a head of its own is.
#[test]
fn tied_embeddings() {
    let sandbox = Sandbox::new();
    let base = peft("bases/llama-tied-bf16");
    let untied = sandbox.copy(&base, "untied");
    edit_json(&untied.join("config.json"), |config| config["tie_word_embeddings"] = false.into());
    edit_file(&untied.join(MODEL), |weights| {
        let embedding = weights["model.embed_tokens.weight"].clone();
        weights.insert("lm_head.weight".into(), embedding);
    });
    for (a, b) in [(&base, &untied), (&untied, &base)] {
        let report = diff(&sandbox, a, b, "");
        assert_eq!(report["differs"], false, "{report}");
    }
    edit_file(&untied.join(MODEL), |weights| {
        let head = weights.get_mut("lm_head.weight").unwrap();
        let values: Vec<f64> = head.values().iter().map(|v| v * 2.0).collect();
        *head = Tensor::new(head.dtype, &head.shape, &values);
    });
    for (a, b) in [(&base, &untied), (&untied, &base)] {
        assert!(states(&diff(&sandbox, a, b, "")["tensors"]).starts_with("different 1, same"));
    }
}

#[test]
fn configurations_and_tensors_of_one_side() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "a");
    let b = sandbox.copy(&peft("bases/llama-bf16"), "b");
    edit_json(&b.join("config.json"), |config| {
        config["rms_norm_eps"] = 1e-5.into();
        config["new_field"] = true.into();
        config["transformers_version"] = "0.0.1".into();
    });
    let report = diff(&sandbox, &sandbox.path("a"), &b, "");
    assert_eq!(report["differs"], true, "a field that matters");
    edit_file(&b.join(MODEL), |weights| {
        weights.remove("model.norm.weight");
        let old = weights.remove("model.embed_tokens.weight").unwrap();
        let (rows, cols) = (old.shape[0] + 1, old.shape[1]);
        weights.insert(
            "model.embed_tokens.weight".into(),
            Tensor::new(old.dtype, &[rows, cols], &vec![0.5; rows * cols]),
        );
        let mut up = weights["model.layers.0.mlp.up_proj.weight"].values();
        (up[0], up[1]) = (f64::NAN, -f64::NAN);
        let shape = weights["model.layers.0.mlp.up_proj.weight"].shape.clone();
        weights.insert("model.layers.0.mlp.up_proj.weight".into(), Tensor::new(old.dtype, &shape, &up));
        weights.insert("extra.weight".into(), Tensor::new(old.dtype, &[2], &[1.0, 2.0]));
    });
    insta::assert_snapshot!(text(&sandbox.run("diff a b", &[]).ok()));
}

/// The configurations that transformers 4 and 5 write for one model, with defaults that only one of them spells out.
#[test]
fn configurations_that_say_the_same() {
    let sandbox = Sandbox::new();
    let new = sandbox.copy(&fixtures().join("tiny-orders"), "new");
    let old = sandbox.copy(&new, "old");
    edit_json(&old.join("config.json"), |config| {
        let fields = config.as_object_mut().unwrap();
        let said_by_one = [
            "rope_parameters",
            "dtype",
            "attention_dropout",
            "use_cache",
            "initializer_range",
            "pretraining_tp",
        ];
        said_by_one.iter().for_each(|name| drop(fields.remove(*name).unwrap()));
        config["rope_theta"] = 10000.into();
        config["rope_scaling"] = Value::Null;
        config["torch_dtype"] = "bfloat16".into();
        config["transformers_version"] = "4.46.0".into();
    });
    for (a, b) in [(&new, &old), (&old, &new)] {
        let report = diff(&sandbox, a, b, "");
        assert_eq!(report["differs"], false, "{report}");
        assert_eq!(report["configuration"].as_array().unwrap().len(), 5, "{report}");
    }
    insta::assert_snapshot!(text(&sandbox.run("diff old new --exit-code", &[]).ok()));
    // A field that matters, and one that counts although one side lacks it.
    for (edit, said) in
        [("rope_theta", 1e6.into()), ("rope_scaling", json!({"type": "linear", "factor": 2.0}))]
    {
        let other = sandbox.copy(&old, edit);
        edit_json(&other.join("config.json"), |config| config[edit] = said);
        let report = diff(&sandbox, &new, &other, "");
        assert_eq!(report["differs"], true, "{report}");
        let message = report["message"].as_str().unwrap();
        assert!(message.contains(" of the configuration differ"), "{message}");
    }
}

#[test]
fn packed_weights_are_decoded() {
    let sandbox = Sandbox::new();
    let base = peft("bases/llama-bf16");
    sandbox.run("quantize -o nf4 --type nf4", &[&base]).ok();
    let report = diff(&sandbox, &base, &sandbox.path("nf4"), "");
    let lost = number(&report["values"]["distance"]);
    assert!(lost > 0.02 && lost < 0.12, "{lost}");
    assert_eq!(report["b"]["packing"], "bitsandbytes NF4");
    assert_eq!(report["tensors"].as_array().unwrap().len(), 21);
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let sandbox = Sandbox::new();
    let (one, two) = (peft("merged/plain"), peft("merged/all-r8-second"));
    let base = format!("--base {}", peft("bases/llama-bf16").display());
    let reports = [1, 3].map(|n| diff(&sandbox, &one, &two, &format!("{base} --threads {n}")));
    assert_eq!(reports[0], reports[1]);
}
