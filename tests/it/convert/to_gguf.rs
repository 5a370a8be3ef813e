//! Hugging Face folders as GGUF files: what the command says, and what it refuses.
//!
//! That every key and byte is llama.cpp's is tested in the library (`crates/lorakit/tests/to_gguf.rs`).

use std::fs;
use std::path::Path;

use lorakit_tensor::format::gguf::Value as GgufValue;
use lorakit_tensor::{Checkpoint, Reader};
use serde_json::{Value, json};

use crate::support::{Run, Sandbox, TIMES, fixtures, read_json};
use crate::weights::{read_folder, write_file};

/// A sandbox with a model of `family` in `model/`.
fn sandbox(family: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("golden/convert").join(family), "model");
    sandbox
}

fn convert(sandbox: &Sandbox, options: &str) -> Run {
    sandbox.run(&format!("convert model -o model.gguf --to gguf {options}"), &[])
}

/// The message about a model that was changed.
#[track_caller]
fn refused(family: &str, change: impl FnOnce(&Path)) -> String {
    let sandbox = sandbox(family);
    change(&sandbox.path("model"));
    let run = convert(&sandbox, "");
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{}", run.stderr);
    assert_eq!(sandbox.entries(), ["model"], "nothing is written");
    run.stderr.split("\n\nhint: ").next().unwrap().trim_end().to_string()
}

/// Changes a JSON file of the model.
fn edit(model: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let path = model.join(name);
    let mut json = read_json(&path);
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// Renames a tensor of the model, or removes it.
fn rename(model: &Path, from: &str, to: Option<&str>) {
    let mut weights = read_folder(model);
    let tensor = weights.remove(from).unwrap();
    if let Some(to) = to {
        weights.insert(to.into(), tensor);
    }
    write_file(&model.join("model.safetensors"), &weights);
}

#[test]
fn a_summary() {
    let sandbox = sandbox("llama");
    let run = convert(&sandbox, "--dtype f16").ok();
    assert_eq!(run.stderr, "");
    insta::with_settings!({ filters => TIMES.to_vec() }, {
        insta::assert_snapshot!(run.stdout, @"
        converted `model`: 29 tensors BF16 to F16
        wrote `model.gguf` (99.9 kB, 30 tensors, 1 file) in [TIME] ([RATE])
        ");
    });
    let run = convert(&sandbox, "--force --json").ok();
    let object: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&object["schema"], &object["dtype"]), (&json!("lorakit.convert/1"), &json!("BF16")));
}

/// The file of every example is written, and can be converted back.
#[test]
fn there_and_back() {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "model");
    convert(&sandbox, "").ok();
    sandbox.run("convert model.gguf -o back --to hf", &[]).ok();
    let (model, back) = (read_folder(&sandbox.path("model")), read_folder(&sandbox.path("back")));
    assert_eq!(model.len(), back.len());
    for (name, tensor) in &model {
        assert_eq!(back[name].matrix().values, tensor.matrix().values, "{name}");
    }
    let vocab =
        |folder: &str| read_json(&sandbox.path(folder).join("tokenizer.json"))["model"]["vocab"].clone();
    assert_eq!(vocab("back"), vocab("model"));
}

#[test]
fn the_cut_of_text_may_be_named() {
    let sandbox = sandbox("llama");
    edit(&sandbox.path("model"), "tokenizer.json", |json| {
        json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\p{L}+".into();
    });
    let run = convert(&sandbox, "");
    assert_eq!(run.code, Some(1));
    insta::assert_snapshot!(run.stderr, @"
    error: `model`: `tokenizer.json` cuts text by an unknown rule (its digest is 41df52650bde1dbd)

    hint: `--pre NAME` names the rule of llama.cpp that it follows
    ");
    convert(&sandbox, "--pre viking").ok();
    let file = Checkpoint::open(&sandbox.path("model.gguf"), &Reader::default()).unwrap();
    let pre = file.gguf().unwrap().get("tokenizer.ggml.pre").and_then(GgufValue::as_str);
    assert_eq!(pre, Some("viking"));
    // llama.cpp does not load a file with another name.
    let run = convert(&sandbox, "--force --pre vikings");
    assert!(run.stderr.contains("llama.cpp knows no pre-tokenizer `vikings`; the known ones are a.x-4.0, "));
    assert_eq!(run.code, Some(2), "{}", run.stderr);
}

/// The reference makes a list of `chat_template.jinja`, as the default, and of the files beside it.
#[test]
fn additional_chat_templates() {
    let sandbox = sandbox("llama");
    let folder = sandbox.path("model/additional_chat_templates");
    fs::create_dir(&folder).unwrap();
    for (name, text) in
        [("tool_use.jinja", "{{ 'tools' }}"), ("rag.jinja", "{{ 'rag' }}"), ("notes.txt", "no")]
    {
        fs::write(folder.join(name), text).unwrap();
    }
    let default = fs::read_to_string(sandbox.path("model/chat_template.jinja")).unwrap();
    convert(&sandbox, "").ok();
    let file = Checkpoint::open(&sandbox.path("model.gguf"), &Reader::default()).unwrap();
    let key = |name: &str| file.gguf().unwrap().get(&format!("tokenizer.{name}"));
    let text = |name: &str| key(name).and_then(GgufValue::as_str);
    assert_eq!(key("chat_templates").and_then(GgufValue::as_strings).unwrap(), ["rag", "tool_use"]);
    assert_eq!(text("chat_template.rag"), Some("{{ 'rag' }}"));
    assert_eq!(text("chat_template.tool_use"), Some("{{ 'tools' }}"));
    assert_eq!(text("chat_template"), Some(default.as_str()));

    // A template in the configuration of the tokenizer comes before all of them.
    edit(&sandbox.path("model"), "tokenizer_config.json", |json| {
        json["chat_template"] = json!("{{ 'own' }}")
    });
    convert(&sandbox, "--force").ok();
    let file = Checkpoint::open(&sandbox.path("model.gguf"), &Reader::default()).unwrap();
    let metadata = file.gguf().unwrap();
    assert_eq!(metadata.get("tokenizer.chat_template").and_then(GgufValue::as_str), Some("{{ 'own' }}"));
    assert!(metadata.get("tokenizer.chat_templates").is_none());
}

#[test]
fn sources_that_are_no_such_model() {
    insta::assert_snapshot!(refused("llama", |m| fs::remove_file(m.join("config.json")).unwrap()), @"error: `model`: has no `config.json`, which says what kind of model it is; the source must be a Hugging Face folder");
    insta::assert_snapshot!(refused("llama", |m| edit(m, "config.json", |c| c["architectures"] = json!(["MambaForCausalLM"]))), @"error: `model`: is a model of the class `MambaForCausalLM`; the known ones are LlamaForCausalLM, MistralForCausalLM, MixtralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, Qwen3MoeForCausalLM, Gemma2ForCausalLM, Gemma3ForCausalLM, Phi3ForCausalLM, SmolLM3ForCausalLM, GraniteForCausalLM");
    let sandbox = sandbox("llama");
    convert(&sandbox, "").ok();
    let run = sandbox.run("convert model.gguf -o other.gguf --to gguf", &[]);
    insta::assert_snapshot!(run.stderr, @"
    error: `model.gguf`: is a GGUF model already

    hint: `lorakit quantize` changes the types of a GGUF model
    ");
}

#[test]
fn configurations_that_do_not_fit() {
    insta::assert_snapshot!(refused("llama", |m| edit(m, "config.json", |c| c["hidden_size"] = Value::Null)), @"error: `model`: `config.json` has no `hidden_size`, which the model needs");
    insta::assert_snapshot!(refused("llama", |m| edit(m, "config.json", |c| c["num_attention_heads"] = json!(-4))), @"error: `model`: `num_attention_heads` of `config.json` is -4; it must be a whole number below 2^32");
    insta::assert_snapshot!(refused("llama", |m| edit(m, "config.json", |c| c["num_attention_heads"] = json!(5))), @"error: `model`: `model.layers.0.self_attn.q_proj.bias`: has 64 rows, which are not 5 heads of an even number of rows");
    insta::assert_snapshot!(refused("llama", |m| edit(m, "config.json", |c| c["num_hidden_layers"] = json!(1))), @"error: `model`: `model.layers.1.input_layernorm.weight`: is of a layer beyond the 1 of the model");
    insta::assert_snapshot!(refused("llama", |m| edit(m, "config.json", |c| c["num_hidden_layers"] = json!(3))), @"error: `model`: `blk.2.attn_norm.weight`: the model needs it and has none");
    insta::assert_snapshot!(refused("llama", |m| edit(m, "config.json", |c| c["rope_parameters"]["rope_type"] = json!("spiral"))), @"error: `model`: scales positions by `spiral`; the known ones are linear, yarn, longrope and llama3");
    insta::assert_snapshot!(refused("llama", |m| edit(m, "config.json", |c| c["head_dim"] = json!(4_294_967_295u32))), @"error: `model`: has heads of 4294967295 values by its `config.json`; at most 8192 are allowed");
    insta::assert_snapshot!(refused("mixtral", |m| edit(m, "config.json", |c| c["num_local_experts"] = json!(4_294_967_295u32))), @"error: `model`: `num_local_experts` of `config.json` is 4294967295; it must be at most 65536");
    insta::assert_snapshot!(refused("qwen2", |m| edit(m, "config.json", |c| c["rope_parameters"]["rope_type"] = json!("llama3"))), @"error: `model`: scales positions by `llama3`, which GGUF models of the family `qwen2` cannot");
    insta::assert_snapshot!(refused("phi3", |m| edit(m, "config.json", |c| c["rope_parameters"]["long_factor"] = json!([1.0]))), @"error: `model`: `long_factor` of `config.json` has 1 of 4 numbers");
}

#[test]
fn tensors_that_do_not_fit() {
    const NORM: &str = "model.layers.1.input_layernorm.weight";
    insta::assert_snapshot!(refused("llama", |m| rename(m, NORM, None)), @"error: `model`: `blk.1.attn_norm.weight`: the model needs it and has none");
    insta::assert_snapshot!(refused("llama", |m| rename(m, NORM, Some("model.layers.1.prenorm.weight"))), @"error: `model`: `model.layers.1.prenorm.weight`: has no name in GGUF files of the family `llama`");
    const EXPERT: &str = "model.layers.0.block_sparse_moe.experts.2.w1.weight";
    insta::assert_snapshot!(refused("mixtral", |m| rename(m, EXPERT, None)), @"error: `model`: `blk.0.ffn_gate_exps.weight`: has 3 of 4 experts");
    insta::assert_snapshot!(refused("mixtral", |m| rename(m, EXPERT, Some(&EXPERT.replace('2', "4")))), @"error: `model`: `model.layers.0.block_sparse_moe.experts.4.w1.weight`: belongs to expert 4, but `config.json` has 4 experts");
}

#[test]
fn vocabularies_that_do_not_fit() {
    let size = |size: u64| move |m: &Path| edit(m, "config.json", |c| c["vocab_size"] = json!(size));
    insta::assert_snapshot!(refused("llama", size(319)), @"error: `model`: `token_embd.weight`: has 320 rows for the 319 tokens of the vocabulary");
    insta::assert_snapshot!(refused("llama", size(200)), @"error: `model`: `tokenizer.json` has 279 tokens, and `vocab_size` is 200");
    insta::assert_snapshot!(refused("mistral", size(400)), @"error: `model`: `token_embd.weight`: has 320 rows for the 400 tokens of the vocabulary");
    // A number in a file must not decide how much is allocated.
    insta::assert_snapshot!(refused("llama", size(4_294_967_295)), @"error: `model`: `token_embd.weight`: has 320 rows for the 4294967295 tokens of the vocabulary");
    insta::assert_snapshot!(refused("mistral", size(4_294_967_295)), @"error: `model`: `token_embd.weight`: has 320 rows for the 4294967295 tokens of the vocabulary");
    let id = |id: u64| {
        move |m: &Path| {
            edit(m, "config.json", |c| c["vocab_size"] = Value::Null);
            edit(m, "tokenizer.json", |t| t["added_tokens"][0]["id"] = json!(id));
        }
    };
    insta::assert_snapshot!(refused("llama2", id(u64::MAX)), @"error: `model`: `token_embd.weight`: has 270 rows for the 18446744073709551615 tokens of the vocabulary");
    insta::assert_snapshot!(refused("llama", |m| fs::remove_file(m.join("tokenizer.json")).unwrap()), @"error: `model`: has no tokenizer that a GGUF file can hold; it must have `tokenizer.model` (SentencePiece), or `tokenizer.json` with BPE that falls back to bytes, or `tokenizer.json` with byte-level BPE");
    insta::assert_snapshot!(refused("gemma2", |m| fs::remove_file(m.join("tokenizer.model")).unwrap()), @"error: `model`: has no tokenizer that a GGUF file can hold; it must have `tokenizer.model` (SentencePiece)");
    insta::assert_snapshot!(refused("mistral", |m| fs::write(m.join("tokenizer.model"), b"version https://git-lfs").unwrap()), @"error: `model`: `tokenizer.model` is damaged, or not a SentencePiece model");
    insta::assert_snapshot!(refused("llama", |m| fs::write(m.join("tokenizer.json"), b"{").unwrap()), @"error: `tokenizer.json`: is not valid JSON: EOF while parsing an object at line 1 column 1");
    let prefix = |prefix: &'static str| {
        move |m: &Path| edit(m, "tokenizer.json", |t| t["model"]["continuing_subword_prefix"] = json!(prefix))
    };
    insta::assert_snapshot!(refused("llama", prefix("##")), @"error: `model`: `tokenizer.json` marks parts of words by `##`, which GGUF files cannot record for this kind of tokenizer");
    let long = ["a", "b"].map(|letter| letter.repeat(300));
    insta::assert_snapshot!(refused("llama", |m| edit(m, "tokenizer.json", |t| {
        t["model"]["vocab"][&long[0]] = json!(270);
        t["model"]["vocab"][&long[1]] = json!(271);
        t["model"]["merges"] = json!([long]);
    })), @"error: `model`: the merge `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...` is not two tokens that form a third");
    insta::assert_snapshot!(refused("llama", |m| edit(m, "tokenizer.json", |t| t["model"]["merges"] = json!([["a"]]))), @"error: `model`: `tokenizer.json`: data did not match any variant of untagged enum MergeType at line 1 column 3893");
}
