//! Numbers of the JSON report against an independent computation in f64.

use std::fs;

use serde_json::{Value, json};

use super::Case;
use crate::support::{Sandbox, peft};
use crate::weights::{Matrix, Weights, read_folder};

/// Largest relative difference of a norm; both are sums in f64, in different orders.
const TOLERANCE: f64 = 1e-9;

fn norm(matrix: &Matrix) -> f64 {
    matrix.values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The factors of a module, in the three spellings of PEFT.
fn factors(weights: &Weights, path: &str) -> (Matrix, Matrix) {
    let find = |half: &str| {
        let names = [format!("lora_{half}.weight"), format!("lora_embedding_{half}")];
        let mut tensors = names.iter().filter_map(|n| weights.get(&format!("base_model.model.{path}.{n}")));
        tensors.next().unwrap().matrix()
    };
    (find("A"), find("B"))
}

/// The columns of `matrix` that `keep` accepts.
fn columns(matrix: &Matrix, keep: impl Fn(usize) -> bool) -> Matrix {
    let kept: Vec<usize> = (0..matrix.cols).filter(|&c| keep(c)).collect();
    Matrix::from_fn(matrix.rows, kept.len(), |row, col| matrix.at(row, kept[col]))
}

/// The norm of all of a module's deltas. `A` stacks the factors of experts; the columns of `B` are theirs in turn.
fn delta_norm(a: &Matrix, b: &Matrix, scale: f64, experts: usize) -> f64 {
    let rank = a.rows / experts;
    let one = |expert: usize| {
        let rows = Matrix::from_fn(rank, a.cols, |row, col| a.at(expert * rank + row, col));
        norm(&columns(b, |c| c % experts == expert).times(&rows)).powi(2)
    };
    scale * (0..experts).map(one).sum::<f64>().sqrt()
}

#[track_caller]
fn assert_close(found: &Value, wanted: f64, what: &str) {
    let found = found.as_f64().unwrap_or_else(|| panic!("{what}: {found}"));
    assert!((found / wanted - 1.0).abs() < TOLERANCE, "{what}: {found} for {wanted}");
}

#[test]
fn members() {
    let report = Case::new("plain").json("");
    assert_eq!(
        keys(&report),
        [
            "kind",
            "path",
            "file",
            "bytes",
            "methods",
            "ranks",
            "alphas",
            "scales",
            "parameters",
            "tensors",
            "dtypes",
            "base_model",
            "format",
            "peft_version",
            "lineage",
            "task",
            "init",
            "values_read",
            "fit",
            "for",
            "modules",
            "saved",
            "deltas",
            "token_rows",
            "findings"
        ]
    );
    assert_eq!(
        keys(&report["modules"][0]),
        [
            "module",
            "layer",
            "leaf",
            "method",
            "rank",
            "experts",
            "alpha",
            "scale",
            "a",
            "b",
            "bias",
            "norm",
            "relative_norm",
            "targets"
        ]
    );
    assert_eq!(
        (&report["kind"], &report["values_read"], &report["fit"]),
        (&json!("adapter"), &json!(false), &Value::Null)
    );
    assert!(report["modules"].as_array().unwrap().iter().all(|m| m["norm"].is_null()));
}

#[test]
fn sizes() {
    for name in
        ["plain", "dora", "patterns", "embed", "moe-params", "modules-to-save", "token-indices", "lora-bias"]
    {
        let case = Case::new(name);
        let weights = read_folder(&case.sandbox.path("adapter"));
        let report = case.json("");
        let parameters: usize = weights.values().map(|t| t.shape.iter().product::<usize>()).sum();
        assert_eq!(
            (&report["parameters"], &report["tensors"]),
            (&json!(parameters), &json!(weights.len())),
            "{name}"
        );
        let file = case.sandbox.path("adapter/adapter_model.safetensors");
        assert_eq!(report["bytes"], fs::metadata(file).unwrap().len(), "{name}");
        let bytes: usize = weights.values().map(|t| t.bytes.len()).sum();
        let counted: u64 =
            report["dtypes"].as_array().unwrap().iter().map(|d| d["bytes"].as_u64().unwrap()).sum();
        assert_eq!(counted, bytes as u64, "{name}");
    }
}

#[test]
fn norms() {
    for name in ["plain", "dora", "patterns", "rslora", "f16", "embed", "moe-params", "gpt2"] {
        let case = Case::new(name);
        let weights = read_folder(&case.sandbox.path("adapter"));
        let modules = case.json("--norms")["modules"].as_array().unwrap().clone();
        assert!(!modules.is_empty());
        for module in modules {
            let path = module["module"].as_str().unwrap();
            // PEFT nests the parameters of experts, the first one innermost.
            let wrapper = path.replace("experts.gate_up_proj", "experts.base_layer");
            let (a, b) = factors(&weights, &wrapper.replace("experts.down_proj", "experts"));
            let experts = module["experts"].as_u64().unwrap_or(1) as usize;
            assert_eq!(module["rank"], a.rows / experts, "{name} {path}");
            let (alpha, rank) = (module["alpha"].as_f64().unwrap(), module["rank"].as_f64().unwrap());
            let scale = if name == "rslora" { alpha / rank.sqrt() } else { alpha / rank };
            assert_close(&module["scale"], scale, path);
            assert_close(&module["norm"], delta_norm(&a, &b, scale, experts), &format!("{name} {path}"));
        }
    }
}

#[test]
fn relative_norms() {
    for (name, base) in [("plain", "llama-bf16"), ("f16", "llama-f16"), ("moe-params", "qwen3-moe-bf16")] {
        let case = Case::new(name).with_base(base);
        let weights = read_folder(&case.sandbox.path("base"));
        let report = case.json("--base base");
        let mut changed = 0;
        for module in report["modules"].as_array().unwrap() {
            let targets = module["targets"].as_array().unwrap();
            changed += targets.len();
            let squares = targets.iter().map(|t| norm(&weights[t.as_str().unwrap()].matrix()).powi(2));
            let wanted = module["norm"].as_f64().unwrap() / squares.sum::<f64>().sqrt();
            assert_close(&module["relative_norm"], wanted, module["module"].as_str().unwrap());
        }
        assert_eq!((&report["fit"]["fits"], &report["fit"]["misfit"]), (&json!(true), &Value::Null));
        assert_eq!(report["fit"]["changed_tensors"], changed, "{name}");
        assert_eq!(report["fit"]["base_tensors"], weights.len());
    }
}

#[test]
fn a_model() {
    let sandbox = Sandbox::new();
    let model = sandbox.copy(&peft("bases/llama-bf16"), "model");
    let run = sandbox.run("inspect --json model", &[]).ok();
    let object: Value = serde_json::from_str(&run.stdout).unwrap();
    let report = &object["reports"][0];
    assert_eq!((&object["schema"], &report["kind"]), (&json!("lorakit.inspect/1"), &json!("model")));
    let weights = read_folder(&model);
    let parameters: usize = weights.values().map(|t| t.shape.iter().product::<usize>()).sum();
    let bytes: usize = weights.values().map(|t| t.bytes.len()).sum();
    assert_eq!(report["parameters"], parameters);
    assert_eq!(
        report["dtypes"],
        json!([{ "dtype": "BF16", "tensors": 21, "parameters": parameters, "bytes": bytes }])
    );
    assert_eq!(report["tied"], false);
}
