//! `tiny-orders` and its two adapters, merges of them, and what is said of these.

use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use serde_json::Value;

use crate::support::{Sandbox, edit_json, fixtures, read_json};
use crate::weights::{Matrix, Tensor, Weights, edit_file, read_file};

pub(super) const MODEL: &str = "model.safetensors";
pub(super) const UP: &str = "model.layers.0.mlp.up_proj.weight";
pub(super) const Q: &str = "model.layers.1.self_attn.q_proj.weight";
pub(super) const NORM: &str = "model.layers.2.input_layernorm.weight";
pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";

pub(super) const JSON: &[(&str, f64)] = &[("json", 1.0)];

pub(super) fn change(weights: &mut Weights, name: &str, change: impl Fn(usize, &mut f64)) {
    let tensor = weights.get_mut(name).unwrap();
    let mut values = tensor.values();
    values.iter_mut().enumerate().for_each(|(at, value)| change(at, value));
    *tensor = Tensor::new(tensor.dtype, &tensor.shape.clone(), &values);
}

/// The base in a dtype.
pub(super) fn base(sandbox: &Sandbox, dtype: &str) -> PathBuf {
    let base = sandbox.copy(&fixtures().join("tiny-orders"), "base");
    if dtype == "f32" {
        edit_json(&base.join("config.json"), |config| config["dtype"] = "float32".into());
        edit_file(&base.join(MODEL), |weights| {
            for tensor in weights.values_mut() {
                *tensor = Tensor::new(Dtype::F32, &tensor.shape.clone(), &tensor.values());
            }
        });
    }
    base
}

pub(super) fn adapters(list: &[(&str, f64)]) -> Vec<String> {
    let path = |name: &str| fixtures().join(format!("tiny-{name}-lora")).display().to_string();
    list.iter().map(|(name, weight)| format!("{}={weight}", path(name))).collect()
}

pub(super) fn merge(
    sandbox: &Sandbox,
    base: &Path,
    list: &[(&str, f64)],
    out: &str,
    options: &str,
) -> PathBuf {
    let list = adapters(list).join(" ");
    sandbox.run(&format!("merge {} {list} -o {out} {options}", base.display()), &[]).ok();
    sandbox.path(out)
}

/// The tensors that do not hold, with their states, and everything that is said of them.
pub(super) fn faulty(report: &Value) -> (Vec<(&str, &str)>, String) {
    let tensors = report["tensors"].as_array().unwrap().iter();
    let faulty: Vec<&Value> = tensors
        .filter(|t| !["kept", "exact", "near", "quantised"].contains(&t["state"].as_str().unwrap()))
        .collect();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned() + "\n";
    let said = text(&report["message"]) + &faulty.iter().map(|t| text(&t["fault"])).collect::<String>();
    (faulty.iter().map(|t| (t["name"].as_str().unwrap(), t["state"].as_str().unwrap())).collect(), said)
}

/// The values of a merge, in f64.
pub(super) fn sum(base: &Path, list: &[(&str, f64)]) -> Vec<(String, Dtype, Matrix)> {
    let base = read_file(&base.join(MODEL));
    let mut all: Vec<_> =
        base.into_iter().map(|(name, tensor)| (name, tensor.dtype, tensor.matrix())).collect();
    for (adapter, weight) in list {
        let folder = fixtures().join(format!("tiny-{adapter}-lora"));
        let config = read_json(&folder.join("adapter_config.json"));
        let (r, alpha) = (config["r"].as_f64().unwrap(), config["lora_alpha"].as_f64().unwrap());
        let scale = weight * alpha / if config["use_rslora"] == true { r.sqrt() } else { r };
        let factors = read_file(&folder.join("adapter_model.safetensors"));
        for (name, _, matrix) in &mut all {
            let path = format!("base_model.model.{}", name.trim_end_matches(".weight"));
            if let Some(a) = factors.get(&format!("{path}.lora_A.weight")) {
                let b = factors[&format!("{path}.lora_B.weight")].matrix();
                let delta = b.times(&a.matrix());
                matrix.values.iter_mut().zip(&delta.values).for_each(|(value, d)| *value += scale * d);
            }
        }
    }
    all
}

/// A merge that adds in f64 and rounds once, and so in another order than ours.
pub(super) fn merge_in_f64(sandbox: &Sandbox, base: &Path, list: &[(&str, f64)], out: &str) -> PathBuf {
    let sums = sum(base, list);
    let out = sandbox.copy(base, out);
    edit_file(&out.join(MODEL), |weights: &mut Weights| {
        for (name, dtype, matrix) in &sums {
            let shape = weights[name].shape.clone();
            weights.insert(name.clone(), Tensor::new(*dtype, &shape, &matrix.values));
        }
    });
    out
}
