//! SmolLM2-135M-Instruct answers as transformers makes it answer.
//!
//! The model is fetched by `fixtures/fetch-smollm2.sh`. CI fetches it first and must not skip this.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it skips"
)]

use std::path::{Path, PathBuf};

use lorakit::DType;
use lorakit::ops::convert::{ConvertOptions, gguf_to_hf};
use lorakit::ops::merge::{self, MergeOptions, Sum};
use lorakit::plan::Silent;
use lorakit_train::base::Quant;
use lorakit_train::generate::{Open, Opened, Sampling, Stop};
use lorakit_train::model::Adapter;
use serde_json::Value;

/// What transformers computes in f32 differs by rounding.
const APART: f64 = 1e-3;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn tokens(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|token| token.as_u64().unwrap() as u32).collect()
}

#[test]
fn it_answers_as_transformers_does() {
    let gguf = fixture("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    if !gguf.is_file() {
        assert!(std::env::var_os("CI").is_none(), "`sh fixtures/fetch-smollm2.sh` was not run");
        return println!("skipped: `sh fixtures/fetch-smollm2.sh` fetches the model");
    }
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("bf16");
    let options = ConvertOptions::new(&gguf, &base).with_dtype(Some(DType::BF16));
    gguf_to_hf(&options, &Silent).unwrap().run(2, &Silent).unwrap();

    let golden = std::fs::read_to_string(fixture("golden/train/smollm2.json")).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    let prompts = golden["prompts"].as_array().unwrap();
    assert_eq!(prompts.len(), 20);
    let adapters = [(fixture("smollm2-orders-lora"), 1.0)];
    for (name, quant) in [("bf16", Quant::Keep), ("nf4", Quant::Nf4 { double: false })] {
        let open = Open { quant, adapters: &adapters, threads: Some(2), ..Open::new(&base) };
        let opened = Opened::new(&open, &Silent).unwrap();
        let asked: Vec<Vec<u32>> = prompts.iter().map(|prompt| asked(&opened, prompt)).collect();
        agrees(&opened, &Adapter::none(&opened.base.model.shape), &asked, &golden[name], name);
        agrees(&opened, &opened.adapter, &asked, &golden[format!("{name}+lora")], &format!("{name}+lora"));
    }

    let merged = folder.path().join("merged");
    let sum = Sum::new(&base, adapters);
    let options = MergeOptions::new(sum, &merged).with_dtype(Some(DType::F32));
    merge::plan(&options, &Silent).unwrap().run(2, &Silent).unwrap();
    let opened = Opened::new(&Open { threads: Some(2), ..Open::new(&merged) }, &Silent).unwrap();
    let asked: Vec<Vec<u32>> = prompts.iter().map(|prompt| asked(&opened, prompt)).collect();
    agrees(&opened, &opened.adapter, &asked, &golden["bf16+lora"], "merged");
}

/// The tokens of a prompt, which are those of transformers.
fn asked(opened: &Opened, prompt: &Value) -> Vec<u32> {
    let tokens_here = match prompt["messages"].as_array() {
        Some(messages) => opened.text.prompt(messages, None).unwrap(),
        None => opened.text.plain(prompt["text"].as_str().unwrap()).unwrap(),
    };
    assert_eq!(tokens_here, tokens(&prompt["tokens"]), "{prompt}");
    tokens_here
}

fn agrees(opened: &Opened, adapter: &Adapter<f32>, asked: &[Vec<u32>], golden: &Value, name: &str) {
    let sampling = Sampling { max_tokens: 24, ..Sampling::default() };
    let answers = opened.generator_with(adapter).generate_all(asked, &sampling).unwrap();
    let (mut sure_of, mut furthest) = (0, 0.0_f64);
    for (at, (answer, prompt)) in answers.iter().zip(asked).enumerate() {
        let golden = &golden[at];
        let sure = golden["sure"].as_u64().unwrap() as usize;
        let mut found = answer.tokens.clone();
        found.extend(if let Stop::End(token) = answer.stop { Some(token) } else { None });
        let expected = tokens(&golden["tokens"]);
        assert_eq!(
            found[..sure.min(found.len())],
            expected[..sure],
            "{name}: answer {at}: {:?}",
            answer.text
        );
        sure_of += sure;

        let vocabulary = opened.base.model.shape.vocabulary;
        let logits: Vec<f32> =
            opened.base.model.logits(adapter, prompt, 0..prompt.len() - 1, opened.products);
        let expected = golden["logprobs"].as_array().unwrap();
        assert_eq!(expected.len(), prompt.len() - 1);
        for ((logits, token), expected) in logits.chunks(vocabulary).zip(&prompt[1..]).zip(expected) {
            let logprob = logprob(logits, *token);
            furthest = furthest.max((logprob - expected.as_f64().unwrap()).abs());
        }
    }
    println!(
        "{name}: {sure_of} tokens as in transformers, log-probabilities of prompts at most {furthest:.1e} off"
    );
    assert!(furthest < APART, "{name}: a log-probability is {furthest} off");
    assert!(sure_of > 200, "{name}: only {sure_of} tokens were compared");
}

fn logprob(logits: &[f32], token: u32) -> f64 {
    let top = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - top).exp()).sum();
    f64::from(logits[token as usize] - top) - sum.ln()
}
