//! Hugging Face folders whose facts a GGUF file cannot hold: each is said, or refused.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Sandbox, edit_json, fixtures};
use crate::weights::{read_folder, write_file};

fn sandbox(family: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("golden/convert").join(family), "model");
    sandbox
}

/// What `quantize` and `convert` say of a model of `family` whose configuration was changed.
fn said(family: &str, change: impl Fn(&mut Value)) -> Vec<String> {
    let sandbox = sandbox(family);
    edit_json(&sandbox.path("model/config.json"), change);
    let notes = |line: &str| {
        let run = sandbox.run(line, &[]).ok();
        let text = format!("{}{}", run.stdout, run.stderr);
        text.lines().filter(|line| line.contains("cannot say")).map(str::to_string).collect::<Vec<_>>()
    };
    let of_convert = notes("convert model -o a.gguf --to gguf");
    assert_eq!(notes("quantize model -o b.gguf --type F16"), of_convert);
    of_convert
}

#[test]
fn entries_without_a_key() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 8] = [
        ("qwen3moe", |c| c["norm_topk_prob"] = json!(false), "`norm_topk_prob` of `config.json` is false"),
        // The default of transformers.
        ("qwen3moe", |c| c["norm_topk_prob"] = Value::Null, "`norm_topk_prob` of `config.json` is false"),
        ("smollm3", |c| c["no_rope_layers"][0] = json!(0), "`no_rope_layers` of `config.json` is [0,"),
        ("llama", |c| c["hidden_act"] = json!("gelu"), "`hidden_act` of `config.json` is \"gelu\""),
        ("llama", |c| c["rope_scaling"] = json!({"type": "dynamic", "factor": 2.0}), "`rope_scaling`"),
        ("mistral", |c| c["sliding_window"] = json!(32), "`sliding_window` of `config.json` is 32"),
        ("qwen2", |c| c["use_sliding_window"] = json!(true), "`use_sliding_window` of `config.json` is true"),
        (
            "smollm3",
            |c| {
                c["no_rope_layers"] = Value::Null;
                c["no_rope_layer_interval"] = json!(2);
            },
            "`no_rope_layer_interval` of `config.json` is 2",
        ),
    ];
    for (family, change, message) in cases {
        let said = said(family, change);
        assert_eq!(said.len(), 1, "{message}: {said:?}");
        assert!(said[0].contains(message), "{said:?}");
    }
}

#[test]
fn entries_that_are_as_llama_cpp_computes() {
    assert_eq!(said("qwen3moe", |c| c["norm_topk_prob"] = json!(true)), [""; 0]);
    assert_eq!(said("llama", |c| c["hidden_act"] = json!("swish")), [""; 0]);
    assert_eq!(said("mistral", |c| c["sliding_window"] = Value::Null), [""; 0]);
    assert_eq!(said("smollm3", |_| ()), [""; 0]);
}

/// llama.cpp would take the embeddings in its place, and transformers random numbers.
#[test]
fn an_untied_model_without_its_head() {
    let sandbox = sandbox("llama");
    change_weights(&sandbox.path("model"), |weights| {
        weights.remove("lm_head.weight").unwrap();
    });
    insta::assert_snapshot!(sandbox.refused("convert model -o out.gguf --to gguf"), @r#"
    exit 1
    error: `model`: has no output matrix (`lm_head.weight`), and by its `config.json` the embeddings do not serve as one; if they do, it must say `"tie_word_embeddings": true`
    "#);
    insta::assert_snapshot!(sandbox.refused("quantize model -o out.gguf --type Q8_0"), @r#"
    exit 1
    error: `model`: has no output matrix (`lm_head.weight`), and by its `config.json` the embeddings do not serve as one; if they do, it must say `"tie_word_embeddings": true`
    "#);
    edit_json(&sandbox.path("model/config.json"), |config| config["tie_word_embeddings"] = json!(true));
    sandbox.run("convert model -o out.gguf --to gguf", &[]).ok();
}

fn change_weights(
    model: &Path,
    change: impl FnOnce(&mut std::collections::BTreeMap<String, crate::weights::Tensor>),
) {
    let mut weights = read_folder(model);
    change(&mut weights);
    write_file(&model.join("model.safetensors"), &weights);
}

/// BF16 holds 1e-9, and F16 nothing below 6e-8.
#[test]
fn a_matrix_of_which_f16_keeps_nothing() {
    let sandbox = sandbox("llama");
    let file = sandbox.path("model/model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let place = &json["model.layers.0.mlp.down_proj.weight"]["data_offsets"];
    let [from, to] = [0, 1].map(|end| 8 + header + place[end].as_u64().unwrap() as usize);
    // 1e-9 in BF16.
    bytes[from..to].chunks_exact_mut(2).for_each(|value| value.copy_from_slice(&[0x89, 0x30]));
    fs::write(&file, bytes).unwrap();
    insta::assert_snapshot!(sandbox.refused("convert model -o out.gguf --to gguf --dtype f16"), @"
    exit 1
    error: `model/model.safetensors`: `model.layers.0.mlp.down_proj.weight`: would be all zeros: its values are below the smallest that F16 can hold; BF16 and F32 hold them
    ");
    insta::assert_snapshot!(sandbox.refused("quantize model -o out.gguf --type Q8_0"), @"
    exit 1
    error: `model/model.safetensors`: `model.layers.0.mlp.down_proj.weight`: would be all zeros: its values are below the smallest that Q8_0 can hold; BF16 and F32 hold them
    ");
    sandbox.run("convert model -o out.gguf --to gguf --dtype bf16", &[]).ok();
}
