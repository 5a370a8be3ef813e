//! Inputs that become shorter while they are read.

use std::fs::{self, OpenOptions};

use rustix::process::Signal;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::{WIDTH, finish, large, signal, start, wait_for_staging};
use crate::support::{Run, Sandbox, edit_json, fixtures};
use crate::weights::{Tensor, Weights, noise, write_file};

/// A merge during which the base loses all but its first MiB.
fn cut(options: &str) -> Run {
    let sandbox = Sandbox::new();
    large(&sandbox);
    let line = format!("merge base adapter -o out -t 1 --no-progress {options}");
    cut_during(&sandbox, &line, "base/model.safetensors")
}

/// The command, during which `input` loses all but its first MiB; it must leave nothing behind. The input is whole
/// again afterwards.
fn cut_during(sandbox: &Sandbox, line: &str, input: &str) -> Run {
    let before = sandbox.entries();
    let path = sandbox.path(input);
    let whole = fs::read(&path).unwrap();
    loop {
        let mut child = start(sandbox, line);
        wait_for_staging(&mut child, sandbox.root());
        signal(&child, Signal::STOP);
        OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
        signal(&child, Signal::CONT);
        let run = finish(sandbox, child);
        fs::write(&path, &whole).unwrap();
        if run.code == Some(0) {
            // All of it had been read.
            let [folder, file] = ["out", "out.gguf"].map(|name| sandbox.path(name));
            fs::remove_dir_all(folder).or_else(|_| fs::remove_file(file)).unwrap();
            continue;
        }
        assert_eq!(sandbox.entries(), before, "{line}: nothing is left behind");
        assert_eq!(run.stdout, "", "{line}");
        return run;
    }
}

/// A Llama of 64 MB that can be converted, and an adapter on one of its modules.
fn convertible(sandbox: &Sandbox) {
    const LAYERS: usize = 4;
    const VOCAB: usize = 512;
    let square = Tensor::new(Dtype::BF16, &[WIDTH, WIDTH], &noise(1, WIDTH * WIDTH, 0.1));
    let norm = Tensor::new(Dtype::BF16, &[WIDTH], &noise(2, WIDTH, 0.1));
    let rows = Tensor::new(Dtype::BF16, &[VOCAB, WIDTH], &noise(3, VOCAB * WIDTH, 0.1));
    let mut weights = Weights::new();
    for layer in 0..LAYERS {
        for module in ["q", "k", "v", "o"].map(|part| format!("self_attn.{part}_proj")) {
            weights.insert(format!("model.layers.{layer}.{module}.weight"), square.clone());
        }
        for module in ["gate", "up", "down"].map(|part| format!("mlp.{part}_proj")) {
            weights.insert(format!("model.layers.{layer}.{module}.weight"), square.clone());
        }
        for name in ["input_layernorm", "post_attention_layernorm"] {
            weights.insert(format!("model.layers.{layer}.{name}.weight"), norm.clone());
        }
    }
    weights.insert("model.norm.weight".into(), norm);
    weights.insert("model.embed_tokens.weight".into(), rows);
    let base = sandbox.copy(&fixtures().join("tiny-orders"), "base");
    write_file(&base.join("model.safetensors"), &weights);
    edit_json(&base.join("config.json"), |config| {
        for (key, value) in [
            ("hidden_size", WIDTH),
            ("intermediate_size", WIDTH),
            ("num_attention_heads", 8),
            ("num_key_value_heads", 8),
            ("head_dim", WIDTH / 8),
            ("num_hidden_layers", LAYERS),
            ("vocab_size", VOCAB),
        ] {
            config[key] = value.into();
        }
    });
    let adapter = sandbox.path("adapter");
    fs::create_dir(&adapter).unwrap();
    let config = json!({ "peft_type": "LORA", "r": 16, "lora_alpha": 16 });
    fs::write(adapter.join("adapter_config.json"), config.to_string()).unwrap();
    let module = "base_model.model.model.layers.0.self_attn.q_proj";
    let factors = [("A", [16, WIDTH]), ("B", [WIDTH, 16])].map(|(factor, shape)| {
        let tensor = Tensor::new(Dtype::F32, &shape, &noise(4, 16 * WIDTH, 0.1));
        (format!("{module}.lora_{factor}.weight"), tensor)
    });
    write_file(&adapter.join("adapter_model.safetensors"), &Weights::from(factors));
}

/// What GGUF files are made of, and what they are turned into, mapped and read by position.
#[test]
fn ones_that_are_converted() {
    let sandbox = Sandbox::new();
    convertible(&sandbox);
    sandbox.run("convert base -o base.gguf --to gguf", &[]).ok();
    for (line, input) in [
        ("convert base -o out.gguf --to gguf", "base/model.safetensors"),
        ("convert base -o out.gguf --to gguf --dtype f32", "base/model.safetensors"),
        ("convert base.gguf -o out --to hf", "base.gguf"),
        ("convert base.gguf -o out --to hf --dtype f32", "base.gguf"),
        ("quantize base -o out.gguf --type q8_0", "base/model.safetensors"),
        ("quantize base.gguf -o out.gguf --type q8_0", "base.gguf"),
        ("quantize base -o out --type nf4", "base/model.safetensors"),
        ("merge base.gguf adapter -o out", "base.gguf"),
        ("merge base.gguf adapter -o out.gguf --quantize keep", "base.gguf"),
        ("merge base adapter -o out.gguf --quantize q8_0", "base/model.safetensors"),
    ] {
        let whole = fs::metadata(sandbox.path(input)).unwrap().len();
        for mode in ["", " --no-mmap"] {
            let run = cut_during(&sandbox, &format!("{line} -t 1 --no-progress{mode}"), input);
            assert_eq!(run.code, Some(3), "{line}{mode}: {}", run.stderr);
            let message =
                format!("error: `{input}`: became shorter while it was read: 1048576 bytes of {whole}\n");
            assert!(run.stderr.starts_with(&message), "{line}{mode}: {}", run.stderr);
        }
    }
}

#[test]
fn one_that_is_mapped() {
    let run = cut("");
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    insta::assert_snapshot!(run.stderr, @"
    error: `base/model.safetensors`: became shorter while it was read: 1048576 bytes of 50334400

    hint: wait until nothing writes to it any more, or copy it first; then run again
    ");
}

#[test]
fn one_that_is_mapped_as_json() {
    let run = cut("--json");
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    let error = serde_json::from_str::<Value>(&run.stderr).unwrap()["error"].take();
    assert_eq!(error["kind"], "Changed");
    assert_eq!(error["path"], "base/model.safetensors");
    assert_eq!(error["exit_code"], 3);
}

#[test]
fn one_that_is_read_by_position() {
    let run = cut("--no-mmap");
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    insta::assert_snapshot!(run.stderr, @"
    error: `base/model.safetensors`: became shorter while it was read: 1048576 bytes of 50334400

    hint: wait until nothing writes to it any more, or copy it first; then run again
    ");
}
