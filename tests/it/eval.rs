//! `lorakit eval` as a user meets it: verdicts, answers, forgetting, what is refused.

use std::fs;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{Run, Sandbox, fixtures};
use crate::weights::{Tensor, edit_file};

/// Rows are few where a test does not need more: every token of an answer takes a pass.
const EVAL: &str = "eval --model base --data heldout.jsonl --max-tokens 64 -t 2";

fn workshop(rows: usize) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "base");
    sandbox.copy(&fixtures().join("tiny-json-lora"), "adapter");
    let all = fs::read_to_string(fixtures().join("tiny-json/heldout.jsonl")).unwrap();
    let some: Vec<&str> = all.lines().take(rows).collect();
    fs::write(sandbox.path("heldout.jsonl"), some.join("\n")).unwrap();
    sandbox
}

#[track_caller]
fn object(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", run.stdout, run.stderr))
}

#[track_caller]
fn outcome(object: &Value, candidate: usize) -> &str {
    object["candidates"][candidate]["verdict"]["outcome"].as_str().unwrap()
}

#[test]
fn an_adapter_that_helped() {
    let sandbox = workshop(60);
    let run = sandbox.run(&format!("{EVAL} --adapter adapter --html report.html"), &[]).ok();
    assert_eq!(run.stderr, "");
    // The size is that of the style and scripts of all pages.
    insta::with_settings!({ filters => vec![(r"`, [\d.]+ kB", "`, [SIZE]")] }, {
        assert_snapshot!(run.stdout);
    });
    assert!(
        run.stdout.lines().all(|line| line.len() <= 80 || line.starts_with(['`', 'r'])),
        "{}",
        run.stdout
    );
    let page = fs::read_to_string(sandbox.path("report.html")).unwrap();
    let (_, data) = page.split_once("id=\"data\">").unwrap();
    let data: Value = serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap();
    let exact = |candidate: usize| &data["candidates"][candidate]["answers"]["exact"];
    assert_eq!((exact(0), exact(1)), (&json!(0), &json!(60)));
    assert_eq!(data["rows"].as_array().unwrap().len(), 60);
    for outside in ["http://", "https://", "url(", "@import", "fetch(", "src="] {
        assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(outside), "{outside}");
    }
}

/// An adapter with the rows of its factors in another order is worse than itself, and the same adapter is not.
#[test]
fn verdicts_against_another_adapter() {
    let sandbox = workshop(12);
    sandbox.copy(&fixtures().join("tiny-json-lora"), "damaged");
    edit_file(&sandbox.path("damaged/adapter_model.safetensors"), |weights| {
        for tensor in weights.iter_mut().filter(|(name, _)| name.contains("lora_B")).map(|(_, tensor)| tensor)
        {
            let values: Vec<f64> = tensor.values().into_iter().rev().collect();
            *tensor = Tensor::new(tensor.dtype, &tensor.shape, &values);
        }
    });
    let line = "--against adapter --adapter adapter --adapter damaged --answers 8 --general none --json";
    let found = object(&sandbox.run(&format!("{EVAL} {line}"), &[]).ok());
    assert_eq!(found["baseline"], 1);
    assert_eq!((outcome(&found, 2), outcome(&found, 3)), ("no_significant_change", "regressed"));
    assert_eq!(
        found["candidates"][2]["held_out"]["difference"],
        json!({"mean": 0.0, "low": 0.0, "high": 0.0})
    );
    assert_eq!(found["candidates"][0]["verdict"], Value::Null);
    let run = sandbox.run(&format!("{EVAL} {line} --fail-on regressed"), &[]);
    assert_eq!(run.code, Some(1));
    assert_eq!(object(&run), found, "the report is the same");
    assert_snapshot!(run.stderr);
}

/// Figures depend on neither threads nor on who else is judged.
#[test]
fn figures_are_the_same_again() {
    let sandbox = workshop(10);
    let line = "eval --model base --adapter adapter --data heldout.jsonl --answers 2 --max-tokens 8 --json";
    let one = object(&sandbox.run(&format!("{line} -t 1"), &[]).ok());
    let two = object(&sandbox.run(&format!("{line} -t 2"), &[]).ok());
    assert_eq!(one, two);
    let more = object(&sandbox.run(&format!("{line} --adapter adapter=0.5 --scales 0,1"), &[]).ok());
    assert_eq!(more["candidates"][1], one["candidates"][1]);
    let points = &more["sweeps"][0]["points"];
    let loss = |candidate: usize, part: &str| &one["candidates"][candidate][part]["loss"];
    assert_eq!((&points[0]["loss"], &points[0]["general"]), (loss(0, "held_out"), loss(0, "general")));
    assert_eq!((&points[1]["loss"], &points[1]["general"]), (loss(1, "held_out"), loss(1, "general")));
    assert_eq!(points[0]["divergence"], 0.0);
}

/// A merged model is what the adapter is on its base, and a quantised one says what quantising cost.
#[test]
fn merged_and_quantised_models() {
    let sandbox = workshop(12);
    sandbox.run("merge base adapter -o merged --dtype f32", &[]).ok();
    sandbox.run("quantize merged -o merged.gguf --type Q4_0", &[]).ok();
    let line = "--adapter adapter --model merged --model merged.gguf --answers 4 --json";
    let found = object(&sandbox.run(&format!("{EVAL} {line}"), &[]).ok());
    let loss = |candidate: usize| found["candidates"][candidate]["held_out"]["loss"].as_f64().unwrap();
    assert!((loss(1) - loss(2)).abs() < 1e-4, "{} {}", loss(1), loss(2));
    assert!(loss(3) > loss(2) && loss(3) < loss(0), "{} {} {}", loss(0), loss(2), loss(3));
    let forms: Vec<&str> = (0..4).map(|at| found["candidates"][at]["form"].as_str().unwrap()).collect();
    assert_eq!(forms, ["bf16", "bf16", "f32", "q4_0"]);
    assert!(found["candidates"][3]["general"]["divergence"].as_f64().unwrap() > 0.0);
}

/// What the base does well, an adapter that is three times as strong as it was trained has forgotten. Noise of an
/// adapter's size does not do its task.
#[test]
fn forgetting_and_noise() {
    let sandbox = workshop(10);
    let told = fs::read_to_string(sandbox.path("heldout.jsonl")).unwrap();
    let told = told.lines().map(|row| {
        let row: Value = serde_json::from_str(row).unwrap();
        let order: Value = serde_json::from_str(row["messages"][1]["content"].as_str().unwrap()).unwrap();
        let said = |key: &str| order[key].to_string().replace('"', "");
        let [name, city, item, quantity, price] = ["name", "city", "item", "quantity", "price"].map(said);
        let question = row["messages"][0]["content"].as_str().unwrap();
        format!(
            "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n\
             {name} in {city} buys {quantity} of {item} and pays {price}.<|im_end|>"
        )
    });
    fs::write(sandbox.path("known.txt"), told.collect::<Vec<_>>().join("\n\n")).unwrap();
    let line = "--adapter adapter=3 --answers 0 --general known.txt --null 2 --fail-on forgetting --json";
    let run = sandbox.run(&format!("{EVAL} {line}"), &[]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let found = object(&run);
    assert_eq!(found["candidates"][1]["general"]["flagged"], true);
    assert!(run.stderr.contains("forgets more than 0.05 nats per token"), "{}", run.stderr);
    let known = |field: &str| found["nulls"][0][field]["z"].is_f64();
    assert!(known("loss") && known("general") && known("divergence"));
    let line = "--adapter adapter --answers 0 --general none --null 4 --json";
    let found = object(&sandbox.run(&format!("{EVAL} {line}"), &[]).ok());
    let z = found["nulls"][0]["loss"]["z"].as_f64().unwrap();
    assert!(z < -5.0, "{z}");
}

#[test]
fn items_that_must_not_break() {
    let sandbox = workshop(10);
    let asked = |text: &str| json!([{"role": "user", "content": text}]);
    let order = "Ken Park from Oslo ordered 5 kettles for 12 dollars.";
    let items = [
        json!({"name": "order", "messages": asked(order), "must": true,
               "checks": {"json_schema": {"type": "object", "required": ["name", "price"]}, "stop": true}}),
        json!({"name": "not JSON", "messages": asked(order), "checks": {"not_contains": "{"}}),
        json!({"name": "short", "messages": asked(order), "must": true, "checks": {"max_len": 10}}),
    ];
    let lines: Vec<String> = items.iter().map(Value::to_string).collect();
    fs::write(sandbox.path("items.jsonl"), lines.join("\n")).unwrap();
    let run = sandbox
        .run(&format!("{EVAL} --adapter adapter --answers 0 --general none --regression items.jsonl"), &[]);
    assert_eq!(run.code, Some(1));
    assert_snapshot!(format!("{}\n{}", run.stdout, run.stderr));
}

#[test]
fn checks_of_every_answer() {
    let sandbox = workshop(10);
    let schema = json!({"type": "object", "required": ["name", "city", "item", "quantity", "price"],
                        "properties": {"quantity": {"type": "integer"}, "city": {"type": "string"}}});
    fs::write(sandbox.path("order.json"), schema.to_string()).unwrap();
    let line = "--adapter adapter --answers 3 --general none --schema order.json --regex ^.*\"price\":.\\d+}$ --contains name";
    let found = object(&sandbox.run(&format!("{EVAL} {line} --json"), &[]).ok());
    let checks = &found["candidates"][1]["answers"]["checks"];
    for (at, name) in ["json_schema", "regex", "contains"].iter().enumerate() {
        assert_eq!((&checks[at]["check"], &checks[at]["passed"]), (&json!(name), &json!(3)), "{checks}");
    }
    assert_eq!(found["candidates"][0]["answers"]["checks"][0]["passed"], 0);
    let failures = found["rows"][0]["made"][0]["answer"]["failures"].as_array().unwrap();
    assert!(failures[0].as_str().unwrap().starts_with("is not JSON: "), "{failures:?}");
}

/// Perplexities of other tokens are not compared; bits per byte are.
#[test]
fn another_tokenizer() {
    let sandbox = workshop(12);
    sandbox.copy(&fixtures().join("tiny-orders"), "other");
    crate::support::edit_json(&sandbox.path("other/tokenizer.json"), |tokenizer| {
        let merges = tokenizer["model"]["merges"].as_array_mut().unwrap();
        merges.truncate(merges.len() / 2);
    });
    let run = sandbox.run(&format!("{EVAL} --model other --answers 0"), &[]).ok();
    assert_snapshot!(format!("{}\n{}", run.stdout, run.stderr));
}

#[test]
fn rows_that_are_too_long() {
    let sandbox = workshop(12);
    let mut rows = fs::read_to_string(sandbox.path("heldout.jsonl")).unwrap();
    let long = json!({"messages": [{"role": "user", "content": "word ".repeat(600)}, {"role": "assistant", "content": "x"}]});
    rows = format!("{long}\n{rows}");
    fs::write(sandbox.path("heldout.jsonl"), rows).unwrap();
    let run = sandbox.run(&format!("{EVAL} --answers 0 --general none"), &[]).ok();
    assert_snapshot!(run.stderr);
    assert_snapshot!(sandbox.refused(&format!("{EVAL} --context 8")));
}

/// Each refusal with its exit code. Nothing is written.
#[test]
fn refusals() {
    let sandbox = workshop(10);
    let write = |name: &str, text: &str| fs::write(sandbox.path(name), text).unwrap();
    write("empty.jsonl", "");
    write("questions.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n");
    write("texts.jsonl", "{\"text\": \"one two three\"}\n");
    write("items.jsonl", "{\"prompt\": \"a\", \"checks\": {\"jsn\": true}}\n");
    write("schema.json", "{\"typ\": \"object\"}");
    write("blank.txt", "\n\n");
    let lines = [
        "eval --model base".to_string(),
        "eval --data heldout.jsonl".into(),
        "eval --model base --data empty.jsonl".into(),
        "eval --model base --data absent.jsonl".into(),
        "eval --model base --data questions.jsonl".into(),
        "eval --model base --data texts.jsonl --contains a".into(),
        "eval --model absent --data heldout.jsonl".into(),
        format!("{EVAL} --adapter base"),
        format!("{EVAL} --regression items.jsonl"),
        format!("{EVAL} --schema schema.json"),
        format!("{EVAL} --regex ("),
        format!("{EVAL} --general blank.txt"),
        format!("{EVAL} --scales 0,1"),
        format!("{EVAL} --null 3"),
        format!("{EVAL} --quant q4_k"),
        format!("{EVAL} --fail-on regresed"),
        format!("{EVAL} --html base/config.json"),
    ];
    let mut told = String::new();
    for line in &lines {
        told += &format!("$ lorakit {line}\n{}\n", sandbox.refused(line));
    }
    assert_snapshot!(told);
}
