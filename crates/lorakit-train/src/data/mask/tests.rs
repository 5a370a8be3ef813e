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
    insta::assert_snapshot!(all.join("\n"), @r#"
    qwen3, sentinel probe: ["Hello<|im_end|>\n", "Bye.<|im_end|>\n"]
    qwen3_training, generation tags: ["Hello<|im_end|>\n", "Bye.<|im_end|>\n"]
    smollm3_like, generation tags: ["Hello<|im_end|>\n", "Bye.<|im_end|>\n"]
    "#);
}

#[test]
fn stock_templates_train_what_their_training_variants_do() {
    let golden = Golden::read();
    let mut wrong = String::new();
    let mut methods = std::collections::BTreeMap::new();
    let mut refused = Vec::new();
    for case in golden.cases().filter(|case| !case.prompt() && case.trained().is_some()) {
        // What the prompt gives has a test of its own.
        if case.name == "thinking-off" {
            continue;
        }
        let mask = |template: &str| {
            let text = golden.text(template, case.variables());
            let masked = Masker::new(&text).unwrap().mask(&case.conversation(), TrainOn::Auto)?;
            Ok::<_, crate::Error>((
                ranges(&of_tokens(&text.encode(&masked.text)?, &masked.spans)),
                masked.method,
            ))
        };
        let variant = format!("{}_training", case.template);
        let is_variant = golden.templates().any(|name| name == variant);
        // Tags around the header, which the prompt gives, differ from the golden.
        let expected = match is_variant {
            true => match mask(&variant) {
                Ok((expected, _)) => expected,
                Err(error) => {
                    refused.push(format!("{case}: {error}"));
                    continue;
                }
            },
            false if golden.within_tags(case.template) => continue,
            false => case.trained().unwrap(),
        };
        match mask(case.template) {
            Ok((found, method)) if found == expected => *methods.entry(method).or_insert(0) += 1,
            Err(error) => refused.push(format!("{case}: {error}")),
            Ok(found) => {
                let _ = writeln!(wrong, "{case}: {found:?}\n    {expected:?}");
            }
        }
    }
    assert!(wrong.is_empty(), "{methods:?}\n{wrong}");
    insta::assert_snapshot!(format!("{methods:?}\n{}", refused.join("\n")), @r"
    {Tags: 38, Prefix: 35, Probe: 14}
    deepseek_r1_distill calls: the assistant calls a function, and the chat template does not write the call
    llama3 calls: the assistant calls a function, and the chat template does not write the call
    llama3_training calls: the assistant calls a function, and the chat template does not write the call
    phi3 calls: the assistant calls a function, and the chat template does not write the call
    phi3_training calls: the assistant calls a function, and the chat template does not write the call
    ");
}
