//! What a converted model has besides its weights, and what the command says.

use lorakit_tensor::format::gguf::{Array, Value};
use serde_json::{Value as Json, json};

use super::gguf::{BOS, EOS, Gguf, MERGES, VOCAB, tokens};
use super::{convert, sandbox};
use crate::support::{TIMES, entries, read_json};

fn file(gguf: &Gguf, name: &str) -> Json {
    let sandbox = sandbox(gguf);
    convert(&sandbox, "").ok();
    read_json(&sandbox.path("out").join(name))
}

#[test]
fn files() {
    let sandbox = sandbox(&Gguf::llama());
    convert(&sandbox, "").ok();
    assert_eq!(
        entries(&sandbox.path("out")),
        [
            "README.md",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
}

#[test]
fn configuration() {
    insta::assert_snapshot!(format!("{:#}", file(&Gguf::llama(), "config.json")), @r#"
    {
      "architectures": [
        "LlamaForCausalLM"
      ],
      "model_type": "llama",
      "hidden_size": 64,
      "intermediate_size": 96,
      "num_hidden_layers": 2,
      "num_attention_heads": 4,
      "num_key_value_heads": 2,
      "head_dim": 16,
      "vocab_size": 261,
      "max_position_embeddings": 128,
      "rms_norm_eps": 0.00001,
      "rope_theta": 100000.0,
      "rope_scaling": null,
      "hidden_act": "silu",
      "attention_bias": false,
      "mlp_bias": false,
      "tie_word_embeddings": true,
      "bos_token_id": 259,
      "eos_token_id": 260,
      "torch_dtype": "bfloat16",
      "dtype": "bfloat16"
    }
    "#);
}

/// Embeddings are tied if, and only if, the file has no separate output matrix.
#[test]
fn tied_and_untied() {
    assert_eq!(file(&Gguf::llama(), "config.json")["tie_word_embeddings"], true);
    assert_eq!(file(&Gguf::untied(), "config.json")["tie_word_embeddings"], false);
}

#[test]
fn tokenizer() {
    let tokenizer = file(&Gguf::llama(), "tokenizer.json");
    let model = &tokenizer["model"];
    assert_eq!(model["type"], "BPE");
    assert_eq!(model["merges"], json!(MERGES));
    let ids = tokens().into_iter().enumerate().map(|(id, token)| (token, json!(id)));
    assert_eq!(model["vocab"], Json::Object(ids.collect()));
    assert_eq!(model["vocab"].as_object().unwrap().len(), VOCAB);
    let added = tokenizer["added_tokens"].as_array().unwrap().iter();
    let added: Vec<_> =
        added.map(|t| (t["id"].clone(), t["content"].clone(), t["special"].clone())).collect();
    let special = |id: usize, token: &str| (json!(id), json!(token), json!(true));
    assert_eq!(added, [special(BOS, "<s>"), special(EOS, "</s>")]);
    insta::assert_snapshot!(tokenizer["pre_tokenizer"].to_string(), @r#"{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}]}"#);
    insta::assert_snapshot!(tokenizer["post_processor"]["processors"][1].to_string(), @r#"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"<s>","type_id":1}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<s>":{"id":"<s>","ids":[259],"tokens":["<s>"]}}}"#);
}

#[test]
fn special_tokens() {
    let generation = file(&Gguf::llama(), "generation_config.json");
    assert_eq!(generation, json!({ "bos_token_id": BOS, "eos_token_id": EOS }));
    let map = file(&Gguf::llama(), "special_tokens_map.json");
    assert_eq!(map, json!({ "bos_token": "<s>", "eos_token": "</s>" }));
    let config = file(&Gguf::llama(), "tokenizer_config.json");
    assert_eq!(config["chat_template"], "{{ messages[0].content }}");
    assert_eq!((&config["add_bos_token"], &config["add_eos_token"]), (&json!(true), &json!(false)));
    assert_eq!(config["model_max_length"], 128);
}

/// One key turns a Llama into a Mistral.
#[test]
fn a_sliding_window() {
    let mut gguf = Gguf::llama();
    gguf.set("llama.attention.sliding_window", Value::U32(32));
    let config = file(&gguf, "config.json");
    assert_eq!(config["architectures"], json!(["MistralForCausalLM"]));
    assert_eq!(config["sliding_window"], 32);
}

/// Every token that ends a turn ends generation.
#[test]
fn two_ends() {
    let mut gguf = Gguf::llama();
    gguf.set("tokenizer.ggml.eot_token_id", Value::U32(7));
    assert_eq!(file(&gguf, "generation_config.json")["eos_token_id"], json!([EOS, 7]));
}

/// A vocabulary without kinds has no special tokens in the text.
#[test]
fn tokens_without_kinds() {
    let mut gguf = Gguf::llama();
    gguf.remove("tokenizer.ggml.token_type");
    assert_eq!(file(&gguf, "tokenizer.json")["added_tokens"], json!([]));
    let kinds = Value::Array(Array::I32(vec![1; VOCAB - 1]));
    gguf.set("tokenizer.ggml.token_type", kinds);
    let sandbox = sandbox(&gguf);
    let run = convert(&sandbox, "");
    assert_eq!(run.code, Some(1));
    insta::assert_snapshot!(run.stderr, @"
    error: `model.gguf`: metadata key `tokenizer.ggml.token_type` has 260 values for 261 tokens

    hint: the file is damaged, or was made by a broken tool; fetch or export it again
    ");
}

#[test]
fn a_summary() {
    let sandbox = sandbox(&Gguf::untied());
    let run = convert(&sandbox, "").ok();
    assert_eq!(run.stderr, "");
    insta::with_settings!({ filters => TIMES.to_vec() }, {
        insta::assert_snapshot!(run.stdout, @"
        converted `model.gguf`: 5 tensors F32 and 5 tensors F16 and 11 tensors Q8_0 to BF16
        wrote `out` (192 kB, 21 tensors, 1 file) in [TIME] ([RATE])
        ");
    });
}

#[test]
fn a_summary_as_json() {
    let sandbox = sandbox(&Gguf::untied());
    let run = convert(&sandbox, "--json").ok();
    let object: Json = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(object["schema"], "lorakit.convert/1");
    assert_eq!(object["dtype"], "BF16");
    assert_eq!(object["dtypes_before"], json!({ "F32": 5, "F16": 5, "Q8_0": 11 }));
}

#[test]
fn a_dry_run() {
    let sandbox = sandbox(&Gguf::untied());
    let run = convert(&sandbox, "--dry-run").ok();
    assert_eq!(sandbox.entries(), ["model.gguf"], "nothing is written");
    assert!(run.stdout.contains("model.safetensors"), "{}", run.stdout);
    let run = convert(&sandbox, "--dry-run --json").ok();
    let object: Json = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&object["schema"], &object["dry_run"]), (&json!("lorakit.convert/1"), &json!(true)));
}
