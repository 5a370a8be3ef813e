use serde_json::{Value, json};

use super::read::NAMES;
use super::*;

fn read(value: &Value) -> Result<Vec<Check>> {
    checks(value.as_object().unwrap())
}

fn answer(text: &str) -> Answer {
    Answer { text: text.into(), tokens: text.len(), stopped: true }
}

/// Why `text` does not pass `checks`.
fn why(checks: &Value, text: &str) -> Vec<String> {
    read(checks).unwrap().iter().filter_map(|check| check.failure(&answer(text))).collect()
}

#[test]
fn answers_pass_or_the_reason_is_told() {
    let passes = [
        (json!({"exact": "a b"}), "a b"),
        (json!({"exact": ""}), ""),
        (json!({"contains": ["a", "ß"]}), "xßa"),
        (json!({"not_contains": "sorry"}), "Sorry"),
        (json!({"regex": r"^\d+(?= units)"}), "12 units"),
        (json!({"regex": "(?i)YES"}), "well, yes"),
        (json!({"json": true}), " {\"a\": [1, null]}\n"),
        (json!({"json": false}), "no JSON"),
        (json!({"json_schema": {"type": "object", "required": ["a"]}}), "{\"a\": 1}"),
        (json!({"max_len": 3}), "äöü"),
        (json!({"stop": true}), "done"),
    ];
    for (checks, text) in passes {
        assert_eq!(why(&checks, text), Vec::<String>::new(), "{checks}: {text}");
    }
    let fails = [
        (json!({"exact": "a b"}), "a b "),
        (json!({"contains": ["a", "ß"]}), "xa"),
        (json!({"not_contains": ["sorry", "cannot"]}), "sorry, I cannot"),
        (json!({"regex": r"^\d+$"}), "12 units"),
        (json!({"json": true}), "```json\n{}\n```"),
        (json!({"json": true}), "{\"a\": 1} Done."),
        (json!({"json": true}), "{\"a\": 1"),
        (json!({"json_schema": {"type": "object", "required": ["a"]}}), "{\"b\": 1}"),
        (json!({"json_schema": {"type": "object"}}), "{"),
        (json!({"max_len": 2}), "äöü"),
    ];
    let told: Vec<String> = fails.iter().map(|(checks, text)| why(checks, text).join("; ")).collect();
    insta::assert_snapshot!(told.join("\n"));
    let cut = Answer { text: "on and on".into(), tokens: 96, stopped: false };
    assert_eq!(Check::Stop.failure(&cut).unwrap(), "does not end within 96 tokens");
}

#[test]
fn what_a_pattern_costs_is_limited() {
    let check = Check::Regex(Pattern::new(r"(?:(?=x)x|x)+y\b(?<=z)").unwrap());
    let why = check.failure(&answer(&"x".repeat(40_000))).unwrap();
    assert!(why.contains("match"), "{why}");
}

#[test]
fn checks_are_read_or_refused() {
    for name in NAMES {
        let value = match name {
            "json" | "stop" => json!(true),
            "max_len" => json!(1),
            "json_schema" => json!({}),
            _ => json!("a"),
        };
        assert_eq!(read(&json!({ name: value })).unwrap()[0].name(), name);
    }
    let refused = [
        json!({"contain": "a"}),
        json!({"exact": ["a"]}),
        json!({"contains": [1]}),
        json!({"regex": "("}),
        json!({"json": "yes"}),
        json!({"json_schema": {"typ": "object"}}),
        json!({"max_len": -1}),
        json!({"stop": 1}),
    ];
    let told: Vec<String> = refused.iter().map(|checks| read(checks).unwrap_err().to_string()).collect();
    insta::assert_snapshot!(told.join("\n"));
}
