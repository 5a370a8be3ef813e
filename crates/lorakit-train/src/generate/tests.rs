//! Answers of a small model that was trained to write orders as JSON.

use std::path::{Path, PathBuf};

use lorakit::plan::Silent;
use serde_json::{Value, json};

use super::*;
use crate::adapter;
use crate::model::Lora;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn opened(adapters: &[(&str, f64)]) -> Opened {
    let model = fixture("tiny-orders");
    let adapters: Vec<_> = adapters.iter().map(|(name, weight)| (fixture(name), *weight)).collect();
    Opened::new(&Open { adapters: &adapters, threads: Some(2), ..Open::new(&model) }, &Silent).unwrap()
}

/// Orders, and what is to be answered.
fn orders(opened: &Opened) -> Vec<(Vec<u32>, String)> {
    let rows = std::fs::read_to_string(fixture("tiny-json/heldout.jsonl")).unwrap();
    let row = |row: &str| {
        let row: Value = serde_json::from_str(row).unwrap();
        let messages = row["messages"].as_array().unwrap();
        let prompt = opened.text.prompt(&messages[..1], None).unwrap();
        (prompt, messages[1]["content"].as_str().unwrap().to_string())
    };
    rows.lines().map(row).collect()
}

fn greedy() -> Sampling {
    Sampling { max_tokens: 80, ..Sampling::default() }
}

#[test]
fn orders_are_answered_with_the_adapter() {
    let opened = opened(&[("tiny-json-lora", 1.0)]);
    let orders = orders(&opened);
    let prompts: Vec<Vec<u32>> = orders.iter().map(|(prompt, _)| prompt.clone()).collect();
    let answers = opened.generator().generate_all(&prompts, &greedy()).unwrap();
    let right = answers.iter().zip(&orders).filter(|(answer, (_, expected))| answer.text == *expected);
    assert_eq!(right.count(), 60);
    for (answer, prompt) in answers.iter().zip(&prompts) {
        assert_eq!((&answer.stop, answer.prompt), (&Stop::End(2), prompt.len()));
        assert_eq!(answer.tokens.len(), answer.logprobs.len());
        assert!(answer.logprobs.iter().all(|logprob| *logprob <= 0.0));
    }
    let none = Adapter::none(&opened.base.model.shape);
    let base = opened.generator_with(&none).generate_all(&prompts, &greedy()).unwrap();
    assert!(base.iter().zip(&orders).all(|(answer, (_, expected))| answer.text != *expected));
}

#[test]
fn answers_are_those_of_whole_passes() {
    let opened = opened(&[("tiny-json-lora", 1.0)]);
    for (prompt, _) in &orders(&opened)[..3] {
        let expected = opened.base.model.greedy(&opened.adapter, prompt, &[2], 80, opened.products);
        let mut heard = String::new();
        let mut pieces = 0;
        let found = opened.generator().generate(prompt, &greedy(), &mut |text| {
            heard.push_str(text);
            pieces += 1;
            ControlFlow::Continue(())
        });
        let found = found.unwrap();
        assert_eq!((&found.tokens, &found.text), (&expected, &heard));
        assert!(pieces > 5, "{pieces} pieces");
        let all = [&prompt[..], &found.tokens].concat();
        let (first, vocabulary) = (prompt.len() - 1, opened.base.model.shape.vocabulary);
        let logits = opened.base.model.logits(&opened.adapter, &all, first..all.len() - 1, opened.products);
        for ((logits, token), logprob) in logits.chunks_exact(vocabulary).zip(&expected).zip(&found.logprobs)
        {
            let whole: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
            let expected = f64::from(logits[*token as usize]) - whole.ln();
            assert!((f64::from(*logprob) - expected).abs() < 1e-4, "{logprob} is not {expected}");
        }
    }
}

/// Whether others are generated at the same time, more than are generated together, changes nothing; nor do threads.
#[test]
fn each_answer_is_what_it_is_alone() {
    let mut opened = opened(&[("tiny-json-lora", 0.7)]);
    let prompts: Vec<Vec<u32>> = orders(&opened).into_iter().take(11).map(|(prompt, _)| prompt).collect();
    let sampling = Sampling { temperature: 1.5, top_p: 0.95, seed: 7, max_tokens: 20, ..greedy() };
    let all = opened.generator().generate_all(&prompts, &sampling).unwrap();
    opened.products.threads = 1;
    for (prompt, together) in prompts.iter().zip(&all) {
        let alone = opened.generator().generate(prompt, &sampling, &mut |_| ControlFlow::Continue(()));
        assert_eq!(&alone.unwrap(), together);
    }
    let other = Sampling { seed: 8, ..sampling };
    assert_ne!(opened.generator().generate_all(&prompts, &other).unwrap(), all);
}

#[test]
fn answers_end_for_a_reason() {
    let mut opened = opened(&[("tiny-json-lora", 1.0)]);
    let (prompt, answer) = orders(&opened).swap_remove(0);
    let whole = {
        let generator = opened.generator();
        generator.generate(&prompt, &greedy(), &mut |_| ControlFlow::Continue(())).unwrap()
    };
    let run = |opened: &Opened, sampling: &Sampling| {
        opened.generator().generate(&prompt, sampling, &mut |_| ControlFlow::Continue(())).unwrap()
    };
    let short = run(&opened, &Sampling { max_tokens: 3, ..greedy() });
    assert_eq!((&short.tokens[..], short.stop), (&whole.tokens[..3], Stop::Length));
    assert!(run(&opened, &Sampling { max_tokens: 0, ..greedy() }).tokens.is_empty());
    let colon = run(&opened, &Sampling { stop: vec![": ".into(), "\": ".into()], ..greedy() });
    assert_eq!(colon.stop, Stop::Text("\": ".into()));
    assert_eq!(colon.text, answer[..answer.find("\": ").unwrap()]);
    assert!(colon.tokens.len() < whole.tokens.len());
    opened.context = Some(prompt.len() + 4);
    let full = run(&opened, &greedy());
    assert_eq!((&full.tokens[..], full.stop), (&whole.tokens[..4], Stop::Context));
    opened.context = None;
    let mut pieces = 0;
    let enough = opened.generator().generate(&prompt, &greedy(), &mut |_| {
        pieces += 1;
        if pieces == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let enough = enough.unwrap();
    assert_eq!(enough.stop, Stop::Listener);
    assert!(whole.text.starts_with(&enough.text) && enough.text.len() < whole.text.len());
}

/// Two adapters are the sum of their products, each with its weight.
#[test]
fn adapters_are_added() {
    let one = opened(&[("tiny-json-lora", 0.25), ("tiny-upper-lora", 0.5)]);
    let other = opened(&[("tiny-json-lora", 1.0)]);
    let upper = adapter::read(&fixture("tiny-upper-lora"), &other.base).unwrap().1;
    for (layer, loras) in one.adapter.layers.iter().enumerate() {
        for (slot, lora) in loras.iter().enumerate() {
            let parts = [(&other.adapter, 0.25), (&upper, 0.5)];
            let parts: Vec<_> = parts
                .iter()
                .filter_map(|(adapter, weight)| Some((adapter.layers[layer][slot].as_ref()?, *weight)))
                .collect();
            assert_eq!(lora.is_some(), !parts.is_empty());
            let Some(lora) = lora else { continue };
            let product = |lora: &Lora<f32>, weight: f64, row: usize, col: usize| -> f64 {
                let inputs = one.base.model.layers[layer].linears[slot].weight.cols();
                let rank = lora.a.len() / inputs;
                let terms = (0..rank)
                    .map(|r| f64::from(lora.b[row * rank + r]) * f64::from(lora.a[r * inputs + col]));
                weight * lora.scale * terms.sum::<f64>()
            };
            for (row, col) in [(0, 0), (5, 17), (63, 100)] {
                let expected: f64 = parts.iter().map(|(lora, weight)| product(lora, *weight, row, col)).sum();
                let found = product(lora, 1.0, row, col);
                assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
            }
        }
    }
    let path = [(fixture("tiny-json-lora"), f64::NAN)];
    let model = fixture("tiny-orders");
    let refused = Opened::new(&Open { adapters: &path, ..Open::new(&model) }, &Silent).err().unwrap();
    assert!(refused.to_string().ends_with("the weight of an adapter is NaN; it must be a finite number"));
}

#[test]
fn prompts_that_cannot_be_answered_are_refused() {
    let mut opened = opened(&[]);
    opened.context = Some(4);
    let refused = |prompt: &[u32]| {
        let found = opened.generator().generate(prompt, &greedy(), &mut |_| ControlFlow::Continue(()));
        found.unwrap_err().to_string()
    };
    let all = [refused(&[]), refused(&[5, 512]), refused(&[1, 2, 3, 4])];
    insta::assert_snapshot!(all.join("\n"), @"
    the prompt has no tokens
    the prompt has the token 512, and the model has 512; the tokenizer is of another model
    the prompt has 4 tokens, and the model sees 4 (`max_position_embeddings`), the answer included
    ");
}

/// The template and its variables come with the adapter; those that are given win.
#[test]
fn templates_come_with_adapters() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(fixture("tiny-json-lora").join(name), folder.path().join(name)).unwrap();
    }
    std::fs::write(
        folder.path().join("chat_template.jinja"),
        "{{ messages[0].content }}|{{ mode }}|{{ more }}",
    )
    .unwrap();
    std::fs::write(folder.path().join("run.yaml"), "template_kwargs:\n  mode: one\n  more: 2\n").unwrap();
    let model = fixture("tiny-orders");
    let adapters = [(folder.path().to_path_buf(), 1.0)];
    let given = Open { adapters: &adapters, ..Open::new(&model) };
    let prompt = |how: &Open| {
        let opened = Opened::new(how, &Silent).unwrap();
        let tokens = opened.text.prompt(&[json!({"role": "user", "content": "tea"})], None).unwrap();
        opened.text.tokenizer.decode(&tokens, false).unwrap()
    };
    assert_eq!(prompt(&given), "tea|one|2");
    let kwargs = json!({"mode": "other"}).as_object().unwrap().clone();
    assert_eq!(prompt(&Open { template_kwargs: kwargs, ..given.clone() }), "tea|other|2");
    let own = folder.path().join("own.jinja");
    std::fs::write(&own, "own {{ mode }}").unwrap();
    assert_eq!(prompt(&Open { template: Some(&own), ..given.clone() }), "own one");
    std::fs::write(folder.path().join("run.yaml"), "nonsense: 1\n").unwrap();
    let refused = Opened::new(&given, &Silent).err().unwrap().to_string();
    assert!(refused.contains("run.yaml:1`"), "{refused}");
}
