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
