//! Two adapters.

use safetensors::tensor::Dtype;

use super::{diff, number, states, text};
use crate::support::{Sandbox, edit_json, entries, fixtures, peft, read_json};
use crate::weights::{Tensor, edit_file};

const FILE: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";

/// Every kind of adapter equals itself, and its copy in each format that can hold it.
#[test]
fn the_same_in_any_format() {
    let cases = read_json(&fixtures().join("golden/peft/peft.json"));
    let mut compared = 0;
    for name in entries(&peft("adapters")) {
        let adapter = peft("adapters").join(&name);
        let base = peft(&format!("bases/{}", cases["cases"][&name]["base"].as_str().unwrap()));
        for (format, out) in [("peft", "p"), ("mlx", "m"), ("torchtune", "t"), ("gguf", "a.gguf")] {
            let (sandbox, option) = (Sandbox::new(), format!("--base {}", base.display()));
            let run = sandbox.run(&format!("convert -o {out} --to {format} --force {option}"), &[&adapter]);
            if run.code != Some(0) {
                continue;
            }
            let report = diff(&sandbox, &adapter, &sandbox.path(out), &option);
            assert_eq!(report["differs"], false, "{name} {format} {report}");
            compared += 1;
        }
    }
    assert!(compared > 40, "{compared}");
}

#[test]
fn a_format_that_needs_the_base() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.copy(&peft("adapters/plain"), "adapter");
    sandbox.run("convert adapter -o a.gguf --to gguf --base base", &[]).ok();
    insta::assert_snapshot!(text(&sandbox.run("diff adapter a.gguf --base base", &[]).ok()));
    let run = sandbox.run("diff adapter a.gguf", &[]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    assert!(run.stderr.contains("--base"), "{}", run.stderr);
}

/// The scale differs in the configuration, or in the factors.
#[test]
fn a_scaled_adapter() {
    let sandbox = Sandbox::new();
    let adapter = peft("adapters/plain");
    sandbox.copy(&adapter, "adapter");
    let twice = sandbox.copy(&adapter, "twice");
    edit_json(&twice.join(CONFIG), |config| config["lora_alpha"] = 32.into());
    insta::assert_snapshot!(text(&sandbox.run("diff adapter twice", &[]).ok()));
    // The scale of one is in the factors of the other: not a difference.
    edit_file(&twice.join(FILE), |weights| {
        for (_, b) in weights.iter_mut().filter(|(name, _)| name.contains("lora_B")) {
            let half: Vec<f64> = b.values().iter().map(|v| v / 2.0).collect();
            *b = Tensor::new(b.dtype, &b.shape, &half);
        }
    });
    let report = diff(&sandbox, &adapter, &twice, "");
    assert_eq!(states(&report["modules"]), "equal 14");
    // A module of zeros is any multiple of itself.
    for name in ["adapter", "negative"] {
        let copy = sandbox.copy(&adapter, name);
        edit_file(&copy.join(FILE), |weights| {
            let (_, b) = weights.iter_mut().find(|(name, _)| name.contains("lora_B")).unwrap();
            *b = Tensor::new(b.dtype, &b.shape, &vec![0.0; b.shape.iter().product()]);
        });
    }
    let (adapter, negative) = (sandbox.path("adapter"), sandbox.path("negative"));
    edit_json(&negative.join(CONFIG), |config| config["lora_alpha"] = (-8).into());
    let report = diff(&sandbox, &adapter, &negative, "");
    assert!((number(&report["factor"]) + 0.5).abs() < 1e-12, "{report}");
}

/// The distance is the error that `reduce` reports, for each module and overall.
#[test]
fn a_reduced_adapter() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/plain"), "adapter");
    let run = sandbox.run("reduce adapter -o reduced --rank 3 --json", &[]).ok();
    let reduced: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let report = diff(&sandbox, &sandbox.path("adapter"), &sandbox.path("reduced"), "");
    let near = |x: f64, y: f64| assert!((x - y).abs() < 1e-9, "{x} {y}");
    near(number(&report["deltas"]["distance"]), number(&reduced["error"]));
    for (found, expected) in
        report["modules"].as_array().unwrap().iter().zip(reduced["modules"].as_array().unwrap())
    {
        assert_eq!(found["module"], expected["module"]);
        near(number(&found["deltas"]["distance"]), number(&expected["error"]));
    }
    insta::assert_snapshot!(text(&sandbox.run("diff adapter reduced", &[]).ok()));
}

/// `extract` on a merge returns the adapter that was merged.
#[test]
fn an_extracted_adapter() {
    let sandbox = Sandbox::new();
    let base = sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.merge(&base, &peft("adapters/plain"), "tuned", "--dtype f32");
    sandbox.run("extract base tuned -o extracted --rank 8", &[]).ok();
    let report = diff(&sandbox, &peft("adapters/plain"), &sandbox.path("extracted"), "");
    assert_eq!(report["modules"].as_array().unwrap().len(), 14);
    assert!(number(&report["deltas"]["distance"]) < 1e-5, "{report}");
}

#[test]
fn rounded_to_16_bits() {
    let sandbox = Sandbox::new();
    sandbox.run("convert -o half --to peft --dtype f16", &[&peft("adapters/f32")]).ok();
    let report = diff(&sandbox, &peft("adapters/f32"), &sandbox.path("half"), "");
    assert_eq!(states(&report["modules"]), "recast 14");
    assert_eq!(report["message"], "the same deltas within the rounding of their dtypes");
}

#[test]
fn dora_and_plain() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/dora"), "dora");
    sandbox.copy(&peft("adapters/plain"), "plain");
    insta::assert_snapshot!(text(&sandbox.run("diff dora plain", &[]).ok()));
    let longer = sandbox.copy(&peft("adapters/dora"), "longer");
    edit_file(&longer.join(FILE), |weights| {
        let magnitude = weights.iter_mut().find(|(name, _)| name.contains("magnitude")).unwrap().1;
        let values: Vec<f64> = magnitude.values().iter().map(|v| v * 2.0).collect();
        *magnitude = Tensor::new(magnitude.dtype, &magnitude.shape, &values);
    });
    let report = diff(&sandbox, &sandbox.path("dora"), &longer, "");
    let parameters = report["tensors"].as_array().unwrap();
    assert_eq!(states(&report["modules"]), format!("same {}", parameters.len()));
    let changed: Vec<_> = parameters.iter().filter(|p| p["state"] == "different").collect();
    assert_eq!(changed.len(), 1);
    assert!((number(&changed[0]["values"]["distance"]) - 1.0).abs() < 1e-2, "{}", changed[0]);
}

#[test]
fn parameters_that_are_stored_whole() {
    let sandbox = Sandbox::new();
    for name in ["modules-to-save", "token-indices", "lora-bias"] {
        let (one, two) = (peft("adapters").join(name), sandbox.copy(&peft("adapters").join(name), name));
        let report = diff(&sandbox, &one, &two, "");
        assert!(report["tensors"].as_array().unwrap().iter().all(|p| p["state"] == "same"), "{report}");
        edit_file(&two.join(FILE), |weights| {
            let whole = |name: &str| !name.contains("lora_") || name.ends_with(".bias");
            let tensor = weights.iter_mut().find(|(name, _)| whole(name)).unwrap().1;
            let values: Vec<f64> = tensor.values().iter().map(|v| v + 1.0).collect();
            *tensor = Tensor::new(tensor.dtype, &tensor.shape, &values);
        });
        let report = diff(&sandbox, &one, &two, "");
        assert!(states(&report["tensors"]).contains("different 1"), "{name} {report}");
        assert_eq!(states(&report["modules"]).split(' ').next(), Some("same"), "{name}");
    }
}

#[test]
fn modules_that_are_missing_or_of_another_shape() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/plain"), "one");
    let two = sandbox.copy(&peft("adapters/all-r8-second"), "two");
    edit_json(&two.join(CONFIG), |config| {
        config["use_rslora"] = true.into();
        config["base_model_name_or_path"] = "another/model".into();
        config["target_modules"] = serde_json::json!(["q_proj", "k_proj", "gate"]);
    });
    edit_file(&two.join(FILE), |weights| {
        weights.retain(|name, _| !name.contains("layers.1.self_attn.q_proj"));
        let name = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight";
        let rank = weights[name].shape[0];
        weights.insert(name.into(), Tensor::new(Dtype::BF16, &[rank, 5], &vec![0.25; rank * 5]));
    });
    insta::assert_snapshot!(text(&sandbox.run("diff one two", &[]).ok()));
}

#[test]
fn nothing_in_common() {
    let sandbox = Sandbox::new();
    let report = diff(&sandbox, &peft("adapters/gpt2"), &peft("adapters/plain"), "");
    assert!(report["message"].as_str().unwrap().starts_with("no module in common"), "{report}");
    assert_eq!(report["deltas"]["cosine"], 0.0);
}

#[test]
fn values_that_are_no_numbers() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/attn-r4"), "one");
    let two = sandbox.copy(&peft("adapters/attn-r4"), "two");
    edit_file(&two.join(FILE), |weights| {
        let (_, b) = weights.iter_mut().find(|(name, _)| name.contains("lora_B")).unwrap();
        let mut values = b.values();
        values[3] = f64::NAN;
        *b = Tensor::new(b.dtype, &b.shape, &values);
    });
    insta::assert_snapshot!(text(&sandbox.run("diff one two", &[]).ok()));
}

/// Ranks that were chosen module by module.
#[test]
fn ranks_that_differ() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/plain"), "plain");
    sandbox.run("reduce plain -o reduced --energy 0.8", &[]).ok();
    let other = sandbox.copy(&sandbox.path("reduced"), "other");
    insta::assert_snapshot!(text(&sandbox.run("diff plain reduced", &[]).ok()));
    edit_json(&other.join(CONFIG), |config| {
        config["alpha_pattern"].as_object_mut().unwrap().values_mut().for_each(|alpha| *alpha = 1.into());
    });
    let report = diff(&sandbox, &sandbox.path("reduced"), &other, "");
    let fields = report["configuration"].as_array().unwrap();
    assert_eq!(fields.len(), 1, "{report}");
    assert!(fields[0]["b"].as_str().unwrap().ends_with(" modules, other values"), "{report}");
}
