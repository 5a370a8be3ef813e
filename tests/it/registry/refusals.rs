//! What is refused: each with its kind and its exit code, and no tag moves.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use safetensors::tensor::Dtype;
use serde_json::json;

use super::{assert_told, desk, refused, registry, root, run, state, stocked};
use crate::support::{Sandbox, copy_folder, edit_json, peft};
use crate::weights::{Tensor, Weights, write_file};

#[track_caller]
fn kind(sandbox: &Sandbox, line: &str, code: i32, kind: &str) -> String {
    let (found, said, message) = refused(sandbox, line);
    assert_eq!((found, said.as_str()), (code, kind), "{line}: {message}");
    message
}

#[test]
fn tags_that_point_elsewhere() {
    let sandbox = stocked();
    assert_told!(kind(&sandbox, "registry add attn sql:v1", 1, "Moved"), @"`sql:v1` points to sha256:[DIGEST] already");
    let digest = state(&sandbox)["sql:v2"];
    let expected = format!("registry add attn sql:v1 --expect {digest}");
    assert_told!(kind(&sandbox, &expected, 1, "Moved"), @"`sql:v1` points to sha256:[DIGEST], expected sha256:[DIGEST]");
    let absent = format!("registry tag sql:v1 sql:new --expect {digest}");
    assert_told!(kind(&sandbox, &absent, 1, "Moved"), @"`sql:new` points to nothing, expected sha256:[DIGEST]");
    kind(&sandbox, "registry tag sql:v1 sql:v2", 1, "Moved");
    kind(&sandbox, &format!("registry untag sql:v1 --expect {digest}"), 1, "Moved");
    // What points there already is no move.
    registry(&sandbox, "add style sql:v1").ok();
    registry(&sandbox, "tag sql:v1 sql:v1").ok();
    assert_told!(run(&sandbox, "registry add attn sql:v1").stderr, @"
    error: `sql:v1` points to sha256:[DIGEST] already

    hint: give it another tag, or move this one with `--force`: what it points to now stays, as `TAG@{1}`
    ");
}

#[test]
fn names_that_nothing_has() {
    let sandbox = stocked();
    assert_told!(kind(&sandbox, "registry show sql:v3", 1, "NotFound"), @"the registry has no `sql:v3`; the nearest name is `sql:v2`");
    assert_told!(kind(&sandbox, "registry show nothing/like:it", 1, "NotFound"), @"the registry has no `nothing/like:it`");
    assert_told!(kind(&sandbox, "registry show sql@sha256:000000", 1, "NotFound"), @"the registry has no `sql@sha256:000000`");
    assert_told!(kind(&sandbox, "registry show sql:v1@{3}", 1, "NotFound"), @"`sql:v1` has moved 0 times that the registry remembers, not 3");
    kind(&sandbox, "registry show sql:v3@{0}", 1, "NotFound");
    kind(&sandbox, "registry untag sql:v3", 1, "NotFound");
    kind(&sandbox, "registry rm sql:v3", 1, "NotFound");
    registry(&sandbox, "eval add sql:v1 --metric exact=1").ok();
    assert_told!(kind(&sandbox, "registry show sql:v1-eval-1", 1, "Unsupported"), @"`sql:v1-eval-1` is an evaluation, not an adapter or a model");
    assert_told!(kind(&sandbox, "registry list --sort nothing", 2, "Usage"), @"no evaluation has the figure `nothing`");
}

/// Digests whose first digits are the same are made by adding one adapter with many licences.
#[test]
fn digits_that_fit_two() {
    let sandbox = stocked();
    let store = super::store(&sandbox);
    let digest = state(&sandbox)["sql:v1"];
    // A line of the log of another artifact, whose digest differs in its last digit only.
    let hex = digest.hex();
    let other = format!("{}{}", &hex[..63], if hex.ends_with('0') { '1' } else { '0' });
    let text = format!(r#"{{"at":1,"tag":"sql:old","new":"sha256:{other}","why":"add"}}"#);
    let sum = lorakit_registry::Digest::of(text.as_bytes()).hex();
    let log = store.root().join("lorakit/reflog");
    let lines = fs::read_to_string(&log).unwrap();
    fs::write(&log, format!("{lines}{} {text}\n", &sum[..8])).unwrap();
    let message = kind(&sandbox, &format!("registry show sql@{}", &hex[..12]), 1, "Ambiguous");
    assert_told!(message, @"`sql@sha256:[SHORT]` fits 2 artifacts: name more digits");
    registry(&sandbox, &format!("show sql@{hex}")).ok();
}

#[test]
fn texts_that_are_no_names() {
    let sandbox = stocked();
    for (line, part) in [
        ("registry add attn sql", "`sql` has no tag"),
        ("registry add attn SQL:v1", "is not a name in the registry"),
        ("registry add attn ../x:v1", "is not a name in the registry"),
        ("registry add attn sql:v1@{1}", "must be a tag"),
        ("registry show sql@12345", "is not a name in the registry"),
        ("registry tag sql:v1 c:v1", "a single letter before `:` is a drive"),
        ("registry untag sql:v1 --expect sha256:12", "64 lower-case hexadecimal digits"),
        ("registry gc --grace 5", "must be a time"),
        ("registry list --rank 8..4", "must be a number or a range"),
        ("registry eval add sql:v1 --metric exact", "is not a metric"),
        ("registry eval add sql:v1 --metric exact=NaN", "is not a metric"),
        ("registry eval add sql:v1", "required arguments were not provided"),
        ("registry add attn sql:v3 --allow-base-mismatch", "required arguments were not provided"),
    ] {
        let message = kind(&sandbox, line, 2, "Usage");
        assert!(message.contains(part), "{line}: {message}");
    }
}

#[test]
fn folders_that_are_not_added() {
    let sandbox = desk();
    fs::create_dir(sandbox.path("empty")).unwrap();
    fs::write(sandbox.path("empty/notes.md"), "words").unwrap();
    assert_told!(kind(&sandbox, "registry add empty sql:v1", 1, "NoAdapter"), @"`empty`: holds no adapter and no model");
    copy_folder(&peft("adapters-bin/attn-r4"), &sandbox.path("pickle"));
    assert_told!(kind(&sandbox, "registry add pickle sql:v1", 1, "Unsafe"), @"`pickle`: `adapter_model.bin` is a pickle, which can hold code: the registry takes safetensors, GGUF and JSON");
    kind(&sandbox, "registry add pickle/adapter_model.bin sql:v1", 1, "Unsafe");
    kind(&sandbox, "registry add nowhere sql:v1", 1, "NotFound");
    fs::write(sandbox.path("secret.json"), "{}").unwrap();
    symlink("../secret.json", sandbox.path("style/extra.json")).unwrap();
    assert_told!(kind(&sandbox, "registry add style sql:v1", 1, "Unsafe"), @"`style`: `extra.json` is a link that leads out of the folder");
    fs::remove_file(sandbox.path("style/extra.json")).unwrap();
    Command::new("mkfifo").arg(sandbox.path("style/pipe.json")).status().unwrap();
    assert_told!(kind(&sandbox, "registry add style sql:v1", 1, "Unsafe"), @"`style`: `pipe.json` is not a regular file");
    fs::remove_file(sandbox.path("style/pipe.json")).unwrap();
    // A name that differs only in case would be one file elsewhere.
    fs::write(sandbox.path("style/notes.md"), "a").unwrap();
    fs::write(sandbox.path("style/NOTES.md"), "b").unwrap();
    let message = kind(&sandbox, "registry add style sql:v1", 1, "Unsafe");
    assert!(message.contains("has two files called"), "{message}");
    assert_eq!(state(&sandbox).len(), 0);
    // A link within the folder is taken as the file that it leads to.
    fs::remove_file(sandbox.path("style/NOTES.md")).unwrap();
    symlink("notes.md", sandbox.path("style/README.md")).unwrap();
    registry(&sandbox, "add style sql:v1").ok();
    super::whole(&sandbox);
}

#[test]
fn values_that_are_not_finite() {
    let sandbox = desk();
    let file = sandbox.path("style/adapter_model.safetensors");
    let mut weights: Weights = crate::weights::read_file(&file);
    let name = weights.keys().find(|name| name.contains("lora_B")).unwrap().clone();
    let mut values = weights[&name].values();
    values[5] = f64::NAN;
    let tensor = Tensor::new(Dtype::F32, &weights[&name].shape, &values);
    weights.insert(name, tensor);
    write_file(&file, &weights);
    let message = kind(&sandbox, "registry add style sql:v1", 1, "NonFinite");
    assert!(message.contains("style") && message.contains("not finite"), "{message}");
    registry(&sandbox, "add style sql:v1 --allow-non-finite").ok();
    let shown = super::json(&sandbox, "show sql:v1");
    let codes: Vec<&str> = shown["artifact"]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["code"].as_str().unwrap())
        .collect();
    assert!(codes.contains(&"non-finite"), "{codes:?}");
}

#[test]
fn stores_that_are_none() {
    let sandbox = desk();
    assert_told!(kind(&sandbox, "registry show sql:v1", 1, "NotFound"), @"`[TMP]/home/store`: there is no registry here yet");
    let home = root(&sandbox);
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("diary.txt"), "dear diary").unwrap();
    assert_told!(kind(&sandbox, "registry add style sql:v1", 2, "Occupied"), @"`[TMP]/home/store`: is not a registry: it has files, but no `oci-layout`");
    assert_eq!(crate::support::entries(&home), ["diary.txt"]);
    fs::remove_file(home.join("diary.txt")).unwrap();
    fs::remove_dir(&home).unwrap();
    fs::write(&home, "a file").unwrap();
    let message = kind(&sandbox, "registry add style sql:v1", 3, "Io");
    assert!(message.contains("home/store"), "{message}");
}

/// F30: what a later version wrote is not touched.
#[test]
fn stores_of_a_later_form() {
    let sandbox = stocked();
    edit_json(&root(&sandbox).join("lorakit/format.json"), |format| format["form"] = json!(2));
    let before = crate::support::files(&root(&sandbox));
    for line in ["add attn sql:v3", "list", "gc --apply --grace 0s", "repair", "fsck", "rm sql:v1"] {
        let (code, said, message) = refused(&sandbox, &format!("registry {line}"));
        assert_eq!((code, said.as_str()), (1, "Unsupported"), "{line}: {message}");
    }
    assert_told!(refused(&sandbox, "merge base sql:v1 -o out").2, @"`[TMP]/home/store`: was written in form 2 by a later lorakit; this one knows form 1 and changes nothing");
    assert!(crate::support::files(&root(&sandbox)) == before, "nothing is changed");
    edit_json(&root(&sandbox).join("lorakit/format.json"), |format| format["form"] = json!(1));
    fs::write(root(&sandbox).join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert_told!(refused(&sandbox, "registry list").2, @"`[TMP]/home/store`: is an OCI layout of version 2.0.0; version 1.0.0 is read");
}
