//! `lorakit train` as a user meets it: what it says, what it writes, how it stops and goes on.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Run, Sandbox, files, fixtures};

/// A run of a few steps, with what differs between runs.
const RUN: &str =
    "train --model base --data train.jsonl --packing false --batch-size 4 --lr 5e-3 --compute f32 -t 2";

fn workshop() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "base");
    let rows = fs::read_to_string(fixtures().join("tiny-json/train.jsonl")).unwrap();
    let rows: Vec<&str> = rows.lines().take(40).collect();
    fs::write(sandbox.path("train.jsonl"), rows.join("\n")).unwrap();
    sandbox
}

fn bytes(sandbox: &Sandbox, folder: &str) -> Vec<u8> {
    fs::read(sandbox.path(folder).join("adapter_model.safetensors")).unwrap()
}

#[test]
fn what_would_be_trained() {
    let sandbox = workshop();
    let run = sandbox.run("train --model base --data train.jsonl -o out --val 0.1 --check-data", &[]).ok();
    insta::assert_snapshot!(run.stdout);
    assert_eq!(run.stderr, "");
    assert!(!sandbox.path("out").exists());
    let json = sandbox.run("train --model base --data train.jsonl -o out --check-data --json", &[]).ok();
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    let data = &json["data"]["training"];
    assert_eq!((&data["documents"], &data["nothing_trained"]["count"]), (&json!(40), &json!(0)));
    let spans = data["examples"][0]["spans"].as_array().unwrap();
    let trained: Vec<&str> = spans
        .iter()
        .filter(|span| span["trained"] == true)
        .map(|span| span["text"].as_str().unwrap())
        .collect();
    assert!(trained.len() == 1 && trained[0].starts_with("{\"name\"") && trained[0].contains("<|im_end|>"));
}

#[test]
fn an_estimate_writes_nothing() {
    let sandbox = workshop();
    let run = sandbox.run(&format!("{RUN} --max-steps 7 -o out --estimate"), &[]).ok();
    let labels: Vec<&str> = run.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(labels, ["rows", "factors", "steps", "arithmetic", "time", "memory"]);
    assert!(!sandbox.path("out").exists());
    let json = sandbox.run(&format!("{RUN} --max-steps 7 -o out --estimate --json"), &[]).ok();
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    let estimate = &json["estimate"];
    assert_eq!(
        (&estimate["steps"], &estimate["rows"], &estimate["threads"]),
        (&json!(7), &json!(40), &json!(2))
    );
    assert!(estimate["peak_bytes"].as_u64().unwrap() > 1_000_000);
}

/// What the run leaves is an adapter that the other verbs take, and it says how to go on.
#[test]
fn an_adapter_that_can_be_merged() {
    let sandbox = workshop();
    let run = sandbox.run(&format!("{RUN} --max-steps 12 --val 0.1 --log-every 4 -o out"), &[]).ok();
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(lines[0].starts_with("trained 12 steps, "), "{}", run.stdout);
    assert_eq!(lines.last(), Some(&"next: lorakit merge base out/best -o merged/"));
    let steps = run.stderr.lines().filter(|line| line.starts_with("step ")).count();
    assert_eq!(steps, 3, "{}", run.stderr);
    let metrics = fs::read_to_string(sandbox.path("out/metrics.jsonl")).unwrap();
    let metrics: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let losses: Vec<f64> = metrics.iter().filter_map(|row| row["loss"].as_f64()).collect();
    assert_eq!(losses.len(), 12);
    assert!(losses[11] < losses[0] - 2.0, "{losses:?}");
    let verified = "verify merged --base base --adapter out/best";
    sandbox.run("merge base out/best -o merged", &[]).ok();
    sandbox.run(verified, &[]).ok();
    sandbox.run("convert out/best -o out.gguf --to gguf --base base", &[]).ok();
    let told = sandbox.run("inspect out/best --json", &[]).ok();
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(told["reports"][0]["findings"].as_array().map(Vec::len), Some(0), "{told}");
}

/// A run that was stopped, and one that was killed, go on to the same bytes.
#[test]
fn stopped_and_killed_runs_go_on() {
    let sandbox = workshop();
    let line = |output: &str, more: &str| format!("{RUN} --max-steps 120 --save-every 3 -o {output} {more}");
    sandbox.run(&line("whole", ""), &[]).ok();
    for (output, signal, code) in [("stopped", Signal::INT, Some(130)), ("killed", Signal::KILL, None)] {
        let mut child = sandbox
            .command()
            .args(line(output, "").split_whitespace())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let first = sandbox.path(output).join("checkpoint-3");
        let begin = Instant::now();
        while !first.exists() && begin.elapsed() < Duration::from_secs(120) {
            thread::sleep(Duration::from_millis(5));
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), code, "{output}");
        assert!(!sandbox.path(output).join("adapter_config.json").exists(), "{output} had ended");
        sandbox.run(&line(output, "--resume"), &[]).ok();
        assert_eq!(bytes(&sandbox, output), bytes(&sandbox, "whole"), "{output}");
    }
}

#[test]
fn a_file_of_keys_and_what_is_typed() {
    let sandbox = workshop();
    let yaml = "model: base\ndata: train.jsonl\noutput: out\nlora:\n  r: 4\nlr: 1e-4\n";
    fs::write(sandbox.path("run.yaml"), yaml).unwrap();
    let run = sandbox.run("train -c run.yaml lora.r=8 --lr 2e-4 --print-config", &[]).ok();
    for line in ["model: base", "  r: 8", "  alpha: 16", "lr: 2.0e-4"] {
        assert!(run.stdout.lines().any(|found| found == line), "{line}\n{}", run.stdout);
    }
    fs::write(sandbox.path("printed.yaml"), &run.stdout).unwrap();
    assert_eq!(sandbox.run("train -c printed.yaml --print-config", &[]).ok().stdout, run.stdout);
}

/// Alpaca files have a column with the rendered text, so that their rows could be texts too.
#[test]
fn rows_of_which_the_format_must_be_said() {
    let sandbox = workshop();
    let table =
        "instruction,input,output,text\nAdd,1 2,3,Add 1 2: 3\nName a colour,,red,Name a colour: red\n";
    fs::write(sandbox.path("alpaca.csv"), table).unwrap();
    let line = "train --model base --data alpaca.csv -o out --check-data";
    insta::assert_snapshot!(sandbox.refused(line), @"
    exit 1
    error: `alpaca.csv:2`: the row could be read as alpaca or as text, and `format` does not say which is meant

    hint: `--format NAME` says which is meant; one of several files says it for itself: `data: [{path: FILE, format: NAME}]`
    ");
    let formats = |line: &str| {
        let json: Value = serde_json::from_str(&sandbox.run(line, &[]).ok().stdout).unwrap();
        let files = json["data"]["training"]["files"].as_array().unwrap().clone();
        files.iter().map(|file| file["format"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(formats(&format!("{line} --format alpaca --json")), ["alpaca"]);
    let yaml = "data: [train.jsonl, {path: alpaca.csv, format: text}]\nformat: auto\n";
    fs::write(sandbox.path("run.yaml"), yaml).unwrap();
    let line = "train -c run.yaml --model base -o out";
    assert_eq!(formats(&format!("{line} --check-data --json")), ["messages", "text"]);
    let printed = sandbox.run(&format!("{line} --format messages --print-config"), &[]).ok().stdout;
    for line in ["data: [train.jsonl, {path: alpaca.csv, format: text}]", "format: messages"] {
        assert!(printed.lines().any(|found| found == line), "{line}\n{printed}");
    }
}

/// Each refusal with its exit code. Nothing is written.
#[test]
fn refusals() {
    let sandbox = workshop();
    let write = |name: &str, text: &str| fs::write(sandbox.path(name), text).unwrap();
    write("unknown.yaml", "model: base\ndata: train.jsonl\noutput: out\nlora_rr: 4\n");
    write("foreign.yaml", "model: base\nlearning_rate: 1e-4\n");
    write("value.yaml", "model: base\nlr: fast\n");
    write("broken.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n{\"messages\": 3}\n");
    write("silent.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"only a question\"}]}\n");
    write("weightless.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\", \"weight\": 0}\n");
    let long = "kettle ".repeat(100);
    write(
        "long.jsonl",
        &format!(
            "{}\n",
            json!({"messages": [{"role": "user", "content": long}, {"role": "assistant", "content": "1"}]})
        ),
    );
    fs::create_dir(sandbox.path("full")).unwrap();
    write("full/notes.txt", "mine");
    let run = "train --model base --data train.jsonl";
    let lines = [
        "train".to_string(),
        "train --model base --data train.jsonl".into(),
        "train -c missing.yaml".into(),
        "train -c unknown.yaml".into(),
        "train -c foreign.yaml".into(),
        "train -c value.yaml".into(),
        format!("{run} -o out --learning-rate 1e-4"),
        format!("{run} -o out --use-dora true"),
        format!("{run} -o out lora.dora=true"),
        format!("{run} -o out lora.r"),
        format!("{run} -o out --report wandb"),
        format!("{run} -o full"),
        format!("{run} -o full --resume"),
        format!("{run} -o out --lora-target q_porj"),
        format!("{run} -o out --lora-layers last:9"),
        "train --model base --data broken.jsonl -o out".into(),
        "train --model base --data silent.jsonl -o out".into(),
        "train --model base --data silent.jsonl --val 0.5 -o out".into(),
        format!("{run} --val silent.jsonl -o out"),
        format!("{run} --val weightless.jsonl -o out"),
        // What is cut off is the answer.
        format!("{run} --val long.jsonl --seq-len 96 -o out"),
        "train --model base --data absent.jsonl -o out".into(),
        "train --model absent --data train.jsonl -o out".into(),
    ];
    let mut told = String::new();
    for line in &lines {
        told += &format!("$ lorakit {line}\n{}\n", sandbox.refused(line));
    }
    insta::assert_snapshot!(told);
}

/// An output never takes the place of what the run reads, also when it goes on.
#[test]
fn outputs_that_are_or_hold_inputs() {
    let sandbox = workshop();
    let path = |name: &str| sandbox.path(name);
    sandbox.run(&format!("{RUN} --max-steps 2 --save-every 1 --val 0.1 -o out"), &[]).ok();
    fs::create_dir(path("rows")).unwrap();
    fs::copy(path("train.jsonl"), path("rows/train.jsonl")).unwrap();
    symlink("base", path("link")).unwrap();
    fs::create_dir(path("hidden")).unwrap();
    for copy in ["out/rows.jsonl", "hidden/.rows.jsonl"] {
        fs::copy(path("train.jsonl"), path(copy)).unwrap();
    }
    symlink("../train.jsonl", path("out/link.jsonl")).unwrap();
    fs::create_dir(path("begun")).unwrap();
    fs::hard_link(path("train.jsonl"), path("begun/metrics.jsonl")).unwrap();
    let by_hand = "# mine\nmodel: base\ndata: train.jsonl\noutput: hand\nmax_steps: 1\n";
    fs::create_dir(path("hand")).unwrap();
    fs::write(path("hand/run.yaml"), by_hand).unwrap();
    let before = files(sandbox.root());
    let on = "train --data train.jsonl --max-steps 4 --resume";
    let lines = [
        "train --model base --data train.jsonl -o base".to_string(),
        "train --model base --data train.jsonl -o link".into(),
        "train --model base --data rows -o rows".into(),
        "train --model base --data train.jsonl -o train.jsonl".into(),
        "train --model base --data hidden/.rows.jsonl -o hidden".into(),
        "train --model base --data train.jsonl -o begun --resume".into(),
        "train --model base --data out/rows.jsonl -o out --resume".into(),
        format!("{on} --model base --data out/link.jsonl -o out"),
        format!("{on} --model base --val out/rows.jsonl -o out"),
        format!("{on} --model base --adapter out/best -o out"),
        format!("{on} --model base --chat-template out/chat_template.jinja -o out"),
        format!("{on} --model out/checkpoint-1 -o out"),
        "train -c hand/run.yaml".into(),
        "train -c hand/run.yaml --resume".into(),
    ];
    let mut told = String::new();
    for line in &lines {
        told += &format!("$ lorakit {line}\n{}\n", sandbox.refused(line));
    }
    insta::assert_snapshot!(told);
    assert!(files(sandbox.root()) == before);
    // What a run wrote itself is no loss, and an output may lie in an input.
    fs::remove_file(path("out/adapter_config.json")).unwrap();
    sandbox.run("train -c out/run.yaml --resume --keep 3", &[]).ok();
    sandbox.run(&format!("{RUN} --max-steps 2 -o base/adapter"), &[]).ok();
    let mut after = files(sandbox.root());
    after.retain(|path, _| {
        !path.starts_with(sandbox.path("base/adapter")) && !path.starts_with(sandbox.path("out"))
    });
    let mut expected = before;
    expected.retain(|path, _| !path.starts_with(sandbox.path("out")));
    assert!(after == expected);
}

/// A run that does not fit is refused with its arithmetic, whose numbers depend on the machine.
#[test]
fn more_memory_than_there_may_be() {
    let sandbox = workshop();
    let told = sandbox.refused("train --model base --data train.jsonl -o out --memory-limit 1M");
    assert!(
        told.starts_with("exit 2\nerror: this run needs ") && told.contains("and may take 1.00 MB"),
        "{told}"
    );
}

/// A template of the user's own decides what is trained, and stays with every adapter of the run as it is.
#[test]
fn a_template_instead_of_the_base_s() {
    let sandbox = workshop();
    let source = "{# my own #}\r\n{% for m in messages %}<|im_start|>{{ m.role | upper }}: {{ m.content }}<|im_end|>\n{% endfor %}\
                  {% if add_generation_prompt %}<|im_start|>ASSISTANT: {% endif %}";
    fs::write(sandbox.path("own.jinja"), source).unwrap();
    let own = format!("{RUN} --max-steps 2 --val 0.1 --chat-template own.jinja");
    let shown = sandbox.run(&format!("{own} -o out --check-data"), &[]).ok().stdout;
    assert!(shown.contains("<|im_start|>USER: Hedy Wirth") && shown.contains("ASSISTANT: ⟦{"), "{shown}");
    sandbox.run(&format!("{own} -o out"), &[]).ok();
    for folder in ["out", "out/best", "out/checkpoint-2"] {
        let of = |name: &str| fs::read(sandbox.path(folder).join(name)).unwrap();
        assert!(of("chat_template.jinja") == source.as_bytes(), "{folder}");
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            assert!(of(name) == fs::read(sandbox.path("base").join(name)).unwrap(), "{folder}/{name}");
        }
    }
    sandbox.run(&format!("{RUN} --max-steps 2 --val 0.1 -o plain"), &[]).ok();
    assert!(bytes(&sandbox, "plain") != bytes(&sandbox, "out"));
}

/// What a folder and its GGUF files compute is the same, but for what quantising loses.
#[test]
fn a_gguf_file_as_the_base() {
    let sandbox = workshop();
    sandbox.run("convert base -o base.gguf --to gguf", &[]).ok();
    sandbox.run("quantize base.gguf -o small.gguf --type Q8_0", &[]).ok();
    let losses = |base: &str, quant: &str, output: &str| -> Vec<f64> {
        let line = RUN.replace("--model base", &format!("--model {base} --quant {quant}"));
        sandbox.run(&format!("{line} --max-steps 2 -o {output}"), &[]).ok();
        let metrics = fs::read_to_string(sandbox.path(output).join("metrics.jsonl")).unwrap();
        let losses =
            metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64());
        losses.map(Option::unwrap).collect()
    };
    let folder = losses("base", "bf16", "of-folder");
    assert_eq!(folder.len(), 2);
    assert_eq!(losses("base.gguf", "keep", "of-gguf"), folder);
    let small = losses("small.gguf", "auto", "of-small");
    let off = (small[0] / folder[0] - 1.0).abs();
    assert!(0.0 < off && off < 5e-3, "{small:?}, {folder:?}");
    sandbox.run("merge base.gguf of-gguf -o merged.gguf", &[]).ok();
    sandbox.run("verify merged.gguf --base base.gguf --adapter of-gguf", &[]).ok();
}

/// A run that goes on must be the one that was begun.
#[test]
fn what_may_not_change_when_a_run_goes_on() {
    let sandbox = workshop();
    sandbox.run(&format!("{RUN} --max-steps 4 -o out"), &[]).ok();
    let before = bytes(&sandbox, "out");
    let rows = fs::read_to_string(sandbox.path("train.jsonl")).unwrap();
    let mut told = String::new();
    let mut refused = |line: &str| {
        let Run { code, stderr, .. } = sandbox.run(line, &[]);
        told += &format!("exit {}\n{stderr}\n", code.unwrap());
    };
    refused(&format!("{RUN} --max-steps 4 -o out"));
    refused(&format!("{RUN} --max-steps 4 -o out --resume"));
    refused(&format!("{RUN} --max-steps 8 -o out --resume"));
    refused(&format!("{RUN} --max-steps 4 -o out --resume --seed 7"));
    fs::write(sandbox.path("train.jsonl"), rows.lines().take(39).collect::<Vec<_>>().join("\n")).unwrap();
    refused(&format!("{RUN} --max-steps 4 -o out --resume"));
    fs::write(sandbox.path("train.jsonl"), rows).unwrap();
    // The signs of some embeddings.
    let mut weights = fs::read(sandbox.path("base/model.safetensors")).unwrap();
    weights.iter_mut().rev().take(512).for_each(|byte| *byte ^= 0x80);
    fs::write(sandbox.path("base/model.safetensors"), weights).unwrap();
    refused(&format!("{RUN} --max-steps 4 -o out --resume"));
    assert_eq!(bytes(&sandbox, "out"), before);
    insta::assert_snapshot!(told);
}

/// A template that writes the date: a run keeps the day on which it began, whenever it goes on.
#[test]
fn runs_that_go_on_another_day() {
    let sandbox = workshop();
    let template = fs::read_to_string(sandbox.path("base/chat_template.jinja")).unwrap();
    let dated = "{{ '<|im_start|>system\n' ~ (date_string or strftime_now('%d %B %Y')) ~ '<|im_end|>\n' }}";
    fs::write(sandbox.path("dated.jinja"), format!("{dated}{template}")).unwrap();
    let run = format!("{RUN} --chat-template dated.jinja --max-steps 4 --save-every 2");
    // Clocks 26 hours apart never show the same day.
    let on = |clock: &str, more: &str| {
        let line = format!("{run} {more}");
        let output = sandbox.command().env("TZ", clock).args(line.split_whitespace()).output().unwrap();
        Run::new(&sandbox, &output)
    };
    let [west, east] = ["WEST12", "EAST-14"];
    on(west, "-o whole").ok();
    on(east, "-o resumed --resume whole/checkpoint-2").ok();
    assert!(bytes(&sandbox, "resumed") == bytes(&sandbox, "whole"));
    on(east, "-o other").ok();
    assert!(bytes(&sandbox, "other") != bytes(&sandbox, "whole"), "the day is among the tokens");
    let settings = fs::read_to_string(sandbox.path("whole/run.yaml")).unwrap();
    let day = settings.lines().find_map(|line| line.strip_prefix("template_day: ")).unwrap();
    on(east, &format!("-o again --template-day {day}")).ok();
    assert!(bytes(&sandbox, "again") == bytes(&sandbox, "whole"));
    let refused = on(east, "-o moved --resume whole/checkpoint-2 --template-day 2001-02-03");
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""));
    insta::assert_snapshot!(refused.stderr.replace(day, "[DAY]"), @"error: `whole/checkpoint-2`: the run in this checkpoint was begun with something else: `template_day` was [DAY] and is 2001-02-03; the data has changed; give it back, or begin anew in another output");
    let told = on(west, "-o none --check-data").ok().stdout;
    let told = told.lines().find(|line| line.contains("date")).unwrap();
    assert_eq!(
        told,
        "the template writes the date into 40 rows: that of the day on which a run begins, unless `template_day` says another"
    );
    // A variable of the template's own: the day does not matter.
    on(west, "-o told template_kwargs.date_string=today").ok();
    assert!(fs::read_to_string(sandbox.path("told/run.yaml")).unwrap().contains("template_day: null\n"));
}

/// Whoever watches a run changes nothing of it, and samples are what the adapter answers.
#[test]
fn what_is_reported_of_a_run() {
    let sandbox = workshop();
    let run =
        RUN.replace("--model base", "--model base --quant keep") + " --max-steps 6 --save-every 3 --val 0.1";
    sandbox.run(&format!("{run} -o plain"), &[]).ok();
    let asks = "Order: 3 x lamp. Name: Ada Backus. City: Lagos. Amount due 80.";
    fs::write(sandbox.path("prompts.txt"), format!("{asks}\n\nhi\n")).unwrap();
    let watched = "--report tensorboard --sample-prompts prompts.txt --sample-every 3 --sample-tokens 24 --html page.html";
    let told = sandbox.run(&format!("{run} -o out {watched}"), &[]).ok();
    assert!(bytes(&sandbox, "out") == bytes(&sandbox, "plain"));
    let lines = |stderr: &str| stderr.lines().filter(|line| line.starts_with("sample ")).count();
    assert_eq!(lines(&told.stderr), 6, "{}", told.stderr);
    assert!(told.stdout.lines().last().unwrap().starts_with("wrote `page.html`, "), "{}", told.stdout);
    let samples = |output: &str| {
        let text = fs::read_to_string(sandbox.path(output).join("samples.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let all = samples("out");
    let of = |sample: &Value| (sample["step"].as_u64().unwrap(), sample["sample"].as_u64().unwrap());
    assert_eq!(all.iter().map(of).collect::<Vec<_>>(), [(0, 1), (0, 2), (3, 1), (3, 2), (6, 1), (6, 2)]);
    let prompt = format!("<|im_start|>user\n{asks}<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!((all[0]["prompt"].as_str(), &all[0]["expected"]), (Some(prompt.as_str()), &Value::Null));
    let line = "generate --model base --adapter out --data prompts.txt --max-tokens 24 --quant keep --compute f32 -t 2 --json";
    let answered: Value = serde_json::from_str(&sandbox.run(line, &[]).ok().stdout).unwrap();
    for (sample, answer) in all[4..].iter().zip(answered["answers"].as_array().unwrap()) {
        assert_eq!((&sample["answer"], &sample["stop"]), (&answer["text"], &answer["stop"]));
        assert_eq!(sample["tokens"], answer["tokens"].as_array().unwrap().len());
    }
    let page = fs::read_to_string(sandbox.path("page.html")).unwrap();
    assert!(page.contains("<title>out - lorakit train</title>") && page.contains("Ada Backus"));
    assert_eq!(fs::read_dir(sandbox.path("out/runs")).unwrap().count(), 1);

    // A run that goes on: its samples and event files are in the output that it goes on in, and its page is replaced.
    fs::remove_file(sandbox.path("out/adapter_config.json")).unwrap();
    sandbox.run(&format!("{run} -o out {watched} --resume out/checkpoint-3"), &[]).ok();
    assert!(bytes(&sandbox, "out") == bytes(&sandbox, "plain"));
    assert_eq!(samples("out"), all);
    assert_eq!(fs::read_dir(sandbox.path("out/runs")).unwrap().count(), 2);
    fs::write(sandbox.path("rows.txt"), "").unwrap();
    let lines = [
        format!("{run} -o more --html page.html"),
        format!("{run} -o more --html page"),
        format!("{run} -o more --html page.html --estimate"),
        format!("{run} -o more --sample-every 2"),
        format!("{run} -o more --sample-prompts rows.txt"),
        format!("{run} -o more --sample-prompts absent.txt"),
        format!("{RUN} -o more --max-steps 1 --warmup-steps 1"),
    ];
    let mut told = String::new();
    for line in &lines {
        told += &format!("$ lorakit {line}\n{}\n", sandbox.refused(line));
    }
    insta::assert_snapshot!(told);
}

/// A warm-up begins at 0, and a run of one step learns something all the same.
#[test]
fn a_run_of_one_step() {
    let sandbox = workshop();
    sandbox.run(&format!("{RUN} -o out --max-steps 1"), &[]).ok();
    let metrics = fs::read_to_string(sandbox.path("out/metrics.jsonl")).unwrap();
    let step: Value = serde_json::from_str(metrics.trim()).unwrap();
    assert_eq!((&step["step"], &step["lr"]), (&json!(1), &json!(5e-3)));
}

/// One object on stdout, with what the run did.
#[test]
fn json() {
    let sandbox = workshop();
    let output = Command::new(env!("CARGO_BIN_EXE_lorakit"))
        .current_dir(sandbox.root())
        .args(format!("{RUN} --max-steps 3 --val 0.1 -o out --html run.html --json").split_whitespace())
        .output()
        .unwrap();
    let run = Run::new(&sandbox, &output).ok();
    assert_eq!(run.stderr, "");
    let json: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&json["schema"], &json["outcome"]), (&json!("lorakit.train/1"), &json!("finished")));
    assert_eq!((&json["steps"], &json["output"]), (&json!(3), &json!("out")));
    assert!(json["html"] == "run.html" && sandbox.path("run.html").is_file());
    assert!(json["best"]["loss"].as_f64().unwrap() < json["before"].as_f64().unwrap());
}
