//! `lorakit train --import`: configurations of other trainers, from the file to a run.

use std::fs;

use insta::assert_snapshot;

use crate::support::{Sandbox, fixtures};

/// Written for these tests, in the shape of axolotl's.
const AXOLOTL: &str = "base_model: base
adapter: lora
datasets:
  - path: ./rows.jsonl
    type: chat_template
val_set_size: 0
output_dir: adapter
sequence_len: 256
lora_r: 4
lora_alpha: 8
lora_target_modules: [q_proj, v_proj]
micro_batch_size: 2
gradient_accumulation_steps: 2
num_epochs: 1
learning_rate: 1e-3
lr_scheduler: linear
warmup_ratio: 0.1
gradient_checkpointing: true
wandb_project: orders
";

fn workshop() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "base");
    let rows = fs::read_to_string(fixtures().join("tiny-json/train.jsonl")).unwrap();
    let rows: Vec<&str> = rows.lines().take(8).collect();
    fs::write(sandbox.path("rows.jsonl"), rows.join("\n")).unwrap();
    fs::write(sandbox.path("axolotl.yml"), AXOLOTL).unwrap();
    sandbox
}

/// What is printed is a file of keys that trains.
#[test]
fn a_configuration_becomes_a_run() {
    let sandbox = workshop();
    let run = sandbox.run("train --import axolotl.yml lora.dropout=0.1 --seed 7", &[]).ok();
    assert_snapshot!(run.stderr);
    for line in ["  r: 4", "  dropout: 0.1", "seed: 7", "lr_end: 0", "packing: false", "quant: keep"] {
        assert!(run.stdout.lines().any(|printed| printed == line), "{line}: {}", run.stdout);
    }
    assert_eq!(sandbox.entries(), ["axolotl.yml", "base", "rows.jsonl"], "nothing is trained");
    fs::write(sandbox.path("run.yaml"), &run.stdout).unwrap();
    sandbox.run("train -c run.yaml -t 2", &[]).ok();
    let metrics = fs::read_to_string(sandbox.path("adapter/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().filter(|line| line.contains("\"lr\"")).count(), 2, "8 rows, 4 of them a step");
    let written = fs::read_to_string(sandbox.path("adapter/run.yaml")).unwrap();
    assert!(written.contains("\n  r: 4\n") && written.contains("\nseed: 7\n"), "{written}");
}

#[test]
fn refusals() {
    let sandbox = workshop();
    let write = |name: &str, text: &str| fs::write(sandbox.path(name), text).unwrap();
    write("hub.yml", &AXOLOTL.replace("./rows.jsonl", "someone/rows"));
    write("dpo.yml", &format!("{AXOLOTL}rl: dpo\nload_in_8bit: true\n"));
    write("misspelt.yml", &AXOLOTL.replace("lora_alpha", "lora_alpah"));
    write("ours.yml", "model: base\ndata: rows.jsonl\n");
    write("list.yml", "- a\n- b\n");
    write("factory.yml", "model_name_or_path: base\nstage: sft\ndataset: mine\noutput_dir: out\n");
    let lines = [
        "train --import hub.yml",
        "train --import dpo.yml",
        "train --import misspelt.yml",
        "train --import ours.yml",
        "train --import list.yml",
        "train --import factory.yml",
        "train --import absent.yml",
        "train --import axolotl.yml -c run.yaml",
        "train --import axolotl.yml --estimate",
        "train --import axolotl.yml lora.r=none",
    ];
    let mut told = String::new();
    for line in &lines {
        told += &format!("$ lorakit {line}\n{}\n", sandbox.refused(line));
    }
    assert_snapshot!(told);
    // What is typed takes the place of what cannot be read.
    let typed = "train --import hub.yml --data rows.jsonl";
    assert!(sandbox.run(typed, &[]).ok().stdout.contains("\ndata: rows.jsonl\n"));
    assert!(
        sandbox
            .run("train --import factory.yml --data rows.jsonl", &[])
            .ok()
            .stdout
            .contains("\nlr: 5.0e-5\n")
    );
}
