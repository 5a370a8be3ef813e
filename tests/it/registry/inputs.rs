//! Names of the registry where other verbs take paths.

use std::fs;

use serde_json::Value;

use super::{assert_told, refused, registry, run, state, stocked, whole};
use crate::support::{copy_folder, peft, read_json};

#[test]
fn a_name_is_the_folder_that_was_added() {
    let sandbox = stocked();
    let digest = state(&sandbox)["sql:v1"];
    sandbox.run("merge base style -o expected", &[]).ok();
    let expected = fs::read(sandbox.path("expected/model.safetensors")).unwrap();
    // The record of a merge names what was typed, so only weights are compared.
    let data = |bytes: &[u8]| {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    for (number, name) in [
        "sql:v1",
        "sql:v1@{0}",
        &format!("sql@{digest}"),
        &format!("sql@{}", digest.short()),
        &format!("sql:v2@{digest}"),
        "sql:v1=1.0",
        "sql:v1/adapter_model.safetensors",
    ]
    .iter()
    .enumerate()
    {
        let out = run(&sandbox, &format!("merge base {name} -o out-{number}")).ok();
        assert!(
            out.stderr.contains(&format!("{}, from the registry", digest.short())),
            "{name}: {}",
            out.stderr
        );
        let merged = fs::read(sandbox.path(&format!("out-{number}/model.safetensors"))).unwrap();
        assert!(data(&merged) == data(&expected), "{name}");
    }
    let record = read_json(&sandbox.path("out-0/lorakit.json"));
    assert_eq!(record["parents"][1]["name"], "sql", "the name without a tag, which may move: {record}");
    assert!(!record.to_string().contains("home/store"), "no path of the registry is in a record: {record}");
    whole(&sandbox);
}

#[test]
fn reports_name_what_was_typed() {
    let sandbox = stocked();
    let inspected = run(&sandbox, "inspect sql:v1 --json").ok().stdout;
    assert!(!inspected.contains("home"), "{inspected}");
    let report: Value = serde_json::from_str(&inspected).unwrap();
    assert!(report["reports"][0].to_string().contains("sql:v1"), "{inspected}");
    assert_told!(run(&sandbox, "inspect sql:v1").ok().stdout.lines().next().unwrap(), @"adapter sql:v1");
    let combined = run(&sandbox, "combine sql:v1=0.25 sql:v2=0.75 -o both --method svd").ok();
    assert!(combined.stdout.contains("`sql:v1` (weight 0.25"), "{}", combined.stdout);
    let first = run(&sandbox, "diff sql:v1 sql:v2").ok();
    assert!(first.stdout.contains("sql:v1") && !first.stdout.contains("home"), "{}", first.stdout);
    // An error of what is in the folder, too.
    fs::write(sandbox.path("attn/adapter_config.json"), "{").unwrap();
    let message = refused(&sandbox, "merge base attn -o out").2;
    assert!(message.contains("attn"), "{message}");
}

#[test]
fn what_is_on_disk_comes_first() {
    let sandbox = stocked();
    copy_folder(&peft("adapters/attn-r4"), &sandbox.path("sql:v1"));
    let rank = |name: &str| {
        let report: Value =
            serde_json::from_str(&run(&sandbox, &format!("inspect {name} --json")).ok().stdout).unwrap();
        report["reports"][0]["ranks"].clone()
    };
    let told = run(&sandbox, "inspect sql:v1").ok();
    assert!(!told.stderr.contains("registry"), "{}", told.stderr);
    assert_ne!(rank("sql:v1"), rank("sql:v2"));
    fs::remove_dir_all(sandbox.path("sql:v1")).unwrap();
    assert_eq!(rank("sql:v1"), rank("sql:v2"));
    // A commit of the hub looks like a digest, and is one of the registry only if that has it.
    let commit = "2".repeat(40);
    let message = refused(&sandbox, &format!("inspect tiny/adapter@{commit}")).2;
    assert!(!message.contains("registry"), "{message}");
    // A letter before a colon is a drive.
    assert_told!(refused(&sandbox, "inspect c:v1").2, @"`c:v1`: does not exist");
    assert_told!(refused(&sandbox, "inspect sql:v3").2, @"the registry has no `sql:v3`; the nearest name is `sql:v2`");
    assert_told!(refused(&sandbox, "merge base sql:v1/../../x -o out").2, @"`sql:v1/../../x`: does not exist");
}

/// A name is what it was when the command began: moving the tag later changes no output.
#[test]
fn a_tag_that_moved_still_has_its_past() {
    let sandbox = stocked();
    let before = state(&sandbox)["sql:v1"];
    registry(&sandbox, "add attn sql:v1 --force").ok();
    let told = run(&sandbox, "inspect sql:v1@{1}").ok();
    assert!(told.stderr.contains(&before.short()), "{}", told.stderr);
    let digest = format!("inspect sql@{before}");
    assert_eq!(run(&sandbox, &digest).ok().stdout.lines().count(), told.stdout.lines().count());
    registry(&sandbox, "rm sql:v1").ok();
    run(&sandbox, "inspect sql:v1@{1}").ok();
    assert_eq!(refused(&sandbox, "inspect sql:v1").1, "NotFound");
}

/// A single file is a file again, and a model in a registry is a model.
#[test]
fn files_and_models() {
    let sandbox = stocked();
    sandbox.run("convert style -o style.gguf --to gguf --base base", &[]).ok();
    registry(&sandbox, "add style.gguf gguf:v1").ok();
    registry(&sandbox, "add base tiny:bf16").ok();
    let told = run(&sandbox, "inspect gguf:v1").ok();
    assert_told!(told.stdout.lines().next().unwrap(), @"adapter gguf:v1/style.gguf");
    run(&sandbox, "merge tiny:bf16 gguf:v1 -o merged").ok();
    run(&sandbox, "verify merged --base tiny:bf16 --adapter gguf:v1").ok();
    // What reads a checkout cannot change a blob.
    whole(&sandbox);
}
