//! Parity with PEFT: `fixtures/golden/peft`.

use std::path::Path;

use safetensors::tensor::Dtype;

use crate::llama::Llama;
use crate::near::assert_near;
use crate::support::{Sandbox, entries, fixtures, peft, read_json};
use crate::weights::{Matrix, Tensor, Weights, read_folder};

/// Cases where PEFT rounds deltas of embeddings or expert parameters before it adds them.
const DELTA_ROUNDED_BY_PEFT: &[&str] = &["embed", "moe-params"];
/// Cases where PEFT changes both sides of tied embeddings.
const TIED: &[&str] = &["tied-embed", "tied-head"];

/// `(case, base)` of every merged model.
fn cases() -> Vec<(String, String)> {
    let index = read_json(&peft("peft.json"));
    let cases = index["cases"].as_object().unwrap().iter();
    cases.map(|(name, case)| (name.clone(), case["base"].as_str().unwrap().to_string())).collect()
}

fn base_of(case: &str) -> String {
    cases().into_iter().find(|(name, _)| name == case).unwrap().1
}

/// Merges a case and returns the output.
fn merged(sandbox: &Sandbox, case: &str, options: &str) -> Weights {
    let base = peft(&format!("bases/{}", base_of(case)));
    let out = sandbox.merge(&base, &peft(&format!("adapters/{case}")), "out", options);
    assert!(sandbox.entries().iter().all(|name| name == "out"), "nothing is left beside the output");
    read_folder(&out)
}

/// `config.json` of the output is the base's; PEFT's says the same of the embeddings.
fn assert_config(sandbox: &Sandbox, case: &str) {
    let ours = read_json(&sandbox.path("out/config.json"));
    let theirs = read_json(&peft(&format!("merged/{case}/config.json")));
    for key in ["architectures", "model_type", "vocab_size", "hidden_size", "tie_word_embeddings", "dtype"] {
        assert_eq!(ours[key], theirs[key], "{case}: {key}");
    }
}

#[test]
fn merges_equal_peft() {
    let mut checked = 0;
    for (case, base) in cases() {
        if TIED.contains(&case.as_str()) {
            continue;
        }
        let options = if DELTA_ROUNDED_BY_PEFT.contains(&case.as_str()) { "--rounding peft" } else { "" };
        let sandbox = Sandbox::new();
        let found = merged(&sandbox, &case, options);
        let wanted = read_folder(&peft(&format!("merged/{case}")));
        assert_near(&case, &read_folder(&peft(&format!("bases/{base}"))), &found, &wanted);
        assert_config(&sandbox, &case);
        checked += 1;
    }
    assert_eq!(checked, 19);
}

#[test]
fn safe_merges_equal_peft_under_its_rounding() {
    for case in ["plain", "rslora", "dora", "embed"] {
        let sandbox = Sandbox::new();
        let found = merged(&sandbox, case, "--rounding peft-safe");
        let base = read_folder(&peft(&format!("bases/{}", base_of(case))));
        assert_near(case, &base, &found, &read_folder(&peft(&format!("merged-safe/{case}"))));
    }
}

/// PEFT rounds an embedding's delta before adding it; the default rounds the sum of both once.
#[test]
fn embedding_deltas_are_rounded_once() {
    let base = read_folder(&peft("bases/llama-bf16"));
    let adapter = read_folder(&peft("adapters/embed"));
    let factor = |name: &str| adapter[&format!("base_model.model.model.embed_tokens.{name}")].matrix();
    let name = "model.embed_tokens.weight";
    let delta = factor("lora_embedding_B").times(&factor("lora_embedding_A")).transposed();
    let sum = base[name].matrix().plus(8.0 / 4.0, &delta);

    let sandbox = Sandbox::new();
    let found = merged(&sandbox, "embed", "");
    let mut wanted = read_folder(&peft("merged/embed"));
    let changed = wanted.insert(name.into(), Tensor::new(Dtype::BF16, &base[name].shape, &sum.values));
    assert_ne!(changed.as_ref(), wanted.get(name), "PEFT rounds twice here");
    assert_near("embed", &base, &found, &wanted);
}

/// PEFT rounds the deltas of expert parameters before adding them; the default rounds the sums once.
#[test]
fn expert_deltas_are_rounded_once() {
    const EXPERTS: usize = 4;
    let base = read_folder(&peft("bases/qwen3-moe-bf16"));
    let adapter = read_folder(&peft("adapters/moe-params"));
    let mut wanted = read_folder(&peft("merged/moe-params"));
    for layer in 0..2 {
        let module = format!("model.layers.{layer}.mlp.experts");
        let factor = |name: &str| adapter[&format!("base_model.model.{module}.{name}.weight")].matrix();
        let gate_up = (factor("base_layer.lora_A"), factor("base_layer.lora_B"));
        let down = (factor("lora_A"), factor("lora_B"));
        for expert in 0..EXPERTS {
            let mut add = |leaf: &str, (a, b): &(Matrix, Matrix), half: usize| {
                let rank = a.rows / EXPERTS;
                let name = format!("{module}.{expert}.{leaf}.weight");
                let weight = base[&name].matrix();
                let a = Matrix::from_fn(rank, a.cols, |k, j| a.at(expert * rank + k, j));
                let b = Matrix::from_fn(weight.rows, rank, |i, k| {
                    b.at(half * weight.rows + i, k * EXPERTS + expert)
                });
                let sum = weight.plus(8.0 / 4.0, &b.times(&a));
                wanted.insert(name.clone(), Tensor::new(Dtype::BF16, &base[&name].shape, &sum.values));
            };
            add("gate_proj", &gate_up, 0);
            add("up_proj", &gate_up, 1);
            add("down_proj", &down, 0);
        }
    }
    let sandbox = Sandbox::new();
    assert_near("moe-params", &base, &merged(&sandbox, "moe-params", ""), &wanted);
}

#[test]
fn shared_tied_embeddings_equal_peft() {
    for case in TIED {
        let sandbox = Sandbox::new();
        let found = merged(&sandbox, case, "--tied share --rounding peft");
        let base = read_folder(&peft("bases/llama-tied-bf16"));
        assert_near(case, &base, &found, &read_folder(&peft(&format!("merged/{case}"))));
        assert_config(&sandbox, case);
    }
}

/// Untied by default: the merged model computes what base and adapter compute, and PEFT's shared one does not.
#[test]
fn untied_embeddings_compute_what_the_adapter_did() {
    let base = peft("bases/llama-tied-bf16");
    for case in TIED {
        let sandbox = Sandbox::new();
        let found = merged(&sandbox, case, "");
        let config = read_json(&sandbox.path("out/config.json"));
        assert_eq!(config["tie_word_embeddings"], false);
        assert!(found.contains_key("lm_head.weight") && found.contains_key("model.embed_tokens.weight"));

        let truth = Llama::with_adapter(&base, &peft(&format!("adapters/{case}"))).logits();
        let ours = Llama::open(&sandbox.path("out")).logits();
        let shared = Llama::open(&peft(&format!("merged/{case}"))).logits();
        let (ours, shared) = (truth.worst_error(&ours), truth.worst_error(&shared));
        assert!(ours < 1.0, "{case}: {ours} times what rounding explains");
        assert!(
            shared > 10.0,
            "{case}: PEFT's shared tensor is off by {shared} times what rounding explains"
        );
    }
}

/// A saved embedding of a tied model: both tensors are written.
#[test]
fn a_saved_tied_embedding_is_written_beside_the_head() {
    let sandbox = Sandbox::new();
    let found = merged(&sandbox, "tied-save", "");
    let config = read_json(&sandbox.path("out/config.json"));
    assert_eq!(config["tie_word_embeddings"], false);
    let base = read_folder(&peft("bases/llama-tied-bf16"));
    assert_eq!(found["lm_head.weight"], base["model.embed_tokens.weight"]);
    assert_ne!(found["model.embed_tokens.weight"], base["model.embed_tokens.weight"]);
    let truth = Llama::with_adapter(&peft("bases/llama-tied-bf16"), &peft("adapters/tied-save")).logits();
    let ours = truth.worst_error(&Llama::open(&sandbox.path("out")).logits());
    assert!(ours < 1.0, "{ours} times what rounding explains");
}

/// The shipped example works with the shipped model.
#[test]
fn the_shipped_adapters_merge() {
    for adapter in ["tiny-json-lora", "tiny-upper-lora"] {
        let sandbox = Sandbox::new();
        let fixture = |name: &str| fixtures().join(name);
        let out = sandbox.merge(&fixture("tiny-orders"), &fixture(adapter), "out", "");
        let files = entries(&out);
        for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
            assert!(files.iter().any(|f| f == name), "{name} travels along");
            let (ours, base) =
                (std::fs::read(out.join(name)), std::fs::read(fixture("tiny-orders").join(name)));
            assert_eq!(ours.unwrap(), base.unwrap(), "{name}");
        }
        assert_logits(&fixture("tiny-orders"), &fixture(adapter), &out);
    }
}

fn assert_logits(base: &Path, adapter: &Path, out: &Path) {
    let truth = Llama::with_adapter(base, adapter).logits();
    let error = truth.worst_error(&Llama::open(out).logits());
    assert!(error < 1.0, "{}: {error} times what rounding explains", adapter.display());
    let untouched = truth.worst_error(&Llama::open(base).logits());
    assert!(untouched > 1.0, "{}: the adapter makes a difference", adapter.display());
}
