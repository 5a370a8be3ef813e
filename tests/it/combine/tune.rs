//! Weights that are chosen by measuring.

use std::fs;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{Run, Sandbox, files, fixtures, read_json};

const TUNE: &str = "combine json upper -o both --model base --tune heldout.jsonl -t 2";

fn workshop(rows: usize) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "base");
    sandbox.copy(&fixtures().join("tiny-json-lora"), "json");
    sandbox.copy(&fixtures().join("tiny-upper-lora"), "upper");
    let all = fs::read_to_string(fixtures().join("tiny-json/heldout.jsonl")).unwrap();
    let some: Vec<&str> = all.lines().take(rows).collect();
    fs::write(sandbox.path("heldout.jsonl"), some.join("\n")).unwrap();
    sandbox
}

/// An adapter in two, of which neither does what both do.
fn parts(sandbox: &Sandbox) {
    sandbox.run("combine json -o attention --only self_attn", &[]).ok();
    sandbox.run("combine json -o mlp --skip self_attn", &[]).ok();
}

#[track_caller]
fn object(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", run.stdout, run.stderr))
}

fn losses(tuned: &Value, field: &str) -> Vec<f64> {
    tuned["measured"].as_array().unwrap().iter().map(|one| one[field].as_f64().unwrap()).collect()
}

#[test]
fn what_is_printed() {
    let sandbox = workshop(24);
    parts(&sandbox);
    let line = TUNE.replace("json upper", "attention=0.5 mlp=0.5");
    let run = sandbox.run(&format!("{line} --dry-run --method cat --verbose"), &[]).ok();
    assert!(!sandbox.path("both").exists());
    let shown = run.stdout.lines().take_while(|line| !line.starts_with("1  `attention`"));
    let shown: Vec<&str> = shown.collect();
    // Tables and the curve; sentences break where a terminal ends.
    assert!(shown.iter().all(|line| line.len() <= 80 || !line.starts_with(' ')), "{shown:#?}");
    assert_snapshot!(format!("{}\n---\n{}", shown.join("\n"), run.stderr));
}

/// What is written is what the printed command writes, and its figures are those of an evaluation.
#[test]
fn the_same_by_hand() {
    let sandbox = workshop(24);
    for method in ["svd --rank 8", "cat", "ties_svd", "dare_linear_svd --density 0.6 --seed 3"] {
        let line =
            format!("{TUNE} --force --lineage never --no-card --method {method} --tune-trials 14 --json");
        let tuned = object(&sandbox.run(&line, &[]).ok())["tuned"].take();
        let by_hand = tuned["by_hand"].as_str().unwrap();
        assert!(by_hand.starts_with("lorakit combine json="), "{by_hand}");
        assert_eq!(by_hand.contains("--density"), !matches!(method, "svd --rank 8" | "cat"), "{by_hand}");
        let by_hand = by_hand.trim_start_matches("lorakit ").replace("--output both", "--output hand");
        sandbox.run(&format!("{by_hand} --force --lineage never --no-card"), &[]).ok();
        let (own, hand) = (files(&sandbox.path("both")), files(&sandbox.path("hand")));
        let of = |files: &std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>, folder: &str| {
            let base = sandbox.path(folder);
            files
                .iter()
                .map(|(path, bytes)| (path.strip_prefix(&base).unwrap_or(path).to_path_buf(), bytes.clone()))
                .collect::<Vec<_>>()
        };
        assert!(of(&own, "both") == of(&hand, "hand"), "{method}");
        let all = "eval --model base --adapter both --data heldout.jsonl --answers 0 --general none --json";
        let found = object(&sandbox.run(all, &[]).ok());
        let whole = found["candidates"][1]["held_out"]["loss"].as_f64().unwrap();
        let chosen = tuned["measured"].as_array().unwrap().last().unwrap();
        let (on, held) = (chosen["chosen_on"].as_f64().unwrap(), chosen["loss"].as_f64().unwrap());
        assert!((on.min(held)..=on.max(held)).contains(&whole), "{method}: {on} {held} {whole}");
    }
}

/// Two halves of one adapter are found to belong together at full strength, and that to be more than either.
#[test]
fn halves_become_a_whole() {
    let sandbox = workshop(30);
    parts(&sandbox);
    let line = TUNE.replace("json upper", "attention=0.35 mlp=1.5");
    let found = object(&sandbox.run(&format!("{line} --method cat --json"), &[]).ok());
    let tuned = &found["tuned"];
    for weight in tuned["weights"].as_array().unwrap() {
        assert!((weight.as_f64().unwrap() - 1.0).abs() < 0.2, "{}", tuned["weights"]);
    }
    let difference = &tuned["measured"][4]["difference"];
    assert!(difference["high"].as_f64().unwrap() < -1.0, "{difference}");
    assert_eq!((&tuned["best_alone"], &tuned["measured"][2]["difference"]), (&json!(2), &Value::Null));
}

/// The rows that weights are chosen on are done at least as well as by any adapter alone, and by the given weights.
#[test]
fn the_choice_is_the_best_that_was_tried() {
    let sandbox = workshop(30);
    let line = TUNE.replace("json upper", "json=0.4 upper=-0.2");
    let found = object(&sandbox.run(&format!("{line} --tune-share 1 --method cat --json"), &[]).ok());
    let tuned = &found["tuned"];
    let of = losses(tuned, "loss");
    let (chosen, others) = of.split_last().unwrap();
    assert!(others.iter().all(|other| chosen <= &(other + 1e-6)), "{of:?}");
    let trials = tuned["trials"].as_array().unwrap();
    assert!(trials.iter().all(|trial| trial["loss"].as_f64().unwrap() >= chosen - 1e-9));
    assert_eq!(trials[0]["weights"], json!([0.4, -0.2]));
    assert!(trials.iter().all(|trial| trial["weights"][1].as_f64().unwrap() <= 0.0), "signs stay");
    let scales: Vec<f64> = trials.iter().filter_map(|trial| trial["scale"].as_f64()).collect();
    assert_eq!(scales, [1.0, 0.25, 0.5, 0.75, 0.9, 1.1, 1.25, 1.5]);
    assert_eq!((&tuned["data"]["held_back"], &tuned["data"]["measured_on"]), (&json!(false), &json!(30)));
    assert!(tuned["notes"][0].as_str().unwrap().contains("flatters them"), "{}", tuned["notes"]);
}

/// Neither threads nor the order of rows change anything.
#[test]
fn it_is_the_same_again() {
    let sandbox = workshop(16);
    let line = format!("{TUNE} --dry-run --tune-trials 12 --json");
    let tuned = |line: &str| object(&sandbox.run(line, &[]).ok())["tuned"].take();
    let one = tuned(&line.replace("-t 2", "-t 1"));
    assert_eq!(one, tuned(&line));
    let rows = fs::read_to_string(sandbox.path("heldout.jsonl")).unwrap();
    let backwards: Vec<&str> = rows.lines().rev().collect();
    fs::write(sandbox.path("heldout.jsonl"), backwards.join("\n")).unwrap();
    let again = tuned(&line);
    assert_eq!((&again["weights"], &again["data"]["chosen_on"]), (&one["weights"], &json!(8)));
}

#[test]
fn by_exact_answers() {
    let sandbox = workshop(8);
    let line = format!("{TUNE} --dry-run --tune-metric exact --tune-trials 10 --max-tokens 64 --json");
    let found = object(&sandbox.run(&line, &[]).ok());
    let measured = &found["tuned"]["measured"];
    let exact: Vec<_> = (0..measured.as_array().unwrap().len()).map(|at| &measured[at]["exact"]).collect();
    assert_eq!((exact[0], exact[1]), (&json!(0), &json!(4)), "{measured}");
    assert_eq!(exact.last(), Some(&&json!(4)), "{measured}");
    assert_eq!(measured[0]["exact_against"]["worse"], 4, "{measured}");
    assert_eq!(found["tuned"]["metric"], "exact");
}

/// The record says how weights were chosen, and the card gives the figures.
#[test]
fn it_is_recorded() {
    let sandbox = workshop(20);
    let found = object(&sandbox.run(&format!("{TUNE} --tune-trials 10 --json"), &[]).ok());
    let tuned = &found["tuned"];
    let chosen = read_json(&sandbox.path("both/lorakit.json"))["options"]["chosen"].take();
    assert_eq!(chosen["by"], "loss");
    assert_eq!((&chosen["data"], &chosen["held_back"]), (&tuned["data"]["sha256"], &json!(true)));
    assert_eq!(chosen["loss"], tuned["measured"][4]["loss"]);
    assert_eq!(chosen["trials"], tuned["trials"].as_array().unwrap().len());
    let card = fs::read_to_string(sandbox.path("both/README.md")).unwrap();
    assert!(card.contains("with weights chosen by measuring"), "{card}");
    assert!(card.contains("rows that the weights were not chosen on"), "{card}");
}

/// One adapter alone has a strength.
#[test]
fn of_one_adapter() {
    let sandbox = workshop(20);
    let line = TUNE.replace("json upper", "json=2");
    let found = object(&sandbox.run(&format!("{line} --tune-trials 20 --json"), &[]).ok());
    let tuned = &found["tuned"];
    let weight = tuned["weights"][0].as_f64().unwrap();
    assert!((0.5..2.0).contains(&weight), "{weight}");
    assert!(losses(tuned, "chosen_on")[3] <= losses(tuned, "chosen_on")[2]);
}

#[test]
fn refusals() {
    let sandbox = workshop(6);
    let write = |name: &str, text: &str| fs::write(sandbox.path(name), text).unwrap();
    write("empty.jsonl", "");
    let first = fs::read_to_string(sandbox.path("heldout.jsonl")).unwrap();
    write("one.jsonl", first.lines().next().unwrap());
    write("texts.jsonl", "{\"text\": \"one two three\"}\n{\"text\": \"four five six\"}\n");
    let tune = "combine json upper -o both --model base --tune";
    let lines = [
        "combine json upper -o both --tune heldout.jsonl".to_string(),
        "combine json upper -o both --model base".into(),
        "combine json upper -o both --tune-share 0.5".into(),
        format!("{tune} empty.jsonl"),
        format!("{tune} absent.jsonl"),
        format!("{tune} one.jsonl"),
        format!("{tune} heldout.jsonl --context 8"),
        format!("{tune} heldout.jsonl --tune-share 1.5"),
        format!("{tune} heldout.jsonl --tune-trials 3"),
        format!("{tune} heldout.jsonl --method linear"),
        format!("{tune} heldout.jsonl --rank 8 --method cat"),
        format!("{tune} texts.jsonl --tune-metric exact"),
        format!("{} heldout.jsonl", tune.replace("json upper", "json=0")),
        format!("{} heldout.jsonl", tune.replace("--model base", "--model absent")),
    ];
    let mut told = String::new();
    for line in &lines {
        told += &format!("$ lorakit {line}\n{}\n", sandbox.refused(line));
    }
    assert_snapshot!(told);
}
