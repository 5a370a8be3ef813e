//! Against transformers (`fixtures/generate/chat_templates.py`), and laws of masks.

use std::fmt::Write as _;

use super::*;
use crate::data::document::weights as of_tokens;
use crate::data::testing::{Golden, ranges};

#[test]
fn texts_are_those_of_transformers() {
    let golden = Golden::read();
    let mut wrong = String::new();
    for case in golden.cases() {
        let text = golden.text(case.template, case.variables());
        let template = text.template.as_ref().unwrap();
        let (messages, tools) = (case.messages(), case.tools());
        let variables = &text.variables;
        let found = template.render(Context {
            messages: &messages,
            tools: tools.as_ref(),
            prompt: case.prompt(),
            variables,
        });
        let found = match (found, case.expected["text"].as_str()) {
            (Err(_), None) => continue,
            (Ok(rendered), Some(expected)) if rendered.text == expected => rendered,
            (found, expected) => {
                let found = found.map(|rendered| rendered.text);
                let _ = writeln!(wrong, "{case}: {found:?}\n    {expected:?}");
                continue;
            }
        };
        let encoded = text.encode(&found.text).unwrap();
        assert_eq!(encoded.tokens.len() as u64, case.expected["tokens"].as_u64().unwrap(), "{case}");
        if template.has_generation_tags() {
            let spans: Vec<Span> =
                found.generated.into_iter().map(|range| Span { range, weight: 1.0 }).collect();
            let trained = ranges(&of_tokens(&encoded, &spans));
            if trained != case.trained().unwrap() {
                let _ = writeln!(wrong, "{case}: {trained:?} {}", case.expected["trained"]);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_the_prompt_gives_is_not_trained() {
    let golden = Golden::read();
    let mut all = Vec::new();
    for name in ["qwen3", "qwen3_training", "smollm3_like"] {
        let case = golden.cases().find(|case| case.template == name && case.name == "thinking-off").unwrap();
        let text = golden.text(name, case.variables());
        let masked = Masker::new(&text).unwrap().mask(&case.conversation(), TrainOn::Auto).unwrap();
        let spans: Vec<&str> = masked.spans.iter().map(|span| &masked.text[span.range.clone()]).collect();
        all.push(format!("{name}, {}: {spans:?}", masked.method));
    }
    insta::assert_snapshot!(all.join("\n"), @"");
}

#[test]
fn stock_templates_train_what_their_training_variants_do() {
    let golden = Golden::read();
    let mut wrong = String::new();
    let mut count = 0;
    for case in golden.cases().filter(|case| !case.prompt() && case.expected["text"].is_string()) {
        let Some(trained) = case.trained() else { continue };
        let text = golden.text(case.template, case.variables());
        let masker = Masker::new(&text).unwrap();
        if masker.manner.prompt_within_tags || case.name == "thinking-off" {
            continue;
        }
        let found = match masker.mask(&case.conversation(), TrainOn::Auto) {
            Ok(found) => found,
            Err(error) => {
                let _ = writeln!(wrong, "{case}: {error}");
                continue;
            }
        };
        let encoded = text.encode(&found.text).unwrap();
        let ours = ranges(&of_tokens(&encoded, &found.spans));
        count += 1;
        if ours != trained {
            let ours: Vec<&str> = found.spans.iter().map(|span| &found.text[span.range.clone()]).collect();
            let _ = writeln!(wrong, "{case} {:?}: {ours:?} {trained:?}", found.method);
        }
    }
    assert!(wrong.is_empty(), "{count} cases\n{wrong}");
}
