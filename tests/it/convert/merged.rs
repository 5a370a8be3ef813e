//! Merges straight into a GGUF model: one rounding, from the decoded blocks.

use std::fs;

use safetensors::tensor::Dtype;
use serde_json::json;

use super::gguf::{Gguf, HEADS, HIDDEN, INNER, KV_HEADS};
use super::{convert, sandbox};
use crate::near::assert_near;
use crate::support::{Sandbox, entries};
use crate::weights::{Matrix, Tensor, Weights, noise, read_folder, write_file};

const RANK: usize = 4;
const SCALE: f64 = 2.0;

/// Writes `adapter` for the modules below and returns what it adds to each.
fn adapter(sandbox: &Sandbox) -> Vec<(String, Matrix)> {
    let kv = HIDDEN / HEADS * KV_HEADS;
    let modules = [
        ("layers.0.self_attn.q_proj", HIDDEN, HIDDEN),
        ("layers.1.self_attn.q_proj", HIDDEN, HIDDEN),
        ("layers.1.self_attn.k_proj", kv, HIDDEN),
        ("layers.0.self_attn.v_proj", kv, HIDDEN),
        ("layers.1.self_attn.o_proj", HIDDEN, HIDDEN),
        ("layers.0.mlp.down_proj", HIDDEN, INNER),
    ];
    let mut weights = Weights::new();
    let mut deltas = Vec::new();
    for (i, (module, rows, cols)) in modules.into_iter().enumerate() {
        let factor = |seed: usize, rows: usize, cols: usize| {
            Tensor::new(Dtype::F32, &[rows, cols], &noise(seed as u64, rows * cols, 0.2))
        };
        let (a, b) = (factor(100 + i, RANK, cols), factor(200 + i, rows, RANK));
        deltas.push((format!("model.{module}.weight"), b.matrix().times(&a.matrix())));
        weights.insert(format!("base_model.model.model.{module}.lora_A.weight"), a);
        weights.insert(format!("base_model.model.model.{module}.lora_B.weight"), b);
    }
    fs::create_dir(sandbox.path("adapter")).unwrap();
    write_file(&sandbox.path("adapter/adapter_model.safetensors"), &weights);
    let config = json!({
        "peft_type": "LORA", "peft_version": "0.21.2", "r": RANK, "lora_alpha": SCALE * RANK as f64,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"],
    });
    fs::write(sandbox.path("adapter/adapter_config.json"), config.to_string()).unwrap();
    deltas
}

fn model(gguf: &Gguf, dtype: Dtype, deltas: &[(String, Matrix)]) -> Weights {
    let tensor = |w: &super::gguf::Weight| {
        let delta = deltas.iter().find(|(name, _)| *name == w.name);
        let values = delta.map_or(w.values.clone(), |(_, d)| w.matrix().plus(SCALE, d).values);
        (w.name.clone(), Tensor::new(dtype, &w.shape, &values))
    };
    gguf.weights.iter().map(tensor).collect()
}

#[test]
fn one_rounding() {
    let gguf = Gguf::untied();
    let sandbox = sandbox(&gguf);
    let deltas = adapter(&sandbox);
    for (option, dtype) in [("keep", Dtype::BF16), ("f16", Dtype::F16)] {
        sandbox.run(&format!("merge model.gguf adapter -o {option} --dtype {option}"), &[]).ok();
        let found = read_folder(&sandbox.path(option));
        assert_near(option, &model(&gguf, dtype, &[]), &found, &model(&gguf, dtype, &deltas));
    }
}

/// The folder is the same as after converting first, except for the changed weights.
#[test]
fn companions() {
    let sandbox = sandbox(&Gguf::llama());
    let deltas = adapter(&sandbox);
    convert(&sandbox, "").ok();
    sandbox.run("merge model.gguf adapter -o merged", &[]).ok();
    let (out, merged) = (sandbox.path("out"), sandbox.path("merged"));
    let companions =
        |folder| entries(folder).into_iter().filter(|name| name != "lorakit.json").collect::<Vec<_>>();
    assert_eq!(companions(&out), companions(&merged));
    for name in companions(&out).iter().filter(|n| n.ends_with(".json")) {
        assert_eq!(fs::read(out.join(name)).unwrap(), fs::read(merged.join(name)).unwrap(), "{name}");
    }
    let (before, after) = (read_folder(&out), read_folder(&merged));
    for (name, tensor) in &before {
        assert_eq!(after[name] != *tensor, deltas.iter().any(|(changed, _)| changed == name), "{name}");
    }
}
