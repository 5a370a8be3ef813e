//! Tied models whose embedding or output has another name than in a Llama, and names of two eras.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::made::lora;
use crate::near::assert_near;
use crate::support::{Sandbox, edit_json, entries, fixtures, read_json};
use crate::weights::{Tensor, Weights, noise, read_file, read_folder, write_file};

fn golden(case: &str) -> PathBuf {
    fixtures().join("golden/tied").join(case)
}

/// transformers loaded each of these merges, and it computed what base and adapter compute in PEFT
/// (`tests/peers/tied_families.py`).
#[test]
fn merges_have_the_tensors_that_compute_what_base_and_adapter_compute() {
    let cases = entries(&golden(""));
    assert_eq!(cases.len(), 7);
    for case in cases.iter().filter(|case| *case != "t5-shared") {
        let sandbox = Sandbox::new();
        let (base, adapter) = (golden(case).join("base"), golden(case).join("adapter"));
        let out = sandbox.merge(&base, &adapter, "out", "");
        let expected = read_json(&golden(case).join("expected.json"));
        let (found, base) = (read_folder(&out), read_folder(&base));
        let added: Vec<&String> = found.keys().filter(|name| !base.contains_key(*name)).collect();
        assert_eq!(json!(added), expected["added"], "{case}");
        let config = read_json(&out.join("config.json"));
        assert_eq!(config["tie_word_embeddings"], expected["tie_word_embeddings"], "{case}");
        let mut wanted = base.clone();
        wanted.extend(read_file(&golden(case).join("changed.safetensors")));
        assert_near(case, &base, &found, &wanted);

        let line =
            format!("verify --base {} --adapter {}", golden(case).join("base").display(), adapter.display());
        assert!(sandbox.run(&line, &[&out]).ok().stdout.starts_with("exact"), "{case}");
    }
}

/// No layer of T5 computes with `shared`, so an adapter of it has no effect: only `--tied share` gives it one.
#[test]
fn a_parameter_that_nothing_computes_with() {
    let sandbox = Sandbox::new();
    sandbox.copy(&golden("t5-shared/base"), "base");
    sandbox.copy(&golden("t5-shared/adapter"), "adapter");
    insta::assert_snapshot!(sandbox.refused("merge base adapter -o out"), @"
    exit 1
    error: `shared.weight`: is changed alone, and no layer computes with it: the model computes with `decoder.embed_tokens`, `encoder.embed_tokens`, `lm_head`, which have its values only as long as nothing changes one of them, so base and adapter compute what the base does

    hint: `--tied share` keeps one tensor, which the change then reaches under every name, as in PEFT's own merge
    ");
    let shared = sandbox.run("merge base adapter -o out --tied share", &[]).ok();
    assert!(
        shared.stderr.contains("`shared.weight`: input and output embedding stay one tensor"),
        "{}",
        shared.stderr
    );
    assert!(read_folder(&sandbox.path("out")).keys().eq(read_folder(&sandbox.path("base")).keys()));
}

/// A class that nothing is known of, with two tensors that could be its input.
#[test]
fn ties_of_an_unknown_class_are_refused() {
    let sandbox = Sandbox::new();
    let base = sandbox.copy(&golden("bart-embedding/base"), "base");
    sandbox.copy(&golden("bart-embedding/adapter"), "adapter");
    edit_json(&base.join("config.json"), |config| {
        (config["architectures"], config["model_type"]) = (json!(["Mine"]), json!("mine"));
    });
    let names = ["model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"];
    crate::weights::edit_file(&base.join("model.safetensors"), |weights| {
        let shared = weights.remove("model.shared.weight").unwrap();
        weights.extend(names.map(|name| (name.to_string(), shared.clone())));
    });
    insta::assert_snapshot!(sandbox.refused("merge base adapter -o out"), @r#"
    exit 1
    error: `model.decoder.embed_tokens.weight`: is changed, and `config.json` ties the embeddings: which tensor has which values is not known for this class of models, so what the output side would become is not either

    hint: if input and output are two tensors of the base, set `"tie_word_embeddings": false` in its `config.json`
    "#);
    edit_json(&base.join("config.json"), |config| config["tie_word_embeddings"] = false.into());
    sandbox.run("merge base adapter -o out", &[]).ok();
}

fn tensor(name: &str, shape: &[usize]) -> (String, Tensor) {
    let seed = name.bytes().map(u64::from).sum();
    (name.to_string(), Tensor::new(Dtype::F32, shape, &noise(seed, shape.iter().product(), 0.5)))
}

fn write(folder: &Path, (file, weights): (&str, &Weights), (config, value): (&str, &Value)) {
    fs::create_dir_all(folder).unwrap();
    write_file(&folder.join(file), weights);
    fs::write(folder.join(config), value.to_string()).unwrap();
}

/// A correct merge under the names of another version of transformers is the same to `diff`, `verify` and `extract`.
#[test]
fn verbs_agree_on_names_of_two_eras() {
    type Era<'a> = &'a dyn Fn(&str) -> String;
    let vit = |name: &str| {
        name.replace("attention.q_proj", "attention.attention.query")
            .replace("vit.layers", "vit.encoder.layer")
    };
    let qwen = |name: &str| name.replace("model.visual", "visual").replace("language_model.", "");
    let same = |name: &str| name.to_string();
    let cases: [(Value, [&str; 2], [Era<'_>; 2]); 2] = [
        (
            json!({ "model_type": "vit" }),
            ["vit.layers.0.attention.q_proj", "vit.layers.1.attention.q_proj"],
            [&vit, &same],
        ),
        (
            json!({ "model_type": "qwen2_5_vl", "tie_word_embeddings": true }),
            ["model.language_model.layers.0.q_proj", "model.visual.blocks.0.qkv"],
            [&qwen, &same],
        ),
    ];
    for (config, names, eras) in cases {
        let sandbox = Sandbox::new();
        let config = ("config.json", &config);
        let factors = names.iter().flat_map(|name| {
            [("A", [2, 4]), ("B", [4, 2])]
                .map(|(side, shape)| tensor(&format!("base_model.model.{name}.lora_{side}.weight"), &shape))
        });
        let adapter_config = lora(2, 4);
        write(
            &sandbox.path("adapter"),
            ("adapter_model.safetensors", &factors.collect()),
            ("adapter_config.json", &adapter_config),
        );
        for (folder, era) in ["old", "new"].iter().zip(eras) {
            let weights = names.iter().map(|name| {
                let (_, values) = tensor(name, &[4, 4]);
                (era(&format!("{name}.weight")), values)
            });
            let weights: Weights = weights.collect();
            write(&sandbox.path(folder), ("model.safetensors", &weights), config);
            sandbox.run(&format!("merge {folder} adapter -o {folder}-merged"), &[]).ok();
        }
        for (base, merged) in [("old", "new"), ("new", "old"), ("old", "old")] {
            let diff = sandbox.run(&format!("diff old-merged {merged}-merged"), &[]).ok().stdout;
            assert!(diff.starts_with("the same: 2 of 2 tensors, byte for byte"), "{diff}");
            let line = format!("verify --base {base} --adapter adapter {merged}-merged");
            let verify = sandbox.run(&line, &[]).ok().stdout;
            assert!(verify.starts_with("exact"), "{verify}");
            sandbox.run(&format!("extract {base} {merged}-merged -o x-{base}-{merged} --rank 2"), &[]).ok();
            let again = sandbox
                .run(&format!("verify --base {base} --adapter x-{base}-{merged} {merged}-merged"), &[]);
            let found = again.ok().stdout;
            assert!(found.starts_with("exact") || found.starts_with("within rounding"), "{found}");
        }
    }
}

/// What some programs put in front of every path.
#[test]
fn one_extra_prefix() {
    let sandbox = Sandbox::new();
    let name = "model.layers.0.self_attn.q_proj";
    let base: Weights = [tensor(&format!("{name}.weight"), &[4, 4])].into();
    write(
        &sandbox.path("base"),
        ("model.safetensors", &base),
        ("config.json", &json!({ "model_type": "llama" })),
    );
    let adapter_config = lora(2, 4);
    for (folder, path) in [
        ("plain", name),
        ("nested", "base_model.model.model.layers.0.self_attn.q_proj"),
        ("prefixed", "lm_q.layers.0.self_attn.q_proj"),
    ] {
        let factors = [("A", [2, 4]), ("B", [4, 2])].map(|(side, shape)| {
            let (_, values) = tensor(side, &shape);
            (format!("base_model.model.{path}.lora_{side}.weight"), values)
        });
        write(
            &sandbox.path(folder),
            ("adapter_model.safetensors", &factors.into()),
            ("adapter_config.json", &adapter_config),
        );
        let stderr = sandbox.run(&format!("merge base {folder} -o {folder}-out"), &[]).ok().stderr;
        let said = stderr.contains("every path begins with `lm_q.`, which no tensor of the base does");
        assert_eq!(said, folder == "prefixed", "{stderr}");
        assert!(
            read_folder(&sandbox.path(&format!("{folder}-out"))) == read_folder(&sandbox.path("plain-out"))
        );
    }
}

/// A T5 whose file holds its values under the name that the adapter changes: the others keep them.
#[test]
fn parameters_that_are_not_stored_keep_the_values_of_the_one_that_changes() {
    let sandbox = Sandbox::new();
    let base = sandbox.copy(&golden("t5-shared/base"), "base");
    let adapter = sandbox.copy(&golden("t5-shared/adapter"), "adapter");
    crate::weights::edit_file(&base.join("model.safetensors"), |weights| {
        let shared = weights.remove("shared.weight").unwrap();
        weights.insert("encoder.embed_tokens.weight".into(), shared);
    });
    crate::weights::edit_file(&adapter.join("adapter_model.safetensors"), |weights| {
        *weights = std::mem::take(weights)
            .into_iter()
            .map(|(name, tensor)| (name.replace("model.shared.", "model.encoder.embed_tokens."), tensor))
            .collect();
    });
    edit_json(&adapter.join("adapter_config.json"), |config| {
        config["target_modules"] = json!(["q", "encoder.embed_tokens"]);
    });
    sandbox.run("merge base adapter -o out", &[]).ok();
    let (base, out) = (read_folder(&base), read_folder(&sandbox.path("out")));
    let old = &base["encoder.embed_tokens.weight"];
    assert!(out["encoder.embed_tokens.weight"] != *old);
    for name in ["shared.weight", "decoder.embed_tokens.weight", "lm_head.weight"] {
        assert!(out.get(name) == Some(old), "{name}");
    }
}

/// Both sides of a tied pair stay one tensor only if they were trained as one: the same factors, scales, rows.
#[test]
fn sides_that_were_not_trained_as_one_become_two() {
    let (embed, head) = ("base_model.model.model.embed_tokens", "base_model.model.lm_head");
    let named = |path: &str, part: &str, shape: &[usize], values: &[f64]| {
        (format!("{path}.{part}"), Tensor::new(Dtype::F32, shape, values))
    };
    let (a, b) = (noise(1, 16, 0.5), noise(2, 8, 0.5));
    let turned = |values: &[f64], cols: usize| -> Vec<f64> {
        (0..cols).flat_map(|j| values.iter().skip(j).step_by(cols).copied()).collect()
    };
    let mirrored: Weights = [
        named(embed, "lora_embedding_A", &[2, 8], &a),
        named(embed, "lora_embedding_B", &[4, 2], &b),
        named(head, "lora_A.weight", &[2, 4], &turned(&b, 2)),
        named(head, "lora_B.weight", &[8, 2], &turned(&a, 8)),
    ]
    .into();
    let mut dora = mirrored.clone();
    dora.extend([
        named(embed, "lora_magnitude_vector", &[4], &[1.0; 4]),
        named(head, "lora_magnitude_vector", &[8], &[1.0; 8]),
    ]);
    let rows =
        |path: &str| named(path, "token_adapter.trainable_tokens_delta", &[1, 4], &[1.0, 2.0, 3.0, 4.0]);
    let rows: Weights = [rows(embed), rows(head)].into();
    let tokens = |embed: usize, head: usize| json!({ "embed_tokens": [embed], "lm_head": [head] });
    for (what, weights, field, value, one) in [
        ("as one", &mirrored, "bias", json!("none"), true),
        ("other scales", &mirrored, "alpha_pattern", json!({ "lm_head": 8 }), false),
        ("magnitudes", &dora, "use_dora", json!(true), false),
        ("the same row", &rows, "trainable_token_indices", tokens(3, 3), true),
        ("another row", &rows, "trainable_token_indices", tokens(3, 5), false),
    ] {
        let sandbox = Sandbox::new();
        let base: Weights = [tensor("model.embed_tokens.weight", &[8, 4])].into();
        let tied = json!({ "model_type": "llama", "tie_word_embeddings": true });
        write(&sandbox.path("base"), ("model.safetensors", &base), ("config.json", &tied));
        let mut config = lora(2, 4);
        config[field] = value;
        write(
            &sandbox.path("adapter"),
            ("adapter_model.safetensors", weights),
            ("adapter_config.json", &config),
        );
        sandbox.run("merge base adapter -o out", &[]).ok();
        let names: Vec<String> = read_folder(&sandbox.path("out")).into_keys().collect();
        assert_eq!(names.len(), if one { 1 } else { 2 }, "{what}: {names:?}");
        let config = read_json(&sandbox.path("out/config.json"));
        assert_eq!(config["tie_word_embeddings"], one, "{what}");
        if what == "other scales" {
            // Kept as one tensor, it has both deltas: alpha 4 of the embedding, and 8 of the head.
            sandbox.run("merge base adapter -o shared --tied share", &[]).ok();
            let untied = read_folder(&sandbox.path("out"));
            let [base, embed, head] = [
                &base["model.embed_tokens.weight"],
                &untied["model.embed_tokens.weight"],
                &untied["lm_head.weight"],
            ]
            .map(Tensor::values);
            let shared = read_folder(&sandbox.path("shared"))["model.embed_tokens.weight"].values();
            for (at, value) in shared.iter().enumerate() {
                let sum = embed[at] + head[at] - base[at];
                assert!((value - sum).abs() < 1e-5, "{at}: {value}, not {sum}");
            }
        }
    }
}
