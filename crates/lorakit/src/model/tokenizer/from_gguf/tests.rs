use lorakit_tensor::ErrorKind::{Corrupt, Incomplete, Unsupported};
use lorakit_tensor::format::gguf::{Array, Value as GgufValue};

use super::*;
use crate::ErrorKind::{self, File};

fn strings(values: &[&str]) -> GgufValue {
    GgufValue::Array(Array::String(values.iter().map(|v| v.to_string()).collect()))
}

fn bpe() -> Metadata {
    let mut metadata = Metadata::default();
    metadata.set("tokenizer.ggml.model", GgufValue::String("gpt2".into()));
    metadata.set("tokenizer.ggml.pre", GgufValue::String("llama-bpe".into()));
    metadata.set("tokenizer.ggml.tokens", strings(&["a", "b", "Ġ", "Ġa", "Ġab", "<s>", "<end>", "[PAD7]"]));
    metadata.set("tokenizer.ggml.token_type", GgufValue::Array(Array::I32(vec![1, 1, 1, 1, 1, 3, 4, 5])));
    metadata.set("tokenizer.ggml.merges", strings(&["Ġ a", "Ġa b"]));
    metadata.set("tokenizer.ggml.bos_token_id", GgufValue::U32(5));
    metadata.set("tokenizer.ggml.eos_token_id", GgufValue::U32(6));
    metadata.set("tokenizer.ggml.eot_token_id", GgufValue::U32(6));
    metadata.set("tokenizer.chat_template", GgufValue::String("{{ x }}\n".into()));
    metadata
}

fn refusal(metadata: &Metadata) -> (ErrorKind, String) {
    let error = tokenizer(metadata, 64).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn byte_level_bpe() {
    let files = tokenizer(&bpe(), 64).unwrap();
    let json = &files.tokenizer;
    assert_eq!(
        json["model"].to_string(),
        r#"{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":true,"vocab":{"a":0,"b":1,"Ġ":2,"Ġa":3,"Ġab":4,"<s>":5,"<end>":6},"merges":["Ġ a","Ġa b"]}"#
    );
    let added: Vec<_> =
        json["added_tokens"].as_array().unwrap().iter().map(|t| (&t["id"], &t["special"])).collect();
    assert_eq!(added, [(&json!(5), &json!(true)), (&json!(6), &json!(false))]);
    assert_eq!(json["pre_tokenizer"]["pretokenizers"].as_array().unwrap().len(), 2);
    assert_eq!(
        json["post_processor"]["processors"][1].to_string(),
        r#"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"<s>","type_id":1}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<s>":{"id":"<s>","ids":[5],"tokens":["<s>"]}}}"#
    );
    assert_eq!(
        files.config.to_string(),
        r#"{"bos_token":"<s>","eos_token":"<end>","add_bos_token":true,"add_eos_token":false,"clean_up_tokenization_spaces":false,"model_max_length":64,"tokenizer_class":"PreTrainedTokenizerFast","chat_template":"{{ x }}\n"}"#
    );
    assert_eq!((files.ids.ends, files.vocab_size), (vec![6], 8));
}

#[test]
fn without_bos_nothing_frames_the_text() {
    let mut metadata = bpe();
    metadata.set("tokenizer.ggml.add_bos_token", GgufValue::Bool(false));
    let json = tokenizer(&metadata, 64).unwrap().tokenizer;
    assert_eq!(json["post_processor"]["type"], "ByteLevel");
}

#[test]
fn several_chat_templates_become_a_list() {
    let mut metadata = bpe();
    metadata.set("tokenizer.chat_template.tool_use", GgufValue::String("tools".into()));
    let config = tokenizer(&metadata, 64).unwrap().config;
    assert_eq!(
        config["chat_template"].to_string(),
        r#"[{"name":"default","template":"{{ x }}\n"},{"name":"tool_use","template":"tools"}]"#
    );
}

/// The golden file holds the model that SentencePiece trained, and the merges that transformers derives from it.
#[test]
fn sentencepiece_merges_equal_those_of_transformers() {
    let golden = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/tokenizer/spm.json"));
    let golden: Value = serde_json::from_str(golden).unwrap();
    let list = |key: &str| golden[key].as_array().unwrap().clone();
    let tokens = list("tokens").iter().map(|v| v.as_str().unwrap().to_string()).collect();
    let scores = list("scores").iter().map(|v| v.as_f64().unwrap() as f32).collect();
    let kinds = list("kinds").iter().map(|v| v.as_i64().unwrap() as i32).collect();

    let mut metadata = Metadata::default();
    metadata.set("tokenizer.ggml.model", GgufValue::String("llama".into()));
    metadata.set("tokenizer.ggml.tokens", GgufValue::Array(Array::String(tokens)));
    metadata.set("tokenizer.ggml.token_type", GgufValue::Array(Array::I32(kinds)));
    assert_eq!(refusal(&metadata), (File(Incomplete), "has no metadata key `tokenizer.ggml.scores`".into()));
    metadata.set("tokenizer.ggml.scores", GgufValue::Array(Array::F32(scores)));

    let files = tokenizer(&metadata, 64).unwrap();
    let json = files.tokenizer;
    assert_eq!(json["model"]["merges"], golden["merges"]);
    assert_eq!(json["model"]["vocab"].as_object().unwrap().len(), list("tokens").len());
    assert_eq!(json["model"]["unk_token"], "<unk>");
    assert_eq!(
        json["normalizer"].to_string(),
        r#"{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]}"#
    );
    assert_eq!(json["post_processor"]["single"][0]["SpecialToken"]["id"], "<s>");
    assert_eq!(
        files.special_tokens.to_string(),
        r#"{"bos_token":"<s>","eos_token":"</s>","unk_token":"<unk>"}"#
    );
}

#[test]
fn contradictions_are_refused() {
    let with = |key: &str, value: GgufValue| {
        let mut metadata = bpe();
        metadata.set(key, value);
        refusal(&metadata)
    };
    let cases = [
        ("tokenizer.ggml.model", GgufValue::String("bert".into()), File(Unsupported), "`bert`"),
        ("tokenizer.ggml.pre", GgufValue::String("viking".into()), File(Unsupported), "`viking`"),
        ("tokenizer.ggml.tokens", strings(&["a", "a"]), File(Corrupt), "has 8 values for 2 tokens"),
        ("tokenizer.ggml.tokens", strings(&["a"; 8]), File(Corrupt), "`a` twice, as 0 and as 1"),
        ("tokenizer.ggml.token_type", GgufValue::Array(Array::I32(vec![7; 8])), File(Corrupt), "from 1 to 6"),
        ("tokenizer.ggml.merges", strings(&["a b"]), File(Corrupt), "`a b` is not two tokens"),
        ("tokenizer.ggml.merges", strings(&["ab"]), File(Corrupt), "`ab` is not two tokens"),
        ("tokenizer.ggml.bos_token_id", GgufValue::U32(8), File(Corrupt), "is 8; the vocabulary has 8"),
        ("tokenizer.ggml.bos_token_id", GgufValue::I32(-1), File(Corrupt), "not negative"),
    ];
    for (key, value, kind, part) in cases {
        let (found, message) = with(key, value);
        assert_eq!(found, kind, "{message}");
        assert!(message.contains(part), "{message}");
    }
}
