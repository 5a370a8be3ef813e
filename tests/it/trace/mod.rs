//! `--report otlp` and `lorakit trace push`, against a receiver on loopback.

mod receiver;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use self::receiver::{Receiver, Said, attribute, ok, tree};
use crate::support::{Run, Sandbox, fixtures, sender};

/// What must be found nowhere. The second is what is sent of it.
const SECRET: &str = "sk-lf-51ec7e7";
const SENT: &str = "cGstbGYtMTpzay1sZi01MWVjN2U3";

const TRAIN: &str = "train --model base --data train.jsonl --packing false --batch-size 4 --lr 5e-3 --compute f32 -t 2 \
                     --max-steps 6 --val 0.1 --log-every 2 --eval-every 3 --save-every 3 -o out --report otlp";
const EVAL: &str =
    "eval --model base --adapter adapter --data heldout.jsonl --answers 3 --general none -t 2 --report otlp";
const ASK: &str = "generate --model base --adapter adapter --max-tokens 8 --report otlp --prompt Hello";

fn workshop() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "base");
    sandbox.copy(&fixtures().join("tiny-json-lora"), "adapter");
    for (from, rows) in [("train.jsonl", 40), ("heldout.jsonl", 5)] {
        let all = fs::read_to_string(fixtures().join("tiny-json").join(from)).unwrap();
        let some: Vec<&str> = all.lines().take(rows).collect();
        fs::write(sandbox.path(from), some.join("\n")).unwrap();
    }
    sandbox
}

/// Runs `program` with traces for a Langfuse at `url`, or nowhere.
fn run_with(sandbox: &Sandbox, program: &Path, line: &str, url: Option<&str>) -> Run {
    let mut command = Command::new(program);
    command.current_dir(sandbox.root()).env_clear().args(line.split_whitespace());
    command.env("XDG_STATE_HOME", sandbox.path("state")).env("OTEL_EXPORTER_OTLP_TIMEOUT", "2000");
    if let Some(url) = url {
        command.env("LANGFUSE_PUBLIC_KEY", "pk-lf-1").env("LANGFUSE_SECRET_KEY", SECRET);
        command.env("LANGFUSE_BASE_URL", url);
    }
    let run = Run::new(sandbox, &command.output().unwrap());
    for text in [&run.stdout, &run.stderr] {
        assert!(!text.contains(SECRET) && !text.contains(SENT), "{text}");
    }
    run
}

fn nowhere(sandbox: &Sandbox, line: &str) -> Run {
    run_with(sandbox, Path::new(env!("CARGO_BIN_EXE_lorakit")), line, None)
}

/// A port at which nobody listens.
fn dead() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

/// The lines that wait in a folder, spans and scores.
fn waiting(folder: &Path) -> (Vec<Value>, usize) {
    let (mut spans, mut scores) = (Vec::new(), 0);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(SECRET) && !text.contains(SENT), "{text}");
        match path.to_str().unwrap().ends_with(".otlp.jsonl") {
            true => spans.extend(text.lines().flat_map(receiver::spans)),
            false => scores += text.lines().count(),
        }
    }
    (spans, scores)
}

#[test]
fn a_training_run_arrives_as_a_tree() {
    let Some(program) = sender() else { return };
    let (sandbox, receiver) = (workshop(), Receiver::new(|_, _| ok()));
    let run = run_with(&sandbox, &program, TRAIN, Some(&receiver.url)).ok();
    let told = format!("to `{}/api/public/otel/v1/traces`", receiver.url);
    assert!(run.stderr.lines().last().unwrap().ends_with(&told), "{}", run.stderr);
    let spans = receiver.spans();
    insta::assert_snapshot!(tree(&spans), @"
    lorakit.run (span)
      data.prepare (span)
      model.load (span)
      eval (evaluator)
      train (span)
        train.window (span)
        train.window (span)
        eval@3 (evaluator)
        checkpoint (span)
        checkpoint (span)
        train.window (span)
        eval@6 (evaluator)
        checkpoint (span)
        checkpoint (span)
      export (span)
    ");
    let post = &receiver.posts()[0];
    assert_eq!(post.headers["authorization"], format!("Basic {SENT}"));
    assert_eq!(post.headers["x-langfuse-ingestion-version"], "4");
    assert_eq!(post.headers["content-type"], "application/json");
    let session = attribute(&spans[0], "session.id").unwrap();
    for span in &spans {
        assert_eq!(attribute(span, "session.id").as_ref(), Some(&session));
        assert_eq!(attribute(span, "langfuse.trace.metadata.base"), Some(json!("base")));
        assert!(attribute(span, "langfuse.trace.metadata.data_digest").is_some());
    }
    // The loss of the validation is that of the run.
    let metrics = fs::read_to_string(sandbox.path("out/metrics.jsonl")).unwrap();
    let last: Value = metrics
        .lines()
        .rev()
        .map(|line| serde_json::from_str(line).unwrap())
        .find(|row: &Value| row["eval_loss"].is_f64())
        .unwrap();
    let of_span = spans.iter().find(|span| span["name"] == "eval@6").unwrap();
    assert_eq!(
        attribute(of_span, "langfuse.observation.metadata.eval_loss").as_ref(),
        Some(&last["eval_loss"])
    );
    let scores = receiver.scores();
    let losses: Vec<&Value> = scores.iter().filter(|score| score["name"] == "eval_loss").collect();
    assert_eq!(losses.len(), 3);
    assert!(
        losses
            .iter()
            .any(|score| score["observationId"] == of_span["spanId"] && score["value"] == last["eval_loss"])
    );
    assert!(!sandbox.path("out/traces").exists(), "all was sent");
    // What is done with the adapter belongs to the same session.
    let ask = ASK.replace("--adapter adapter", "--adapter out");
    run_with(&sandbox, &program, &ask, Some(&receiver.url)).ok();
    assert_eq!(attribute(receiver.spans().last().unwrap(), "session.id"), Some(session));
}

#[test]
fn an_evaluation_arrives_with_its_scores() {
    let Some(program) = sender() else { return };
    let (sandbox, receiver) = (workshop(), Receiver::new(|_, _| ok()));
    let run = run_with(&sandbox, &program, &format!("{EVAL} --json"), Some(&receiver.url)).ok();
    let found: Value = serde_json::from_str(&run.stdout).unwrap();
    let spans = receiver.spans();
    insta::assert_snapshot!(tree(&spans), @"
    lorakit.run (span)
      model.load (span)
      eval (evaluator)
        eval.item (evaluator)
        eval.item (evaluator)
        eval.item (generation)
        eval.item (generation)
        eval.item (generation)
      eval (evaluator)
        eval.item (evaluator)
        eval.item (evaluator)
        eval.item (generation)
        eval.item (generation)
        eval.item (generation)
    ");
    let scores = receiver.scores();
    assert_eq!(
        (&found["trace"]["spans"], &found["trace"]["scores"]),
        (&json!(spans.len()), &json!(scores.len()))
    );
    assert_eq!((&found["trace"]["waiting"], &found["trace"]["files"]), (&json!(0), &json!([])));
    // Each row is an item of both experiments.
    let items = |experiment: &str| -> Vec<Value> {
        let of = |span: &&Value| attribute(span, "langfuse.experiment.name") == Some(json!(experiment));
        let mut ids: Vec<Value> = spans
            .iter()
            .filter(of)
            .filter_map(|span| attribute(span, "langfuse.experiment.item.id"))
            .collect();
        ids.sort_by_key(Value::to_string);
        ids
    };
    assert_eq!(items("base"), (1..=5).map(|line| json!(format!("heldout.jsonl:{line}"))).collect::<Vec<_>>());
    assert_eq!(items("base"), items("adapter"));
    for span in spans.iter().filter(|span| span["name"] == "eval.item") {
        assert_eq!(
            attribute(span, "langfuse.experiment.item.root_observation_id").as_ref(),
            Some(&span["spanId"])
        );
    }
    let verdict = scores.iter().find(|score| score["name"] == "verdict").unwrap();
    assert_eq!(verdict["value"], found["candidates"][1]["verdict"]["outcome"]);
    let mut ids: Vec<String> = scores.iter().map(|score| score["id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), scores.len());
}

#[test]
fn texts_are_sent_only_if_that_was_asked_for() {
    let Some(program) = sender() else { return };
    let (sandbox, receiver) = (workshop(), Receiver::new(|_, _| ok()));
    let row: Value = serde_json::from_str(
        fs::read_to_string(sandbox.path("heldout.jsonl")).unwrap().lines().next().unwrap(),
    )
    .unwrap();
    let asked = row["messages"][0]["content"].as_str().unwrap().to_string();
    let sent = || {
        receiver
            .posts()
            .iter()
            .any(|post| post.body.contains(asked.get(..20).unwrap()) || post.body.contains("Hello"))
    };
    for line in [EVAL, ASK, TRAIN] {
        run_with(&sandbox, &program, line, Some(&receiver.url)).ok();
        assert!(!sent(), "{line}");
    }
    let root = sandbox.root().display().to_string();
    assert!(receiver.posts().iter().all(|post| !post.body.contains(&root)), "no whole path is sent");
    for line in [EVAL, ASK] {
        let before = receiver.spans().len();
        run_with(&sandbox, &program, &format!("{line} --trace-content"), Some(&receiver.url)).ok();
        assert!(sent(), "{line}");
        let spans = receiver.spans();
        let answered = spans[before..]
            .iter()
            .filter(|span| attribute(span, "langfuse.observation.type") == Some(json!("generation")));
        for span in answered {
            for key in ["langfuse.observation.input", "langfuse.observation.output"] {
                let text = attribute(span, key).unwrap();
                assert!(serde_json::from_str::<String>(text.as_str().unwrap()).is_ok(), "{text}");
            }
        }
    }
}

#[test]
fn an_answer_arrives_with_its_usage() {
    let Some(program) = sender() else { return };
    let (sandbox, receiver) = (workshop(), Receiver::new(|_, _| ok()));
    let run = run_with(&sandbox, &program, &format!("{ASK} --json"), Some(&receiver.url)).ok();
    let found: Value = serde_json::from_str(&run.stdout).unwrap();
    let spans = receiver.spans();
    insta::assert_snapshot!(tree(&spans), @"
    lorakit.run (span)
      model.load (span)
      generate (generation)
    ");
    let answer = spans.iter().find(|span| span["name"] == "generate").unwrap();
    let usage = attribute(answer, "langfuse.observation.usage_details").unwrap();
    let usage: Value = serde_json::from_str(usage.as_str().unwrap()).unwrap();
    let tokens = found["answers"][0]["tokens"].as_array().unwrap().len();
    assert_eq!(usage, json!({"input": found["answers"][0]["prompt_tokens"], "output": tokens}));
    assert_eq!(attribute(answer, "langfuse.observation.model.name"), Some(json!("base + adapter")));
}

/// Nothing is sent anywhere unless a variable says so; what waits is as strict as what is sent.
#[test]
fn without_a_receiver_traces_wait_in_files() {
    let sandbox = workshop();
    for (line, folder) in
        [(TRAIN, "out/traces"), (EVAL, "state/lorakit/traces"), (ASK, "state/lorakit/traces")]
    {
        let run = nowhere(&sandbox, line).ok();
        let told = run.stderr.lines().find(|line| line.starts_with("trace: ")).unwrap();
        assert!(told.contains(folder) && told.contains("`lorakit trace push "), "{told}");
    }
    let (spans, scores) = waiting(&sandbox.path("out/traces"));
    assert!(tree(&spans).starts_with("lorakit.run (span)") && scores == 6, "{scores}");
    let (others, _) = waiting(&sandbox.path("state/lorakit/traces"));
    let written = Value::from([spans.clone(), others].concat()).to_string();
    assert!(!written.contains("Dijkstra") && !written.contains("Hello"), "no text was asked for: {written}");
    assert!(!written.contains(&sandbox.root().display().to_string()), "no path is written whole");
    let run = nowhere(&sandbox, "trace push -n out --json").ok();
    let found: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&found["files"][0]["spans"], &found["files"][1]["scores"]), (&json!(spans.len()), &json!(6)));
    let run = nowhere(&sandbox, "trace push -n").ok();
    assert_eq!(run.stdout.lines().count(), 3, "{}", run.stdout);
    if !cfg!(feature = "remote") {
        let run = nowhere(&sandbox, "trace push out");
        insta::assert_snapshot!(format!("exit {}\n{}", run.code.unwrap(), run.stderr), @"
        exit 2
        error: this build sends nothing: it was compiled without the feature `remote`

        hint: releases have it, and so has `cargo install --path crates/lorakit-cli --features remote`; files of traces can be sent by another lorakit, on another machine too
        ");
    }
}

#[test]
fn what_waits_is_sent_later() {
    let Some(program) = sender() else { return };
    let sandbox = workshop();
    let run = run_with(&sandbox, &program, TRAIN, Some(&dead())).ok();
    let told = run.stderr.lines().last().unwrap();
    assert!(
        told.contains("in `out/traces` (`http://127.0.0.1:") && told.contains("cannot connect"),
        "{told}"
    );
    let (spans, scores) = waiting(&sandbox.path("out/traces"));
    let run = run_with(&sandbox, &program, "trace push out", None);
    insta::assert_snapshot!(format!("exit {}\n{}", run.code.unwrap(), run.stderr), @"
    exit 2
    error: no variable says where traces go

    hint: set `LANGFUSE_BASE_URL`, `LANGFUSE_PUBLIC_KEY` and `LANGFUSE_SECRET_KEY`, or `OTEL_EXPORTER_OTLP_ENDPOINT`
    ");
    // It is busy first.
    let receiver = Receiver::new(|at, _| match at {
        0 => Said("503 Service Unavailable", "Retry-After: 0\r\n", String::new()),
        1 => Said("429 Too Many Requests", "Retry-After: 1\r\n", String::new()),
        _ => ok(),
    });
    let run = run_with(&sandbox, &program, "trace push out --json", Some(&receiver.url)).ok();
    let found: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        found["files"].as_array().unwrap().iter().map(|file| file["left"].as_u64().unwrap()).sum::<u64>(),
        0
    );
    let posts = receiver.posts();
    assert_eq!(posts[0].body, posts[2].body, "it was tried again");
    let mut taken: Vec<Value> = posts[2..]
        .iter()
        .filter(|post| post.path.ends_with("traces"))
        .flat_map(|post| receiver::spans(&post.body))
        .collect();
    assert_eq!((taken.len(), receiver.scores().len()), (spans.len(), scores));
    let mut before = spans;
    before.sort_by_key(|span| span["spanId"].to_string());
    taken.sort_by_key(|span| span["spanId"].to_string());
    assert_eq!(taken, before, "ids and times are those of the run");
    assert!(!sandbox.path("out/traces").exists());
    let run = run_with(&sandbox, &program, "trace push", Some(&receiver.url)).ok();
    assert_eq!(run.stdout, "no traces wait\n");
}

/// A receiver that refuses is named with what it said, without the credentials that it repeats.
#[test]
fn what_a_receiver_refuses_is_named() {
    let Some(program) = sender() else { return };
    let sandbox = workshop();
    let receiver = Receiver::new(|_, post| {
        Said("400 Bad Request", "", format!("bad: {} {SECRET}", post.headers["authorization"]))
    });
    let run = run_with(&sandbox, &program, ASK, Some(&receiver.url)).ok();
    let told = run.stderr.lines().last().unwrap();
    assert!(told.contains("400 Bad Request: bad: *** ***"), "{told}");
    assert_eq!(receiver.posts().len(), 1, "it is not tried again");
    let run = run_with(&sandbox, &program, "trace push", Some(&receiver.url));
    assert_eq!(run.code, Some(1));
    assert!(
        run.stderr.contains(".otlp.jsonl:1` `http://127.0.0.1:")
            && run.stderr.contains("400 Bad Request: bad: *** ***"),
        "{}",
        run.stderr
    );
    let (spans, _) = waiting(&sandbox.path("state/lorakit/traces"));
    assert_eq!(spans.len(), 3, "nothing is lost");
    // Wrong keys end it at once.
    let receiver = Receiver::new(|_, _| Said("401 Unauthorized", "", "Invalid credentials".into()));
    let run = run_with(&sandbox, &program, "trace push", Some(&receiver.url));
    assert_eq!((run.code, receiver.posts().len()), (Some(3), 1));
    assert!(run.stderr.contains("401 Unauthorized: Invalid credentials"), "{}", run.stderr);
}

/// A receiver that accepts and never answers costs no trace and no run.
#[test]
fn a_receiver_that_never_answers() {
    let Some(program) = sender() else { return };
    let sandbox = workshop();
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", hole.local_addr().unwrap());
    run_with(&sandbox, &program, TRAIN, Some(&url)).ok();
    let (spans, scores) = waiting(&sandbox.path("out/traces"));
    assert!(tree(&spans).starts_with("lorakit.run (span)") && scores == 6, "{scores}");
    assert!(sandbox.path("out/adapter_model.safetensors").exists());
}

/// Credentials are in no output, whatever the command.
#[test]
fn variables_are_said_to_be_set_and_not_shown() {
    let sandbox = workshop();
    let program = Path::new(env!("CARGO_BIN_EXE_lorakit"));
    for line in ["env", "env --json", "trace push -n", "trace push nothing", "trace push", "generate --help"]
    {
        let run = run_with(&sandbox, program, line, Some("http://127.0.0.1:1"));
        if line == "env" {
            assert!(run.stdout.contains("LANGFUSE_SECRET_KEY is set"), "{}", run.stdout);
        }
    }
}
