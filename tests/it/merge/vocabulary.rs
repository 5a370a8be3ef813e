//! A vocabulary that grew at one end, and embeddings that PEFT ties, or does not, on request.

use std::path::Path;

use safetensors::tensor::Dtype;
use serde_json::json;

use super::made::lora;
use crate::near::assert_near;
use crate::support::{Sandbox, edit_json, fixtures, peft, read_json};
use crate::weights::{Tensor, edit_file, noise, read_folder, write_file};

const ROWS: usize = 328;
const EMBEDDING: &str = "model.embed_tokens";
const HEAD: &str = "lm_head";

/// An adapter of both ends in which only `end` is left, with more rows than the base has.
fn grown_at(sandbox: &Sandbox, base: &Path, end: &str) {
    let adapter = sandbox.copy(&peft("adapters/embed"), "adapter");
    let old = &read_folder(base)[&format!("{EMBEDDING}.weight")];
    let dim = old.shape[1];
    let mut values = old.values();
    values.extend(noise(5, (ROWS - old.shape[0]) * dim, 0.1));
    edit_file(&adapter.join("adapter_model.safetensors"), |weights| {
        let other = if end == HEAD { EMBEDDING } else { HEAD };
        weights.retain(|name, _| !name.contains(other));
        let path = format!("base_model.model.{end}");
        let copy = Tensor::new(Dtype::BF16, &[ROWS, dim], &values);
        weights.insert(format!("{path}.base_layer.weight"), copy);
        let (name, shape) =
            if end == HEAD { ("lora_B.weight", [ROWS, 4]) } else { ("lora_embedding_A", [4, ROWS]) };
        weights.insert(format!("{path}.{name}"), Tensor::new(Dtype::F32, &shape, &noise(7, 4 * ROWS, 0.1)));
    });
}

/// The rows of new tokens at the other end are in no file, and a model with ends of two sizes does not load.
#[test]
fn ends_of_two_sizes_are_refused() {
    let refused = |end| {
        let sandbox = Sandbox::new();
        let base = sandbox.copy(&peft("bases/llama-bf16"), "base");
        grown_at(&sandbox, &base, end);
        sandbox.refused("merge base adapter -o out")
    };
    insta::assert_snapshot!(refused(EMBEDDING), @"
    exit 1
    error: `lm_head.weight`: has 320 rows, and the adapter brings 328 for `model.embed_tokens.weight`: the vocabulary grew before training, and what the new tokens have here is not in the adapter

    hint: only the resized model that was trained has them: if it was saved, merge into that one
    ");
    insta::assert_snapshot!(refused(HEAD), @"
    exit 1
    error: `model.embed_tokens.weight`: has 320 rows, and the adapter brings 328 for `lm_head.weight`: the vocabulary grew before training, and what the new tokens have here is not in the adapter

    hint: only the resized model that was trained has them: if it was saved, merge into that one
    ");
}

/// Tied ends have the rows of the copy that the adapter brings; its delta is added to its own side.
#[test]
fn a_tied_end_takes_the_rows_that_the_other_brings() {
    for end in [EMBEDDING, HEAD] {
        let sandbox = Sandbox::new();
        let base = sandbox.copy(&peft("bases/llama-bf16"), "base");
        edit_json(&base.join("config.json"), |config| config["tie_word_embeddings"] = true.into());
        edit_file(&base.join("model.safetensors"), |weights| {
            weights.remove("lm_head.weight").unwrap();
        });
        grown_at(&sandbox, &base, end);
        let adapter = read_folder(&sandbox.path("adapter"));
        let part = |name: &str| &adapter[&format!("base_model.model.{end}.{name}")];
        let copy = part("base_layer.weight");
        let delta = if end == HEAD {
            part("lora_B.weight").matrix().times(&part("lora_A.weight").matrix())
        } else {
            part("lora_embedding_B").matrix().times(&part("lora_embedding_A").matrix()).transposed()
        };

        sandbox.run("merge base adapter -o out", &[]).ok();
        let found = read_folder(&sandbox.path("out"));
        let config = read_json(&sandbox.path("out/config.json"));
        assert_eq!((&config["tie_word_embeddings"], &config["vocab_size"]), (&json!(false), &json!(ROWS)));
        let other = if end == HEAD { EMBEDDING } else { HEAD };
        assert!(found[&format!("{other}.weight")] == *copy, "{end}");
        let key = format!("{end}.weight");
        let values = copy.matrix().plus(2.0, &delta).values;
        let wanted = [(key.clone(), Tensor::new(Dtype::BF16, &copy.shape, &values))].into();
        assert_near(end, &read_folder(&base), &[(key.clone(), found[&key].clone())].into(), &wanted);
    }
}

/// `ensure_weight_tying` ties embeddings of the names that PEFT knows. Of others it ties nothing, and its live model keeps
/// the output of the base.
#[test]
fn embeddings_are_tied_on_request_by_their_names() {
    for (base, embedding, tied) in
        [("llama-tied", "model.embed_tokens", true), ("bloom", "word_embeddings", false)]
    {
        let sandbox = Sandbox::new();
        let folder = sandbox.copy(&fixtures().join("golden/peft-matrix/bases/llama-tied-bfloat16"), "base");
        let name = format!("{embedding}.weight");
        if !tied {
            edit_json(&folder.join("config.json"), |config| {
                config["architectures"] = json!(["BloomForCausalLM"]);
                config["model_type"] = json!("bloom");
            });
            edit_file(&folder.join("model.safetensors"), |weights| {
                let embedding = weights.remove("model.embed_tokens.weight").unwrap();
                *weights = [(name.clone(), embedding)].into();
            });
        }
        let old = read_folder(&folder)[&name].clone();
        let new = Tensor::new(Dtype::BF16, &old.shape, &noise(3, old.values().len(), 0.1));
        let mut config = lora(4, 8);
        config["modules_to_save"] = json!([embedding]);
        config["ensure_weight_tying"] = true.into();
        std::fs::create_dir(sandbox.path("adapter")).unwrap();
        std::fs::write(sandbox.path("adapter/adapter_config.json"), config.to_string()).unwrap();
        let weights = [(format!("base_model.model.{name}"), new.clone())].into();
        write_file(&sandbox.path("adapter/adapter_model.safetensors"), &weights);

        sandbox.run("merge base adapter -o out", &[]).ok();
        let found = read_folder(&sandbox.path("out"));
        assert!(found[&name] == new, "{base}");
        let config = read_json(&sandbox.path("out/config.json"));
        assert_eq!(config["tie_word_embeddings"], tied, "{base}");
        assert!(found.get("lm_head.weight") == (!tied).then_some(&old), "{base}");
    }
}

/// PEFT keeps the output in step with trained rows of a tied embedding. What it makes of another change of the output
/// cannot be saved.
#[test]
fn rows_of_an_embedding_beside_another_change_of_its_output() {
    let sandbox = Sandbox::new();
    let golden = fixtures().join("golden/peft-matrix");
    sandbox.copy(&golden.join("bases/llama-tied-bfloat16"), "base");
    let adapter = sandbox.copy(&golden.join("decoders-llama-tied-tokens-bfloat16/adapter0"), "adapter");
    edit_file(&adapter.join("adapter_model.safetensors"), |weights| {
        for (name, shape) in [("lora_A", [8, 32]), ("lora_B", [48, 8])] {
            let values = noise(1, shape[0] * shape[1], 0.1);
            let tensor = Tensor::new(Dtype::F32, &shape, &values);
            weights.insert(format!("base_model.model.lm_head.{name}.weight"), tensor);
        }
    });
    insta::assert_snapshot!(sandbox.refused("merge base adapter -o out"), @"
    exit 1
    error: `lm_head.weight`: is changed, and is one tensor with `model.embed_tokens`, of which rows were trained: PEFT adds one change to the other in a model that it cannot save

    hint: serve it beside the base with the library that trained it
    ");
    sandbox.run("merge base adapter -o out --skip lm_head", &[]).ok();
}
