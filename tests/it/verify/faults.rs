//! Planted faults.

use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use serde_json::Value;

use super::verify;
use crate::support::{Sandbox, edit_json, peft};
use crate::weights::{Tensor, Weights, edit_file, noise, read_file};

const MODEL: &str = "model.safetensors";

/// A base, an adapter and a merge of them, to be spoiled.
struct Merged {
    sandbox: Sandbox,
    base: PathBuf,
    adapter: PathBuf,
    out: PathBuf,
}

impl Merged {
    fn new(base: &str, adapter: &str, options: &str) -> Self {
        let (sandbox, base) = (Sandbox::new(), peft(&format!("bases/{base}")));
        let adapter = sandbox.copy(&peft(&format!("adapters/{adapter}")), "adapter");
        let out = sandbox.merge(&base, &adapter, "merged", options);
        Merged { sandbox, base, adapter, out }
    }

    fn plain() -> Self {
        Self::new("llama-bf16", "plain", "")
    }

    /// Changes tensors of the merged model.
    fn edit(self, edit: impl FnOnce(&mut Weights)) -> Self {
        edit_file(&self.out.join(MODEL), edit);
        self
    }

    #[track_caller]
    fn report_on(&self, merged: &Path) -> Value {
        verify(&self.sandbox, merged, &self.base, &self.adapter.display().to_string())
    }

    /// Asserts the verdict; returns the names of tensors that do not hold, each with its state.
    #[track_caller]
    fn found(&self, verdict: &str) -> Vec<String> {
        let report = self.report_on(&self.out);
        assert_eq!(report["verdict"], verdict, "{report}");
        let bad = report["tensors"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|t| !["kept", "exact", "near", "quantised"].contains(&t["state"].as_str().unwrap()));
        bad.map(|t| format!("{} {}", t["name"].as_str().unwrap(), t["state"].as_str().unwrap())).collect()
    }
}

fn scale(report: &Value) -> f64 {
    report["scale"].as_f64().unwrap()
}

/// No fault: another version of transformers saved the merged model under its own names.
#[test]
fn names_of_another_version_are_the_same_tensors() {
    let merged = Merged::plain().edit(|weights| {
        let renamed = std::mem::take(weights).into_iter().map(|(name, tensor)| {
            let name = match name.strip_prefix("model.") {
                Some(rest) => format!("model.language_model.{rest}"),
                None => name,
            };
            (name, tensor)
        });
        *weights = renamed.collect();
    });
    assert_eq!(merged.found("exact_once"), Vec::<String>::new());
}

#[test]
fn a_wrong_alpha() {
    for factor in [0.5, 1.25, -1.0] {
        let merged = Merged::plain();
        edit_json(&merged.adapter.join("adapter_config.json"), |config| {
            config["lora_alpha"] = (config["lora_alpha"].as_f64().unwrap() / factor).into();
        });
        assert_eq!(merged.found("wrong_scale").len(), 14);
        let found = scale(&merged.report_on(&merged.out));
        assert!((found - factor).abs() < 0.01, "{found} {factor}");
    }
}

/// Rounding swallows most of such deltas, and more in some tensors than in others: no fitted scale is the true one, but
/// only the true one reproduces every value.
#[test]
fn a_wrong_scale_of_deltas_below_a_step() {
    let merged = Merged::plain();
    let weighted = |weight: f64| format!("{}={weight}", merged.adapter.display());
    for (rounding, weight) in [("once", 0.001), ("once", 0.0005), ("once", -0.0005), ("peft-safe", 0.0005)] {
        let options = format!("--force --rounding {rounding}");
        let out = merged.sandbox.merge(&merged.base, Path::new(&weighted(weight)), "small", &options);
        assert_eq!(verify(&merged.sandbox, &out, &merged.base, &weighted(weight))["holds"], true);
        for factor in [2.0, 0.5, 0.7, 1.25, -1.0, 20.0] {
            let report = verify(&merged.sandbox, &out, &merged.base, &weighted(weight / factor));
            assert_eq!(report["verdict"], "wrong_scale", "{weight} {factor} {report}");
            assert!((scale(&report) - factor).abs() < 1e-9, "{weight} {factor} {report}");
            assert!(report["message"].as_str().unwrap().contains("every value agrees"), "{report}");
        }
        // A layer of the base: no single scale explains both.
        let base = read_file(&merged.base.join(MODEL));
        edit_file(&out.join(MODEL), |weights| {
            for (name, tensor) in weights.iter_mut().filter(|(name, _)| name.contains("layers.1.")) {
                *tensor = base[name].clone();
            }
        });
        for factor in [1.0, 0.5] {
            let report = verify(&merged.sandbox, &out, &merged.base, &weighted(weight / factor));
            assert_eq!(report["verdict"], "partly", "{weight} {factor} {report}");
        }
    }
}

#[test]
fn merged_twice() {
    let merged = Merged::plain();
    let twice = merged.sandbox.merge(&merged.out, &merged.adapter, "twice", "");
    let report = merged.report_on(&twice);
    assert_eq!(report["verdict"], "wrong_scale");
    assert_eq!(scale(&report), 2.0);
    assert!(report["message"].as_str().unwrap().contains("merged twice?"), "{report}");
    let half = format!("{}=0.5", merged.adapter.display());
    let report = verify(&merged.sandbox, &twice, &merged.base, &half);
    assert_eq!(report["verdict"], "wrong_scale");
    assert!((scale(&report) - 4.0).abs() < 0.01, "{report}");
}

#[test]
fn an_untouched_copy() {
    let merged = Merged::plain();
    let report = merged.report_on(&merged.base);
    assert_eq!((report["verdict"].as_str(), scale(&report)), (Some("adapter_missing"), 0.0));
}

#[test]
fn one_layer_missing() {
    let merged = Merged::plain();
    let base = read_file(&merged.base.join(MODEL));
    let merged = merged.edit(|weights| {
        for (name, tensor) in weights.iter_mut().filter(|(name, _)| name.contains("layers.1.self_attn")) {
            *tensor = base[name].clone();
        }
    });
    let bad = merged.found("partly");
    assert_eq!(bad.len(), 4);
    assert!(
        bad.iter().all(|t| t.starts_with("model.layers.1.self_attn") && t.ends_with(" missing")),
        "{bad:?}"
    );
}

#[test]
fn deltas_rounded_first() {
    assert!(Merged::new("llama-bf16", "plain", "--rounding peft-safe").found("exact_twice").is_empty());
    assert!(Merged::new("llama-bf16", "embed", "--rounding peft").found("exact_mixed").is_empty());
}

/// One step up or down in some values is within rounding; a larger change in one tensor is not.
#[test]
fn other_kernels() {
    let nudge = |by: u16| {
        move |weights: &mut Weights| {
            let tensor = weights.get_mut("model.layers.0.mlp.up_proj.weight").unwrap();
            for word in tensor.bytes.chunks_exact_mut(2).step_by(7) {
                let bits = u16::from_le_bytes([word[0], word[1]]) ^ by;
                word.copy_from_slice(&bits.to_le_bytes());
            }
        }
    };
    assert!(Merged::plain().edit(nudge(1)).found("within_rounding").is_empty());
    assert_eq!(
        Merged::plain().edit(nudge(0x8000)).found("partly"),
        ["model.layers.0.mlp.up_proj.weight other"]
    );
}

/// One value out of many thousands that is not the sum.
#[test]
fn a_single_value() {
    let name = "model.layers.0.mlp.up_proj.weight";
    for value in [f64::NAN, f64::MAX, 100.0, 0.5] {
        let edit = |weights: &mut Weights| {
            let tensor = weights.get_mut(name).unwrap();
            let mut values = tensor.values();
            values[77] = value;
            *tensor = Tensor::new(tensor.dtype, &tensor.shape.clone(), &values);
        };
        let (verdict, state) =
            if value.is_nan() { ("non_finite", "non_finite") } else { ("partly", "other") };
        assert_eq!(Merged::plain().edit(edit).found(verdict), [format!("{name} {state}")], "{value}");
    }
}

#[test]
fn another_base() {
    let mut merged = Merged::plain();
    let other = merged.sandbox.copy(&merged.base, "other");
    edit_file(&other.join(MODEL), |weights| {
        for (seed, tensor) in weights.values_mut().enumerate() {
            *tensor =
                Tensor::new(tensor.dtype, &tensor.shape, &noise(seed as u64, tensor.bytes.len() / 2, 0.1));
        }
    });
    merged.base = other;
    assert_eq!(merged.found("other_base").len(), 21);
}

#[test]
fn another_adapter() {
    let mut merged = Merged::plain();
    merged.adapter = peft("adapters/all-r8-second");
    assert_eq!(merged.found("other_adapter").len(), 14);
}

#[test]
fn a_quantised_merge() {
    for kind in ["int8", "fp8", "nf4"] {
        let merged = Merged::new("llama-bf16", "plain", &format!("--quantize {kind}"));
        assert!(merged.found("exact_once").is_empty(), "{kind}");
        let base = merged.sandbox.merge(
            &merged.base,
            &merged.adapter,
            "half",
            &format!("--quantize {kind} --force"),
        );
        edit_json(&merged.adapter.join("adapter_config.json"), |config| {
            config["lora_alpha"] = (config["lora_alpha"].as_f64().unwrap() * 2.0).into();
        });
        let report = merged.report_on(&base);
        assert_eq!(report["verdict"], "wrong_scale", "{kind}");
        assert!((scale(&report) - 0.5).abs() < 0.02, "{kind}");
    }
}

#[test]
fn swapped_experts() {
    let [first, second] = [0, 1].map(|i| format!("model.layers.0.mlp.experts.{i}.gate_proj.weight"));
    let bad = Merged::new("qwen3-moe-bf16", "moe-params", "").edit(|weights| {
        let tensors = (weights[&first].clone(), weights[&second].clone());
        weights.insert(first.clone(), tensors.1);
        weights.insert(second.clone(), tensors.0);
    });
    assert_eq!(bad.found("partly"), [format!("{first} other"), format!("{second} other")]);
}

#[test]
fn tensors_that_no_adapter_touches() {
    let norm = "model.norm.weight";
    let bad = Merged::plain().edit(|weights| {
        let tensor = weights[norm].clone();
        weights
            .insert(norm.into(), Tensor::new(Dtype::BF16, &tensor.shape, &vec![0.5; tensor.bytes.len() / 2]));
    });
    assert_eq!(bad.found("changed"), [format!("{norm} changed")]);
    let bad = Merged::plain().edit(|weights| drop(weights.remove(norm)));
    assert_eq!(bad.found("incomplete"), [format!("{norm} absent")]);
    let bad = Merged::plain().edit(|weights| {
        let tensor = weights[norm].clone();
        weights.insert("extra.weight".into(), tensor);
    });
    assert_eq!(bad.found("changed"), ["extra.weight extra"]);
}

#[test]
fn an_adapter_as_the_model() {
    let merged = Merged::plain();
    merged.sandbox.copy(&merged.base, "base");
    let run = merged.sandbox.run("verify adapter --base base --adapter merged", &[]);
    assert_eq!(run.code, Some(1));
    insta::assert_snapshot!(run.stderr);
}

#[test]
fn the_report_of_a_fault() {
    let merged = Merged::plain();
    merged.sandbox.copy(&merged.base, "base");
    let run = merged.sandbox.run("verify merged --base base --adapter adapter=0.5", &[]);
    assert_eq!(run.code, Some(1));
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 100), "{}", run.stdout);
    insta::assert_snapshot!(format!("{}{}", run.stdout, run.stderr));
}
