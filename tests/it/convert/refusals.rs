//! What cannot be converted: exit code, words, and nothing written.

use std::fs;

use lorakit_tensor::format::gguf::{Array, Value};

use super::gguf::Gguf;
use super::{convert, sandbox};
use crate::support::{Sandbox, peft};

/// The message about a file that was changed before it was written.
#[track_caller]
fn refused(change: impl FnOnce(&mut Gguf)) -> String {
    let mut gguf = Gguf::llama();
    change(&mut gguf);
    refused_bytes(&gguf.bytes())
}

#[track_caller]
fn refused_bytes(bytes: &[u8]) -> String {
    refused_with(bytes, 1)
}

#[track_caller]
fn refused_with(bytes: &[u8], code: i32) -> String {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("model.gguf"), bytes).unwrap();
    let run = convert(&sandbox, "");
    assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{}", run.stderr);
    assert_eq!(sandbox.entries(), ["model.gguf"], "nothing is written");
    message(&run.stderr).to_string()
}

/// The message, without the hint.
fn message(stderr: &str) -> &str {
    stderr.split("\n\nhint: ").next().unwrap()
}

fn text(value: &str) -> Value {
    Value::String(value.into())
}

/// However long the remaining part, it is not a model, and the message says so.
#[test]
fn a_truncated_header() {
    let whole = Gguf::llama().bytes();
    for length in [0, 3, 4, 8, 16, 23, 24, 25, 100, 1000, 4000] {
        let message = refused_bytes(&whole[..length]);
        assert!(message.starts_with("error: `model.gguf`: "), "{length}: {message}");
    }
    insta::assert_snapshot!(refused_bytes(&whole[..1000]), @"error: `model.gguf`: is cut short: the header needs 2088 bytes at byte 637, and the file has 1000");
}

#[test]
fn truncated_data() {
    let whole = Gguf::llama().bytes();
    insta::assert_snapshot!(refused_bytes(&whole[..whole.len() - 512]), @"error: `model.gguf`: tensor `blk.1.ffn_down.weight`: is cut short: this tensor ends at byte 108960, and the file has 108704");
}

#[test]
fn an_unknown_family() {
    insta::assert_snapshot!(refused(|g| g.set("general.architecture", text("mamba"))), @"error: `model.gguf`: is a model of the family `mamba`, which cannot be read as a Hugging Face model; llama, qwen2, qwen3, qwen3moe can");
}

#[test]
fn an_adapter() {
    let mut adapter = Gguf::llama();
    adapter.set("general.type", text("adapter"));
    insta::assert_snapshot!(refused_with(&adapter.bytes(), 2), @"error: `model.gguf`: is an adapter, and `--to hf` is a format of models; for PEFT it is `--to peft`");
}

#[test]
fn missing_keys() {
    insta::assert_snapshot!(refused(|g| g.remove("llama.attention.head_count")), @"error: `model.gguf`: has no metadata key `llama.attention.head_count`");
    for key in [
        "general.architecture",
        "llama.block_count",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.model",
        "tokenizer.ggml.pre",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.merges",
        "tokenizer.ggml.bos_token_id",
    ] {
        let message = refused(|g| g.remove(key));
        assert!(message.contains(&format!("`model.gguf`: has no metadata key `{key}`")), "{message}");
    }
}

#[test]
fn a_key_of_the_wrong_type() {
    insta::assert_snapshot!(refused(|g| g.set("llama.block_count", text("two"))), @"error: `model.gguf`: metadata key `llama.block_count` is two of type string; it must be a single integer that is not negative");
}

#[test]
fn an_unknown_way_to_cut_text() {
    insta::assert_snapshot!(refused(|g| g.set("tokenizer.ggml.pre", text("viking"))), @"error: `model.gguf`: its tokenizer cuts text by the rule `viking` (`tokenizer.ggml.pre`); the known ones are gpt-2, phi-2, smollm, starcoder, refact, codeshell, llama-bpe, llama3, llama-v3, falcon3, pixtral, midm-2.0, lfm2, smaug-bpe, dbrx, qwen2, deepseek-r1-qwen, megrez, tekken, gpt-4o, llama4, deepseek-llm, deepseek-coder, deepseek-v3, default");
}

#[test]
fn an_unknown_tokenizer() {
    insta::assert_snapshot!(refused(|g| g.set("tokenizer.ggml.model", text("rwkv"))), @"error: `model.gguf`: has a tokenizer of kind `rwkv` (`tokenizer.ggml.model`); the known ones are gpt2, llama");
}

#[test]
fn a_merge_of_what_is_no_token() {
    let merges = Value::Array(Array::String(vec!["q q".into()]));
    insta::assert_snapshot!(refused(|g| g.set("tokenizer.ggml.merges", merges)), @"error: `model.gguf`: the merge `q q` is not two tokens that form a third");
}

#[test]
fn heads_that_do_not_divide_the_rows() {
    insta::assert_snapshot!(refused(|g| g.set("llama.attention.head_count", Value::U32(3))), @"error: `model.gguf`: `blk.0.attn_q.weight`: has 64 rows, which are not 3 heads of an even number of rows");
}

#[test]
fn values_that_are_not_finite() {
    let mut file = Gguf::llama().bytes();
    // The file ends with the norm after the last layer.
    let last = file.len() - 4;
    file[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    insta::assert_snapshot!(refused_bytes(&file), @"error: `model.gguf`: `output_norm.weight`: holds NaN at index 63 (F32)");
}

#[test]
fn a_missing_tensor() {
    insta::assert_snapshot!(refused(|g| drop(g.weights.pop())), @"error: `model.gguf`: `output_norm.weight`: the model needs it and has none");
}

#[test]
fn more_layers_than_tensors() {
    insta::assert_snapshot!(refused(|g| g.set("llama.block_count", Value::U32(u32::MAX))), @"error: `model.gguf`: `blk.2.attn_norm.weight`: the model needs it and has none");
}

#[test]
fn a_vocabulary_of_another_size() {
    let tokens = Value::Array(Array::String(super::gguf::tokens()[..260].to_vec()));
    let kinds = Value::Array(Array::I32(vec![1; 260]));
    let change = |g: &mut Gguf| {
        g.set("tokenizer.ggml.tokens", tokens);
        g.set("tokenizer.ggml.token_type", kinds);
        g.remove("tokenizer.ggml.eos_token_id");
    };
    insta::assert_snapshot!(refused(change), @"error: `model.gguf`: `token_embd.weight`: has 261 rows for the 260 tokens of the vocabulary");
}

#[test]
fn a_model_that_is_no_gguf() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/llama-bf16"), "model");
    let run = sandbox.run("convert model -o out --to hf", &[]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.ends_with("hint: there is nothing to convert\n"), "{}", run.stderr);
    insta::assert_snapshot!(message(&run.stderr), @"error: `model`: is a safetensors checkpoint already; only GGUF models are converted to Hugging Face folders");
}

#[test]
fn an_output_that_exists() {
    let sandbox = sandbox(&Gguf::llama());
    fs::create_dir(sandbox.path("out")).unwrap();
    fs::write(sandbox.path("out/notes.txt"), "mine").unwrap();
    let run = convert(&sandbox, "");
    assert_eq!(run.code, Some(2));
    insta::assert_snapshot!(message(&run.stderr), @"error: `out`: exists");
    assert_eq!(fs::read_to_string(sandbox.path("out/notes.txt")).unwrap(), "mine");
}
