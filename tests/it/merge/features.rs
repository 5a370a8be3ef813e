//! Kinds of adapters, and kinds of names and files they come in.

use std::fs;

use safetensors::tensor::Dtype;
use serde_json::json;

use crate::near::assert_near;
use crate::support::{Sandbox, edit_json, peft, read_json};
use crate::weights::{Tensor, Weights, edit_file, noise, read_file, read_folder};

/// Names that training programs leak into files mean the same as the clean names.
#[test]
fn leaked_names() {
    let (base, adapter) = (peft("bases/llama-bf16"), peft("adapters/plain"));
    let sandbox = Sandbox::new();
    let wanted = read_folder(&sandbox.merge(&base, &adapter, "wanted", ""));
    type Rename = fn(&str) -> String;
    let renames: [(&str, Rename); 6] = [
        ("adapter name", |n| n.replace(".weight", ".default.weight")),
        ("another adapter name", |n| n.replace(".weight", ".my-run.weight")),
        ("compiled", |n| n.replace("base_model.model.", "base_model.model._orig_mod.")),
        ("compiled outside", |n| format!("_orig_mod.{n}")),
        ("data parallel", |n| format!("module.{n}")),
        ("sharded", |n| n.replace(".self_attn", "._fsdp_wrapped_module.self_attn")),
    ];
    for (i, (what, rename)) in renames.into_iter().enumerate() {
        let leaked = sandbox.copy(&adapter, &format!("leaked-{i}"));
        edit_file(&leaked.join("adapter_model.safetensors"), |weights| {
            *weights = weights.iter().map(|(name, t)| (rename(name), t.clone())).collect();
        });
        let found = read_folder(&sandbox.merge(&base, &leaked, &format!("out-{i}"), ""));
        assert!(found == wanted, "{what}");
    }
}

#[test]
fn an_adapter_named_by_its_file() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (peft("bases/llama-bf16"), peft("adapters/plain"));
    let file = adapter.join("adapter_model.safetensors");
    let found = read_folder(&sandbox.merge(&base, &file, "by-file", ""));
    assert!(found == read_folder(&sandbox.merge(&base, &adapter, "by-folder", "")));
}

#[test]
fn a_base_and_an_output_that_are_files() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (peft("bases/llama-bf16"), peft("adapters/plain"));
    let wanted = read_folder(&sandbox.merge(&base, &adapter, "folder", ""));
    let file = sandbox.merge(&base.join("model.safetensors"), &adapter, "merged.safetensors", "");
    assert!(read_file(&file) == wanted);
}

/// PEFT's default is 8, not the rank: if the key is missing, that is what was trained.
#[test]
fn an_alpha_that_the_configuration_leaves_out() {
    let sandbox = Sandbox::new();
    let base = peft("bases/llama-bf16");
    let merged = |name: &str, alpha: Option<u32>| {
        let adapter = sandbox.copy(&peft("adapters/attn-r4"), name);
        edit_json(&adapter.join("adapter_config.json"), |config| {
            let config = config.as_object_mut().unwrap();
            assert_eq!(config["r"], 4);
            match alpha {
                Some(alpha) => config.insert("lora_alpha".into(), alpha.into()),
                None => config.remove("lora_alpha"),
            };
        });
        read_folder(&sandbox.merge(&base, &adapter, &format!("{name}-merged"), ""))
    };
    let missing = merged("missing", None);
    assert!(missing == merged("eight", Some(8)));
    assert!(missing != merged("rank", Some(4)));
}

/// A file from `torch.save` merges like one from `safetensors`.
#[test]
fn a_torch_file() {
    let sandbox = Sandbox::new();
    let base = peft("bases/llama-bf16");
    let torch = read_folder(&sandbox.merge(&base, &peft("adapters-bin/attn-r4"), "torch", ""));
    let safetensors = read_folder(&sandbox.merge(&base, &peft("adapters/attn-r4"), "safetensors", ""));
    assert!(torch == safetensors);
}

/// Several adapters are summed before anything is rounded.
#[test]
fn adapters_with_weights_in_one_rounding() {
    let sandbox = Sandbox::new();
    let base = peft("bases/llama-bf16");
    let parts = [("plain", 0.75, 2.0), ("all-r8-second", -0.5, 4.0), ("rslora", 1.25, 16.0 / 4.0)];
    let list: Vec<String> = parts
        .iter()
        .map(|(name, w, _)| format!("{}={w}", peft(&format!("adapters/{name}")).display()))
        .collect();
    sandbox.run(&format!("merge {} {} -o out", base.display(), list.join(" ")), &[]).ok();

    let base = read_folder(&base);
    let mut wanted = base.clone();
    for (adapter, weight, scale) in
        parts.map(|(n, w, s)| (read_folder(&peft(&format!("adapters/{n}"))), w, s))
    {
        for (name, a) in adapter.iter().filter(|(name, _)| name.ends_with("lora_A.weight")) {
            let b = adapter[&name.replace("lora_A", "lora_B")].matrix();
            let target = name.strip_prefix("base_model.model.").unwrap().replace(".lora_A", "");
            let sum = wanted[&target].matrix().plus(weight * scale, &b.times(&a.matrix()));
            // F32 is wide enough to carry the sum of three terms to the single rounding at the end.
            wanted.insert(target, Tensor::new(Dtype::F32, &[sum.rows, sum.cols], &sum.values));
        }
    }
    for (name, tensor) in &mut wanted {
        *tensor = Tensor::new(base[name].dtype, &base[name].shape, &tensor.values());
    }
    assert_near("three adapters", &base, &read_folder(&sandbox.path("out")), &wanted);
}

/// Indices of trained tokens: a list means the input embedding, a map names the module.
#[test]
fn trained_tokens_as_list_and_as_map() {
    let sandbox = Sandbox::new();
    let base = peft("bases/llama-bf16");
    let adapter = sandbox.copy(&peft("adapters/token-indices"), "adapter");
    let map = read_folder(&sandbox.merge(&base, &adapter, "map", ""));
    edit_json(&adapter.join("adapter_config.json"), |config| {
        assert_eq!(config["trainable_token_indices"], json!({ "embed_tokens": [3, 5, 7] }));
        config["trainable_token_indices"] = json!([3, 5, 7]);
    });
    let list = read_folder(&sandbox.merge(&base, &adapter, "list", ""));
    assert!(map == list);
    let rows = |weights: &Weights| weights["model.embed_tokens.weight"].matrix();
    let (before, after) = (rows(&read_folder(&base)), rows(&list));
    let changed: Vec<usize> = (0..before.rows).filter(|&i| before.row(i) != after.row(i)).collect();
    assert_eq!(changed, [3, 5, 7]);
}

/// An adapter whose tokenizer grew saves the resized embeddings whole.
#[test]
fn a_vocabulary_that_grew() {
    const ROWS: usize = 328;
    let sandbox = Sandbox::new();
    let base = sandbox.copy(&peft("bases/llama-bf16"), "base");
    fs::write(base.join("tokenizer.json"), "{\"is\": \"old\"}").unwrap();
    let adapter = sandbox.copy(&peft("adapters/embed"), "adapter");
    fs::write(adapter.join("tokenizer.json"), "{\"is\": \"new\"}").unwrap();
    let old = read_folder(&base);
    let dim = old["lm_head.weight"].shape[1];
    let grown = |name: &str, seed| {
        let mut values = old[name].values();
        values.extend(noise(seed, (ROWS - 320) * dim, 0.1));
        Tensor::new(Dtype::BF16, &[ROWS, dim], &values)
    };
    let (embed, head) = (grown("model.embed_tokens.weight", 5), grown("lm_head.weight", 6));
    let prefix = "base_model.model";
    let embed_a = Tensor::new(Dtype::F32, &[4, ROWS], &noise(7, 4 * ROWS, 0.1));
    let head_b = Tensor::new(Dtype::F32, &[ROWS, 4], &noise(8, 4 * ROWS, 0.1));
    let mut expected = Vec::new();
    edit_file(&adapter.join("adapter_model.safetensors"), |weights| {
        weights.insert(format!("{prefix}.model.embed_tokens.base_layer.weight"), embed.clone());
        weights.insert(format!("{prefix}.lm_head.base_layer.weight"), head.clone());
        weights.insert(format!("{prefix}.model.embed_tokens.lora_embedding_A"), embed_a.clone());
        weights.insert(format!("{prefix}.lm_head.lora_B.weight"), head_b.clone());
        let embed_b = weights[&format!("{prefix}.model.embed_tokens.lora_embedding_B")].matrix();
        let head_a = weights[&format!("{prefix}.lm_head.lora_A.weight")].matrix();
        let delta = embed_b.times(&embed_a.matrix()).transposed();
        expected.push(("model.embed_tokens.weight", embed.matrix().plus(2.0, &delta)));
        expected.push(("lm_head.weight", head.matrix().plus(2.0, &head_b.matrix().times(&head_a))));
    });

    let run = sandbox.run("merge base adapter -o out", &[]).ok();
    let found = read_folder(&sandbox.path("out"));
    for (name, values) in expected {
        let wanted = [(name.to_string(), Tensor::new(Dtype::BF16, &[ROWS, dim], &values.values))].into();
        let found = [(name.to_string(), found[name].clone())].into();
        assert_near(name, &old, &found, &wanted);
    }
    assert_eq!(read_json(&sandbox.path("out/config.json"))["vocab_size"], ROWS);
    assert_eq!(fs::read_to_string(sandbox.path("out/tokenizer.json")).unwrap(), "{\"is\": \"new\"}");
    insta::assert_snapshot!(run.stderr, @"note: `adapter`: its tokenizer is used (tokenizer.json), because the vocabulary grew to 328");
}

/// A head that the base does not have is added, and a note says so.
#[test]
fn a_classification_head() {
    let sandbox = Sandbox::new();
    let base = peft("bases/llama-bf16");
    let adapter = sandbox.copy(&peft("adapters/attn-r4"), "adapter");
    let score = Tensor::new(Dtype::F32, &[3, 128], &noise(3, 3 * 128, 0.1));
    edit_file(&adapter.join("adapter_model.safetensors"), |weights| {
        weights.insert("base_model.model.score.weight".into(), score.clone());
    });
    edit_json(&adapter.join("adapter_config.json"), |config| config["modules_to_save"] = json!(["score"]));
    let line = format!("merge {} adapter -o out", base.display());
    let run = sandbox.run(&line, &[]).ok();
    let found = read_folder(&sandbox.path("out"));
    assert_eq!(found["score.weight"], Tensor::new(Dtype::BF16, &[3, 128], &score.values()));
    assert_eq!(found.len(), read_folder(&base).len() + 1);
    insta::assert_snapshot!(run.stderr, @"warning: `score.weight`: is not in the base model and is added; `config.json` still says LlamaForCausalLM: set `architectures` (and `num_labels`) to the class that has it");
}

/// `--dtype` converts every tensor, and rounds sums once to that dtype.
#[test]
fn another_dtype() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (peft("bases/llama-bf16"), peft("adapters/plain"));
    let (old, factors) = (read_folder(&base), read_folder(&adapter));
    for (option, dtype, name) in [("f32", Dtype::F32, "float32"), ("f16", Dtype::F16, "float16")] {
        let out = sandbox.merge(&base, &adapter, option, &format!("--dtype {option}"));
        let found = read_folder(&out);
        assert_eq!(found.keys().collect::<Vec<_>>(), old.keys().collect::<Vec<_>>());
        for (tensor, value) in &old {
            let factor = |part: &str| {
                factors
                    .get(&format!("base_model.model.{}", tensor.replace(".weight", part)))
                    .map(Tensor::matrix)
            };
            let weight = value.matrix();
            let terms = factor(".lora_A.weight").zip(factor(".lora_B.weight"));
            let sum = terms.as_ref().map_or(weight.clone(), |(a, b)| weight.plus(2.0, &b.times(a)));
            let size = terms
                .as_ref()
                .map_or(weight.abs(), |(a, b)| weight.abs().plus(2.0, &b.abs().times(&a.abs())));
            let found = &found[tensor];
            assert_eq!((found.dtype, &found.shape), (dtype, &value.shape));
            for ((got, want), size) in found.values().iter().zip(&sum.values).zip(&size.values) {
                // Half a step of the output, and the error of summing in f32.
                let step = if dtype == Dtype::F32 { 0.0 } else { found.ulp(*want) / 2.0 };
                let sum = 2.0 * size * f64::from(f32::EPSILON);
                assert!((got - want).abs() <= step + sum, "{tensor}: {got} for {want}");
            }
        }
        assert_eq!(read_json(&out.join("config.json"))["dtype"], name);
    }
}

/// A merge and its opposite cancel.
#[test]
fn there_and_back() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (peft("bases/llama-f32"), peft("adapters/f32"));
    let there = sandbox.merge(&base, &adapter, "there", "");
    let minus = format!("merge there {}=-1 -o back", adapter.display());
    sandbox.run(&minus, &[]).ok();
    let (original, back) = (read_folder(&base), read_folder(&sandbox.path("back")));
    let changed = read_folder(&there);
    for (name, tensor) in &original {
        let values = tensor.values().into_iter().zip(changed[name].values()).zip(back[name].values());
        for ((w, merged), found) in values {
            // Two roundings to f32, each at the size of the merged weight.
            assert!((w - found).abs() <= merged.abs().max(w.abs()) * f64::from(f32::EPSILON) * 2.0, "{name}");
        }
    }
}
