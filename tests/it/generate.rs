//! `lorakit generate` as a user meets it: what it answers, in which form, and when it ends.

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Run, Sandbox, fixtures};

fn workshop() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "base");
    sandbox.copy(&fixtures().join("tiny-json-lora"), "adapter");
    let rows = fs::read_to_string(fixtures().join("tiny-json/heldout.jsonl")).unwrap();
    let rows: Vec<&str> = rows.lines().take(12).collect();
    fs::write(sandbox.path("rows.jsonl"), rows.join("\n")).unwrap();
    sandbox
}

/// The rows that are asked: question and answer.
fn rows(sandbox: &Sandbox) -> Vec<(String, String)> {
    let text = fs::read_to_string(sandbox.path("rows.jsonl")).unwrap();
    let content = |row: &Value, at: usize| row["messages"][at]["content"].as_str().unwrap().to_string();
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        (content(&row, 0), content(&row, 1))
    };
    text.lines().map(row).collect()
}

/// Runs the command with standard input.
fn talk(sandbox: &Sandbox, line: &str, input: &str) -> Run {
    let mut child = sandbox
        .command()
        .args(line.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Run::new(sandbox, &child.wait_with_output().unwrap())
}

fn asks(sandbox: &Sandbox, question: &str, more: &str) -> Run {
    let line = format!("generate --model base --adapter adapter -t 2 {more} --prompt");
    let output = sandbox.command().args(line.split_whitespace()).arg(question).output().unwrap();
    Run::new(sandbox, &output)
}

#[test]
fn a_prompt_is_answered_as_the_adapter_was_trained() {
    let sandbox = workshop();
    let (question, answer) = &rows(&sandbox)[0];
    let run = asks(&sandbox, question, "").ok();
    assert_eq!(run.stdout, format!("{answer}\n"));
    assert!(run.stderr.starts_with("prompt ") && run.stderr.ends_with(" tokens/s\n"), "{}", run.stderr);
    assert_eq!(asks(&sandbox, question, "-q").ok().stderr, "");
    let run = asks(&sandbox, question, "--max-tokens 3 --stop xyz").ok();
    assert!(answer.starts_with(run.stdout.trim_end()) && run.stdout.len() < answer.len(), "{}", run.stdout);
    let run = asks(&sandbox, question, "--stop :").ok();
    assert_eq!(run.stdout.trim_end(), &answer[..answer.find(':').unwrap()]);
    let base = "generate --model base -t 2 --max-tokens 40 --prompt".split_whitespace();
    let run = Run::new(&sandbox, &sandbox.command().args(base).arg(question).output().unwrap()).ok();
    assert_ne!(run.stdout.trim_end(), answer);
}

#[test]
fn one_object_says_it_all() {
    let sandbox = workshop();
    let (question, answer) = &rows(&sandbox)[1];
    let run = asks(&sandbox, question, "--json").ok();
    let object: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(object["schema"], "lorakit.generate/1");
    let [found] = &object["answers"].as_array().unwrap()[..] else { panic!("{object}") };
    assert_eq!(
        (&found["text"], &found["stop"], &found["stop_text"]),
        (&json!(answer), &json!("end"), &Value::Null)
    );
    let tokens = found["tokens"].as_array().unwrap();
    assert!(tokens.iter().all(|token| token["logprob"].as_f64().unwrap() <= 0.0 && token["id"].is_u64()));
    assert_eq!(object["speed"]["tokens"].as_u64(), Some(tokens.len() as u64));
    assert_eq!(object["speed"]["prompt_tokens"], found["prompt_tokens"]);
    assert!(
        object["speed"]["prompt_seconds"].as_f64().unwrap() <= object["speed"]["seconds"].as_f64().unwrap()
    );
    assert_eq!(run.stderr, "");
}

/// A line of JSON for each row, in order, whatever ends first.
#[test]
fn each_row_of_a_file_is_answered() {
    let sandbox = workshop();
    let run = sandbox.run("generate --model base --adapter adapter -t 2 --data rows.jsonl", &[]).ok();
    let answers: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows = rows(&sandbox);
    assert_eq!(answers.len(), rows.len());
    for (at, (answer, (_, expected))) in answers.iter().zip(&rows).enumerate() {
        assert_eq!(answer["line"].as_u64(), Some(at as u64 + 1));
        assert_eq!((&answer["text"], &answer["expected"]), (&json!(expected), &json!(expected)));
    }
    let run = sandbox.run("generate --model base --adapter adapter -t 1 --data rows.jsonl --json", &[]).ok();
    let object: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(object["answers"], json!(answers), "threads and the form of the output change nothing");
    assert_eq!(object["speed"]["prompt_seconds"], Value::Null);
}

#[test]
fn messages_come_from_a_file_or_a_pipe() {
    let sandbox = workshop();
    let (question, answer) = &rows(&sandbox)[2];
    let messages = json!([{"role": "user", "content": question}]);
    fs::write(sandbox.path("messages.json"), messages.to_string()).unwrap();
    let line = "generate --model base --adapter adapter -q --messages";
    let run = sandbox.run(&format!("{line} messages.json"), &[]).ok();
    assert_eq!(run.stdout, format!("{answer}\n"));
    let object = json!({"messages": messages, "tools": null}).to_string();
    assert_eq!(talk(&sandbox, &format!("{line} -"), &object).ok().stdout, format!("{answer}\n"));
}

/// What was said before is part of the next question.
#[test]
fn a_conversation_remembers() {
    let sandbox = workshop();
    let rows = rows(&sandbox);
    let (first, answer) = &rows[0];
    let line = "generate --model base --adapter adapter --max-tokens 60 -t 2 --chat";
    let run = talk(&sandbox, line, &format!("{first}\n\n/reset\n{first}\n/exit\n{first}\n")).ok();
    assert_eq!(run.stdout, format!("{answer}\n{answer}\n"));
    let second = &rows[1].0;
    let run = talk(&sandbox, line, &format!("{first}\n{second}\n")).ok();
    let messages = json!([
        {"role": "user", "content": first},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": second},
    ]);
    fs::write(sandbox.path("messages.json"), messages.to_string()).unwrap();
    let whole = sandbox
        .run("generate --model base --adapter adapter --max-tokens 60 --messages messages.json -q", &[])
        .ok();
    assert_eq!(run.stdout, format!("{answer}\n{}", whole.stdout));
}

/// The seed decides what is drawn, and nothing else does.
#[test]
fn seeds_decide() {
    let sandbox = workshop();
    let question = "Tell me about tea.";
    let drawn = |more: &str| {
        asks(&sandbox, question, &format!("--temperature 1.5 --max-tokens 20 -q {more}")).ok().stdout
    };
    let one = drawn("--seed 1 --top-p 0.95");
    assert_eq!(drawn("--seed 1 --top-p 0.95"), one);
    assert_ne!(drawn("--seed 2 --top-p 0.95"), one);
    let raw = asks(&sandbox, question, "--raw --max-tokens 8 -q").ok().stdout;
    assert_ne!(raw, asks(&sandbox, question, "--max-tokens 8 -q").ok().stdout);
}

/// Base and adapter in other forms answer alike.
#[test]
fn other_forms_answer_alike() {
    let sandbox = workshop();
    sandbox.run("convert base -o base.gguf --to gguf", &[]).ok();
    sandbox.run("convert adapter -o adapter.gguf --to gguf --base base", &[]).ok();
    sandbox.run("merge base adapter -o merged --dtype f32", &[]).ok();
    let (question, answer) = &rows(&sandbox)[3];
    for line in [
        "generate --model base.gguf --adapter adapter.gguf -q --prompt",
        "generate --model base --adapter adapter=0.5 --adapter ./adapter=0.5 -q --prompt",
        "generate --model base --adapter adapter --quant f32 --compute bf16 -q --prompt",
        "generate --model merged -q --prompt",
    ] {
        let output = sandbox.command().args(line.split_whitespace()).arg(question).output().unwrap();
        assert_eq!(Run::new(&sandbox, &output).ok().stdout, format!("{answer}\n"), "{line}");
    }
}

#[test]
fn what_cannot_be_answered() {
    let sandbox = workshop();
    fs::write(sandbox.path("bad.jsonl"), "{\"prompt\": \"a\"}\n{\"question\": \"b\"}\n").unwrap();
    fs::write(sandbox.path("long.jsonl"), format!("{{\"prompt\": \"{}\"}}", "tea ".repeat(600))).unwrap();
    fs::write(sandbox.path("empty.jsonl"), "").unwrap();
    fs::write(sandbox.path("text.json"), "\"hi\"").unwrap();
    let lines = [
        "generate --model base",
        "generate --model base --prompt a --chat",
        "generate --model base --prompt a --temperature -1",
        "generate --model base --prompt a --top-p 0",
        "generate --model base --data bad.jsonl",
        "generate --model base --data long.jsonl",
        "generate --model base --data empty.jsonl",
        "generate --model base --messages text.json",
        "generate --model base --messages nothing.json",
        "generate --model base --chat --json",
        "generate --model base --adapter nothing --prompt a",
        "generate --model nothing --prompt a",
    ];
    let said: Vec<String> =
        lines.iter().map(|line| format!("$ lorakit {line}\n{}", sandbox.refused(line))).collect();
    insta::assert_snapshot!(said.join("\n"));
}

/// Ctrl-C ends an answer that would go on for long.
#[test]
fn a_signal_ends_an_answer() {
    let sandbox = workshop();
    let line = "generate --model base --max-tokens 400 --temperature 5 --stop none --prompt a";
    let mut child = sandbox
        .command()
        .args(line.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() && begin.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The variables of the template come with the adapter.
#[test]
fn template_kwargs_are_those_of_the_training() {
    let sandbox = workshop();
    fs::write(sandbox.path("adapter/chat_template.jinja"), "{{ mode }}{{ messages[0].content }}").unwrap();
    fs::write(sandbox.path("adapter/run.yaml"), "template_kwargs: {mode: one}\n").unwrap();
    let tokens = |more: &str| {
        let run = asks(&sandbox, "tea", &format!("--max-tokens 1 --json {more}")).ok();
        let object: Value = serde_json::from_str(&run.stdout).unwrap();
        object["answers"][0]["prompt_tokens"].as_u64().unwrap()
    };
    let one = tokens("");
    assert!(tokens("--template-kwargs mode=\"\"") < one);
    assert!(tokens("--template-kwargs mode=one,two,three") > one);
}
