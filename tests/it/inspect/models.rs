//! Reports on models.

use std::fs;

use crate::support::{Sandbox, fixtures, peft};
use crate::weights::{read_folder, write_sharded};

#[test]
fn a_folder() {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "model");
    insta::assert_snapshot!(sandbox.run("inspect model", &[]).ok().stdout, @"
    model model
      architecture  LlamaForCausalLM (llama)
      dimensions    4 layers, 128 wide, 384 inner, 4 heads, 2 key/value heads
                    512 tokens, 512 context
      parameters    853 k in 38 tensors
      dtype         BF16
      size          1.71 MB in 1 safetensors file, 16 bits a value
      quantised     no
      embeddings    tied: input and output are one tensor
      tokenizer     tokenizer.json
    ");
}

#[test]
fn shards() {
    let sandbox = Sandbox::new();
    let model = sandbox.copy(&peft("bases/llama-bf16-sharded"), "model");
    let weights = read_folder(&model);
    fs::remove_file(model.join("model.safetensors")).unwrap();
    write_sharded(&model, &weights);
    insta::assert_snapshot!(sandbox.run("inspect model", &[]).ok().stdout, @"
    model model
      architecture  LlamaForCausalLM (llama)
      dimensions    2 layers, 128 wide, 192 inner, 4 heads, 2 key/value heads
                    320 tokens, 512 context
      parameters    328 k in 21 tensors
      dtype         BF16
      size          659 kB in 2 safetensors files, 16 bits a value
                    model-00001-of-00002.safetensors  330 kB, 11 tensors
                    model-00002-of-00002.safetensors  329 kB, 10 tensors
      quantised     no
      embeddings    not tied
      tokenizer     none beside it
    ");
}

#[test]
fn experts() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("bases/qwen3-moe-bf16"), "model");
    insta::assert_snapshot!(sandbox.run("inspect model", &[]).ok().stdout, @"
    model model
      architecture  Qwen3MoeForCausalLM (qwen3_moe)
      dimensions    2 layers, 64 wide, 96 inner, 2 heads, 1 key/value head
                    4 experts, 320 tokens, 128 context
      parameters    140 k in 45 tensors
      dtype         BF16
      size          285 kB in 1 safetensors file, 16 bits a value
      quantised     no
      embeddings    not tied
      tokenizer     none beside it
    ");
}

/// Every type that ggml has.
#[test]
fn a_gguf_file() {
    let sandbox = Sandbox::new();
    fs::copy(fixtures().join("gguf/reference.gguf"), sandbox.path("model.gguf")).unwrap();
    insta::assert_snapshot!(sandbox.run("inspect model.gguf", &[]).ok().stdout);
}

#[test]
fn several_paths_in_one_report() {
    let sandbox = Sandbox::new();
    sandbox.copy(&peft("adapters/attn-r4"), "adapter");
    sandbox.copy(&peft("bases/llama-bf16"), "model");
    let both = sandbox.run("inspect adapter model", &[]).ok().stdout;
    let one = |path: &str| sandbox.run(&format!("inspect {path}"), &[]).ok().stdout;
    assert_eq!(both, format!("{}\n{}", one("adapter"), one("model")));
}
