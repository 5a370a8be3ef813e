//! What was made from what, from folders alone.

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;

use serde_json::Value;

use super::{assert_told, json, refused, registry, run, stocked, whole};
use crate::support::{Sandbox, copy_folder, fixtures, read_json};
use crate::weights::edit_file;

/// A training run, reduced, combined with another adapter, and merged and quantised: made where there is no registry.
fn made() -> Sandbox {
    static MADE: OnceLock<Sandbox> = OnceLock::new();
    let (sandbox, made) = (Sandbox::new(), MADE.get_or_init(make));
    copy_folder(made.root(), sandbox.root());
    sandbox
}

fn make() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.copy(&fixtures().join("tiny-orders"), "base");
    let rows = fs::read_to_string(fixtures().join("tiny-json/train.jsonl")).unwrap();
    let rows: Vec<&str> = rows.lines().take(8).collect();
    fs::write(sandbox.path("train.jsonl"), rows.join("\n")).unwrap();
    for line in [
        "train --model base --data train.jsonl --packing false --batch-size 4 --max-steps 2 --compute f32 -t 2 -o trained",
        "reduce trained -o reduced --rank 2",
        "combine trained=0.5 reduced=0.5 -o both --method svd",
        "merge base both -o small.gguf --quantize Q8_0",
    ] {
        sandbox.run(line, &[]).ok();
    }
    sandbox
}

const NAMES: [&str; 4] = ["trained", "reduced", "both", "small.gguf"];

/// Nodes without their tags: what they are, and their parents.
fn nodes(sandbox: &Sandbox) -> BTreeSet<String> {
    let nodes = json(sandbox, "lineage")["nodes"].as_array().unwrap().clone();
    let without_tags = |node: &Value| {
        let mut parents: Vec<String> =
            node["parents"].as_array().unwrap().iter().map(ToString::to_string).collect();
        parents.sort();
        format!("{} {} {parents:?}", node["id"], node["verb"])
    };
    nodes.iter().map(without_tags).collect()
}

fn add(sandbox: &Sandbox, name: &str) {
    registry(sandbox, &format!("add {name} tiny:{}", name.replace('.', "-"))).ok();
}

#[test]
fn the_tree_is_the_same_in_every_order() {
    let sandbox = made();
    let mut expected = None;
    // Every third of the 24 orders, each into a registry of its own.
    for order in (0..24).step_by(3) {
        let (mut rest, mut order, mut names) = (NAMES.to_vec(), order, Vec::new());
        for left in (1..=4).rev() {
            names.push(rest.remove(order % left));
            order /= left;
        }
        let _ = fs::remove_dir_all(sandbox.path("home"));
        names.iter().for_each(|name| add(&sandbox, name));
        let found = nodes(&sandbox);
        assert_eq!(found.len(), 5, "{names:?}: {found:#?}");
        assert_eq!(*expected.get_or_insert_with(|| found.clone()), found, "{names:?}");
    }
    assert_told!(registry(&sandbox, "lineage").ok().stdout, @"
    tiny:small-gguf  merge  [SHORT]
    ├ base `base`, not in the registry  [SHORT]
    └ adapter 1 x tiny:both  combine  [SHORT]
      ├ adapter 0.5 x tiny:trained  train  [SHORT]
      │ └ base `base`, not in the registry  [SHORT]
      └ adapter 0.5 x tiny:reduced  reduce  [SHORT]
        └ adapter tiny:trained  train  [SHORT]
          └ as above
    ");
    // The middle goes, and the tree stays.
    registry(&sandbox, "rm tiny:reduced").ok();
    assert_eq!(Some(nodes(&sandbox)), expected);
    assert_told!(registry(&sandbox, "lineage tiny:small-gguf").ok().stdout, @"
    tiny:small-gguf  merge  [SHORT]
    ├ base `base`, not in the registry  [SHORT]
    └ adapter 1 x tiny:both  combine  [SHORT]
      ├ adapter 0.5 x tiny:trained  train  [SHORT]
      │ └ base `base`, not in the registry  [SHORT]
      └ adapter 0.5 x `reduced`, not in the registry  reduce  [SHORT]
        └ adapter tiny:trained  train  [SHORT]
          └ as above
    ");
    registry(&sandbox, "rm tiny:both").ok();
    registry(&sandbox, "rm tiny:trained").ok();
    assert_eq!(Some(nodes(&sandbox)), expected, "the last record holds those of all");
    whole(&sandbox);
}

#[test]
fn what_is_around_one() {
    let sandbox = made();
    NAMES.iter().for_each(|name| add(&sandbox, name));
    registry(&sandbox, "add base tiny:base").ok();
    let ids = |line: &str| json(&sandbox, line)["nodes"].as_array().unwrap().len();
    assert_eq!([ids("lineage tiny:trained"), ids("lineage tiny:base"), ids("lineage")], [5, 5, 5]);
    assert_told!(registry(&sandbox, "lineage tiny:reduced").ok().stdout, @"
    tiny:small-gguf  merge  [SHORT]
    ├ base tiny:base  [SHORT]
    └ adapter 1 x tiny:both  combine  [SHORT]
      ├ adapter 0.5 x tiny:trained  train  [SHORT]
      │ └ base tiny:base  [SHORT]
      └ adapter 0.5 x tiny:reduced  reduce  [SHORT]
        └ adapter tiny:trained  train  [SHORT]
          └ as above
    ");
    // What is made through the registry has the same place.
    run(&sandbox, "reduce tiny:trained -o registry:again:v1 --rank 1").ok();
    assert_eq!(ids("lineage"), 6);
    assert_eq!(ids("lineage again:v1"), 3);
}

#[test]
fn a_base_with_one_other_weight() {
    let sandbox = made();
    registry(&sandbox, "add trained tiny:v1 --base base").ok();
    copy_folder(&sandbox.path("base"), &sandbox.path("other"));
    edit_file(&sandbox.path("other/model.safetensors"), |weights| {
        let tensor = weights.values_mut().next().unwrap();
        tensor.bytes[0] ^= 1;
    });
    for name in ["trained", "reduced", "both"] {
        let (code, kind, message) = refused(&sandbox, &format!("registry add {name} tiny:v2 --base other"));
        assert_eq!((code, kind.as_str()), (1, "BaseMismatch"), "{name}: {message}");
        let recorded = super::state(&sandbox).len();
        assert_eq!(recorded, 1);
    }
    assert_told!(refused(&sandbox, "registry add trained tiny:v2 --base other").2, @"`other`: the base's weights are sha256:[DIGEST], but its record says that the adapter was trained on sha256:[DIGEST]");
    let allowed = registry(&sandbox, "add trained tiny:v2 --base other --allow-base-mismatch").ok();
    assert_told!(allowed.stderr, @"
    note: the base's weights are sha256:[DIGEST], but its record says that the adapter was trained on sha256:[DIGEST]
    note: left out: `checkpoint-2/` (a folder)
    ");
    // The record stays what it is.
    let digest = |name: &str| json(&sandbox, &format!("show {name}"))["artifact"]["base"]["digest"].clone();
    assert_eq!(digest("tiny:v1"), digest("tiny:v2"));
    assert_eq!(read_json(&sandbox.path("trained/lorakit.json"))["parents"][0]["weights"], digest("tiny:v1"));
    whole(&sandbox);
}

/// Without a record only names and shapes can be compared.
#[test]
fn a_base_without_a_record() {
    let sandbox = stocked();
    registry(&sandbox, "add attn attn:v1 --base base").ok();
    assert!(json(&sandbox, "show attn:v1")["artifact"]["base"]["digest"].is_string());
    sandbox.copy(&fixtures().join("tiny-orders"), "tiny");
    let (code, kind, message) = refused(&sandbox, "registry add style attn:v2 --base tiny");
    assert_eq!((code, kind.as_str()), (1, "BaseMismatch"), "{message}");
    copy_folder(&sandbox.path("base"), &sandbox.path("renamed"));
    let noted = registry(&sandbox, "add attn attn:v2 --base renamed").ok();
    assert_told!(noted.stderr, @"note: it states the base `llama-bf16`, and `renamed` was named");
}

/// A parent that states another licence is told.
#[test]
fn licences_of_parents() {
    let sandbox = stocked();
    fs::write(sandbox.path("style/README.md"), "---\nlicense: cc-by-nc-4.0\n---\n").unwrap();
    registry(&sandbox, "add style sql:v3").ok();
    sandbox.run("reduce style -o small --rank 2", &[]).ok();
    fs::write(sandbox.path("small/README.md"), "---\nlicense: mit\n---\n").unwrap();
    registry(&sandbox, "add small sql:small").ok();
    let told = registry(&sandbox, "lineage sql:small").ok().stdout;
    let note = told.lines().find(|line| line.starts_with("note")).unwrap_or_default();
    assert_told!(note, @"note: `sql:small` states the licence mit, and `sql:v3`, from which it was made, cc-by-nc-4.0");
}
