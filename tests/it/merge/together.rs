//! Adapters of several methods on one tensor, and rows that come in any order.

use safetensors::tensor::Dtype;
use serde_json::json;

use crate::near::assert_near;
use crate::support::{Sandbox, edit_json, peft, read_json};
use crate::weights::{Matrix, Tensor, edit_file, noise, read_folder};

/// DoRA scales the base and its own delta to its norms; the delta of a plain adapter is added after that, by its
/// weight.
#[test]
fn dora_and_a_plain_adapter() {
    let sandbox = Sandbox::new();
    let base = peft("bases/llama-bf16");
    let (dora, plain) = (peft("adapters/dora"), peft("adapters/plain"));
    let line = format!("merge {} {} {}=0.5 -o out", base.display(), dora.display(), plain.display());
    sandbox.run(&line, &[]).ok();

    let scale = |adapter: &std::path::Path| {
        let config = read_json(&adapter.join("adapter_config.json"));
        config["lora_alpha"].as_f64().unwrap() / config["r"].as_f64().unwrap()
    };
    let (of_dora, of_plain) = (read_folder(&dora), read_folder(&plain));
    let old = read_folder(&base);
    let mut wanted = old.clone();
    let mut both = 0;
    for (name, tensor) in &old {
        let factor = |weights: &crate::weights::Weights, part: &str| {
            weights.get(&format!("base_model.model.{}", name.replace(".weight", part))).map(Tensor::matrix)
        };
        let delta = |weights, scale: f64| {
            let (a, b) = (factor(weights, ".lora_A.weight")?, factor(weights, ".lora_B.weight")?);
            Some(Matrix { values: b.times(&a).values.iter().map(|v| v * scale).collect(), ..b.times(&a) })
        };
        let mut sum = tensor.matrix();
        if let (Some(delta), Some(m)) =
            (delta(&of_dora, scale(&dora)), factor(&of_dora, ".lora_magnitude_vector"))
        {
            let inner = sum.plus(1.0, &delta);
            let norm = |row: usize| inner.row(row).iter().map(|v| v * v).sum::<f64>().sqrt();
            sum = Matrix::from_fn(sum.rows, sum.cols, |i, j| m.values[i] / norm(i) * inner.at(i, j));
            both += usize::from(delta_exists(&of_plain, name));
        }
        if let Some(delta) = delta(&of_plain, 0.5 * scale(&plain)) {
            sum = sum.plus(1.0, &delta);
        }
        wanted.insert(name.clone(), Tensor::new(tensor.dtype, &tensor.shape, &sum.values));
    }
    assert!(both > 10, "{both} tensors are changed by both");
    assert_near("DoRA and plain", &old, &read_folder(&sandbox.path("out")), &wanted);
}

/// In PEFT's live model, DoRA's norm leaves out the plain delta; in its merged model, the norm includes a delta that was
/// merged before. Only with DoRA first are both the same.
#[test]
fn a_plain_adapter_before_dora() {
    let sandbox = Sandbox::new();
    for (from, to) in [("bases/llama-bf16", "base"), ("adapters/dora", "dora"), ("adapters/plain", "plain")] {
        sandbox.copy(&peft(from), to);
    }
    insta::assert_snapshot!(sandbox.refused("merge base plain dora -o out"), @"
    exit 1
    error: `dora`: `model.layers.0.mlp.down_proj.weight`: is changed by this DoRA adapter after a plain LoRA: PEFT's live model leaves the LoRA out of DoRA's norm, and its merged one does not

    hint: name the DoRA adapter before the plain one: then both models of PEFT are the same
    ");
    // At weight 0, nothing comes before.
    sandbox.run("merge base plain=0 dora -o out", &[]).ok();
}

/// Each would set the norm of what the other left.
#[test]
fn two_dora_on_one_tensor() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    for name in ["one", "two"] {
        sandbox.copy(&peft("adapters/dora"), name);
    }
    let refused = sandbox.refused("merge base one two -o out");
    assert!(refused.contains("is changed by two DoRA adapters, whose order would matter"), "{refused}");
}

fn delta_exists(weights: &crate::weights::Weights, name: &str) -> bool {
    weights.contains_key(&format!("base_model.model.{}", name.replace(".weight", ".lora_A.weight")))
}

/// Each trained row goes to its token, whatever the order of the list.
#[test]
fn token_indices_in_any_order() {
    let sandbox = Sandbox::new();
    let base = peft("bases/llama-bf16");
    let adapter = sandbox.copy(&peft("adapters/token-indices"), "adapter");
    let tokens = [300usize, 3, 319, 0, 131, 5];
    let values = noise(11, tokens.len() * 128, 1.0);
    edit_json(&adapter.join("adapter_config.json"), |config| {
        config["trainable_token_indices"] = json!({ "embed_tokens": tokens });
    });
    edit_file(&adapter.join("adapter_model.safetensors"), |weights| {
        let name = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta";
        weights.insert(name.into(), Tensor::new(Dtype::F32, &[tokens.len(), 128], &values));
    });
    let found = read_folder(&sandbox.merge(&base, &adapter, "out", ""));
    let name = "model.embed_tokens.weight";
    let mut wanted = read_folder(&base)[name].matrix();
    for (token, row) in tokens.iter().zip(values.chunks(128)) {
        wanted.values[token * 128..][..128].copy_from_slice(row);
    }
    assert!(found[name] == Tensor::new(Dtype::BF16, &[320, 128], &wanted.values));
}
