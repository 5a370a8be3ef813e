//! What each verb says and does when all is well.

use serde_json::json;

use super::{assert_told, desk, json, registry, root, run, state, stocked, store, whole};
use crate::support::edit_json;

#[test]
fn an_adapter_is_added_shown_and_listed() {
    let sandbox = desk();
    assert_told!(registry(&sandbox, "list").ok().stdout, @"the registry is empty");
    let added = registry(&sandbox, "add style team/sql:v1").ok();
    assert_told!(added.stdout, @"`team/sql:v1` is [SHORT] (2 files, 123 kB)");
    assert_eq!(added.stderr, "");
    assert_told!(registry(&sandbox, "show team/sql:v1").ok().stdout, @"
    team/sql:v1  sha256:[DIGEST]

      what          LoRA adapter
      format        peft
      rank          8
      alpha         16
      scale         2
      targets       down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj
      parameters    29.7 k
      dtype         F32
      norm          56.5858
      base          llama-bf16
      weights       sha256:[DIGEST]

      file                          size        digest
      adapter_config.json        1.16 kB  [SHORT]
      adapter_model.safetensors   122 kB  [SHORT]
    ");
    registry(&sandbox, "add attn attn:v1").ok();
    registry(&sandbox, "add base tiny:bf16").ok();
    assert_told!(registry(&sandbox, "list").ok().stdout, @"
    name          kind  rank        base     size             added
    attn:v1       LoRA     4  llama-bf16  16.5 kB  [TIME]
    team/sql:v1   LoRA     8  llama-bf16   123 kB  [TIME]
    tiny:bf16    model     -           -   660 kB  [TIME]
    ");
    whole(&sandbox);
}

/// The digest names a folder for good: on any machine, by any version that writes this form.
#[test]
fn a_folder_has_one_digest() {
    let (one, other) = (desk(), desk());
    registry(&one, "add style sql:v1").ok();
    registry(&other, "add facts other:v1").ok();
    registry(&other, "add style sql:v9").ok();
    assert_eq!(state(&one)["sql:v1"], state(&other)["sql:v9"]);
    insta::assert_snapshot!(state(&one)["sql:v1"], @"sha256:8e8072a046e0eff92e2948f8a304a35aa08736efd0727fe27aa4f7e3211fcdf6");
}

#[test]
fn lists_are_filtered_and_sorted() {
    let sandbox = stocked();
    registry(&sandbox, "add attn team/attn:v1").ok();
    registry(&sandbox, "add base tiny:bf16").ok();
    registry(&sandbox, "eval add sql:v1 --metric exact=0.5").ok();
    registry(&sandbox, "eval add sql:v2 --metric exact=0.75").ok();
    let names = |line: &str| {
        let entries = json(&sandbox, line)["entries"].as_array().unwrap().clone();
        entries.iter().map(|entry| entry["tag"].as_str().unwrap().to_string()).collect::<Vec<_>>().join(" ")
    };
    for (line, expected) in [
        ("list", "sql:v1 sql:v2 team/attn:v1 tiny:bf16"),
        ("list sql", "sql:v1 sql:v2"),
        ("list *:v1", "sql:v1 team/attn:v1"),
        ("list team/*", "team/attn:v1"),
        ("list --rank 8", "sql:v1 sql:v2"),
        ("list --rank 2..4", "team/attn:v1"),
        ("list --kind adapter --sort rank", "sql:v1 sql:v2 team/attn:v1"),
        ("list --kind model", "tiny:bf16"),
        ("list --target up_proj", "sql:v1 sql:v2"),
        ("list --target up_proj --target nothing", ""),
        ("list --base LLAMA", "sql:v1 sql:v2 team/attn:v1"),
        ("list --metric exact=0.6", "sql:v2"),
        ("list --sort exact --kind adapter", "sql:v2 sql:v1 team/attn:v1"),
        ("list --sort size", "tiny:bf16 sql:v1 sql:v2 team/attn:v1"),
    ] {
        assert_eq!(names(line), expected, "{line}");
    }
    assert_told!(registry(&sandbox, "list --kind adapter --sort exact").ok().stdout, @"
    name          kind  rank        base     size  exact             added
    sql:v2        LoRA     8  llama-bf16   123 kB   0.75  [TIME]
    sql:v1        LoRA     8  llama-bf16   123 kB    0.5  [TIME]
    team/attn:v1  LoRA     4  llama-bf16  16.5 kB      -  [TIME]
    ");
    assert_told!(registry(&sandbox, "list nothing").ok().stdout, @"none of 4 tags fits");
}

#[test]
fn tags_move_and_are_remembered() {
    let sandbox = stocked();
    assert_told!(registry(&sandbox, "tag sql:v1 sql:best").ok().stdout, @"`sql:best` points to [SHORT]");
    assert_told!(registry(&sandbox, "tag sql:v2 sql:best --force").ok().stdout, @"`sql:best` points to [SHORT]; it pointed to [SHORT] before, which is `sql:best@{1}` now");
    let tags = state(&sandbox);
    let expected = format!("tag sql:v1 sql:best --expect {}", tags["sql:v2"]);
    registry(&sandbox, &expected).ok();
    let digest = |name: &str| json(&sandbox, &format!("show {name}"))["artifact"]["digest"].clone();
    let [first, second] = ["sql:v1", "sql:v2"].map(|tag| json!(tags[tag]));
    assert_eq!(digest("sql:best"), first);
    assert_eq!([digest("sql:best@{1}"), digest("sql:best@{2}")], [second, first]);
    let short = tags["sql:v1"].short();
    assert_eq!(digest(&format!("sql@{short}")), json!(tags["sql:v1"]));
    assert_eq!(digest(&format!("sql:v2@{}", tags["sql:v1"])), json!(tags["sql:v1"]), "the digest decides");
    assert_told!(registry(&sandbox, "untag sql:best").ok().stdout, @"removed the tag `sql:best`; it pointed to [SHORT] before, which is `sql:best@{1}` now");
    assert_eq!(state(&sandbox).keys().collect::<Vec<_>>(), ["sql:v1", "sql:v2"]);
    assert_told!(registry(&sandbox, "log sql:best").ok().stdout, @"
    tag                       when        digest     by
    sql:best@{0}  [TIME]       removed  untag
    sql:best@{1}  [TIME]  [SHORT]    tag
    sql:best@{2}  [TIME]  [SHORT]    tag
    sql:best@{3}  [TIME]  [SHORT]    tag
    ");
    let moves = json(&sandbox, "log")["moves"].as_array().unwrap().clone();
    let why: Vec<&str> = moves.iter().map(|one| one["why"].as_str().unwrap()).collect();
    assert_eq!(why, ["untag", "tag", "tag", "tag", "add", "add"]);
    registry(&sandbox, "tag sql:best@{1} sql:best").ok();
    assert_eq!(state(&sandbox)["sql:best"], tags["sql:v1"]);
    assert_told!(registry(&sandbox, "log sql:never").ok().stdout, @"that tag never moved");
}

#[test]
fn an_artifact_goes_with_what_is_attached_to_it() {
    let sandbox = stocked();
    registry(&sandbox, "tag sql:v1 other:name").ok();
    registry(&sandbox, "eval add sql:v1 --metric exact=0.5").ok();
    let gone = registry(&sandbox, "rm sql:v1").ok();
    assert_told!(gone.stdout, @"removed `other:name`, `sql:v1`, `sql:v1-eval-1`");
    assert_told!(gone.stderr, @"note: nothing is swept for 30 days: `lorakit registry tag 'other:name@{1}' other:name` brings it back");
    assert_eq!(state(&sandbox).keys().collect::<Vec<_>>(), ["sql:v2"]);
    assert_told!(registry(&sandbox, "rm sql:v1@{1}").ok().stdout, @"no tag points to `sql:v1@{1}` any more");
    registry(&sandbox, "tag sql:v1@{1} sql:v1").ok();
    assert_eq!(json(&sandbox, "show sql:v1")["tags"], json!(["sql:v1"]));
    whole(&sandbox);
}

#[test]
fn differences_that_a_server_cares_for() {
    let sandbox = stocked();
    registry(&sandbox, "add attn attn:v1").ok();
    edit_json(&sandbox.path("style/adapter_config.json"), |config| config["inference_mode"] = false.into());
    registry(&sandbox, "add style sql:edited").ok();
    assert_told!(registry(&sandbox, "diff sql:v1 sql:v2").ok().stdout, @"
                     sql:v1        sql:v2
      alpha              16            32
      scale               2             4
      norm          56.5858      113.3654
      weights  [SHORT]  [SHORT]
    changed: adapter_config.json, adapter_model.safetensors

    a server cannot exchange A for B while it runs: alpha 16 and 32
    `lorakit diff sql:v1 sql:v2` compares the weights
    ");
    assert_told!(registry(&sandbox, "diff sql:v1 attn:v1").ok().stdout, @"
                                                                         sql:v1         attn:v1
      rank                                                                    8               4
      alpha                                                                  16               4
      scale                                                                   2               1
      targets     down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj  q_proj, v_proj
      parameters                                                          29696            3584
      norm                                                              56.5858          8.3897
      weights                                                      [SHORT]    [SHORT]
    changed: adapter_config.json, adapter_model.safetensors

    a server cannot exchange A for B while it runs: rank 8 and 4; alpha 16 and 4; targets down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj and q_proj, v_proj
    `lorakit diff sql:v1 attn:v1` compares the weights
    ");
    assert_told!(registry(&sandbox, "diff sql:v1 sql:edited").ok().stdout, @"
    the weights are the same
    changed: adapter_config.json

    a server can exchange A for B while it runs
    ");
    assert_told!(registry(&sandbox, "diff sql:v1 sql:v1").ok().stdout, @"the same: both are [SHORT]");
    let difference = json(&sandbox, "diff sql:v1 attn:v1")["difference"].clone();
    assert_eq!(difference["same_weights"], false);
    assert!(difference["obstacles"].as_array().unwrap().contains(&json!("rank 8 and 4")), "{difference}");
}

#[test]
fn twins_and_what_sharing_saves() {
    let sandbox = stocked();
    assert_told!(registry(&sandbox, "dup").ok().stdout, @"no two tags have the same weights");
    registry(&sandbox, "tag sql:v1 again:v1").ok();
    edit_json(&sandbox.path("style/adapter_config.json"), |config| config["inference_mode"] = false.into());
    let shared = json(&sandbox, "add style sql:edited")["shared_bytes"].as_u64().unwrap();
    assert!(shared > 100_000, "the weights were there already");
    assert_told!(registry(&sandbox, "dup").ok().stdout, @"
    [SHORT]
      again:v1
      sql:edited
      sql:v1
    ");
    let twins = json(&sandbox, "dup")["same_weights"].clone();
    assert_eq!((&twins[0]["same_artifact"], twins[0]["tags"].as_array().unwrap().len()), (&json!(false), 3));
    assert_told!(registry(&sandbox, "stats").ok().stdout, @"
    4 tags of 3 artifacts, 0 attached
    370 kB in files, 248 kB stored: sharing saves 122 kB (33 %)
    ");
}

#[test]
fn what_was_added_is_checked() {
    let sandbox = stocked();
    assert_told!(registry(&sandbox, "verify").ok().stdout, @"verified: 2 artifacts, 247 kB, every byte as its digest says");
    assert_told!(registry(&sandbox, "verify sql:v2").ok().stdout, @"verified: 1 artifact, 123 kB, every byte as its digest says");
    assert_told!(registry(&sandbox, "fsck").ok().stdout, @"no damage: 2 tags, 8 blobs, 250 kB; `--read-data` reads every byte");
    assert_told!(registry(&sandbox, "fsck --read-data").ok().stdout, @"no damage: 2 tags, 8 blobs, 250 kB, every byte read");
    assert_told!(registry(&sandbox, "repair").ok().stdout, @"nothing had to be mended");
    let fsck = json(&sandbox, "fsck --read-data");
    assert_eq!((&fsck["tags"], &fsck["read_data"], &fsck["faults"]), (&json!(2), &json!(true), &json!([])));
}

/// `--store` names another registry than the environment does.
#[test]
fn a_registry_elsewhere() {
    let sandbox = stocked();
    registry(&sandbox, "add attn attn:v1 --store elsewhere").ok();
    assert_eq!(json(&sandbox, "list --store elsewhere")["entries"][0]["tag"], "attn:v1");
    assert_eq!(state(&sandbox).len(), 2);
    assert!(sandbox.path("elsewhere/oci-layout").is_file() && root(&sandbox).is_dir());
    assert!(store(&sandbox).holds(&root(&sandbox).join("blobs")));
}

/// What is left out of a folder is said.
#[test]
fn what_is_left_out() {
    let sandbox = desk();
    let folder = sandbox.path("style");
    for name in ["optimizer.pt", "notes.docx", ".hidden", "nul.json"] {
        std::fs::write(folder.join(name), "x").unwrap();
    }
    std::fs::create_dir(folder.join("checkpoint-5")).unwrap();
    let run = run(&sandbox, "registry add style sql:v1").ok();
    assert_told!(run.stdout, @"`sql:v1` is [SHORT] (2 files, 123 kB)");
    let mut said: Vec<&str> = run.stderr.trim().trim_start_matches("note: left out: ").split(", `").collect();
    said.sort_unstable();
    assert_told!(said.join("\n"), @"
    `.hidden` (hidden)
    checkpoint-5/` (a folder)
    notes.docx` (of an unknown kind)
    nul.json` (its name is not one on every system)
    optimizer.pt` (a pickle, which can hold code)
    ");
}
