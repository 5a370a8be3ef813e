//! F16 and F17: blobs that have become others are noticed, named and moved away; other tags stay usable.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{
    assert_told, blob, blob_of, json, overwrite, refused, registry, root, run, state, stocked, whole,
};
use crate::support::{Sandbox, entries};

/// The verbs that read an artifact whole.
const READERS: &[&str] =
    &["registry verify sql:v1", "registry export sql:v1 out", "merge base sql:v1 -o out"];

fn quarantine(sandbox: &Sandbox) -> Vec<String> {
    entries(&root(sandbox).join("lorakit/quarantine"))
}

/// Asserts that `sql:v2` is as good as ever, and that `sql:v1` is again when it is added again.
#[track_caller]
fn others_are_usable(sandbox: &Sandbox, what: &str) {
    registry(sandbox, "verify sql:v2").ok();
    run(sandbox, "inspect sql:v2").ok();
    let added = registry(sandbox, "add style sql:v1");
    assert_eq!(added.code, Some(0), "{what}: {}", added.stderr);
    whole(sandbox);
    registry(sandbox, "verify").ok();
}

#[test]
fn bits_that_flip() {
    let sandbox = stocked();
    let path = blob(&sandbox, "sql:v1", "adapter_model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let digest = path.file_name().unwrap().to_string_lossy().into_owned();
    // Places spread over the file, the first and the last byte among them.
    let places = (0..12).map(|i| i * (bytes.len() - 1) / 11);
    for (number, place) in places.enumerate() {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1 << (number % 8);
        overwrite(&path, &flipped);
        registry(&sandbox, "fsck").ok();
        let fsck = registry(&sandbox, "fsck --read-data");
        assert_eq!(fsck.code, Some(1), "byte {place}");
        let said = fsck.stdout.contains(&digest) && fsck.stdout.contains("needed by sql:v1");
        assert!(said && !fsck.stdout.contains("sql:v2"), "{}", fsck.stdout);
        let before = quarantine(&sandbox).len();
        let (code, kind, message) = refused(&sandbox, READERS[number % READERS.len()]);
        assert_eq!((code, kind.as_str()), (1, "Corrupt"), "{message}");
        let said = message.contains(&digest) && message.contains("sql:v1") && message.contains("quarantine");
        assert!(said, "{message}");
        assert_eq!(quarantine(&sandbox).len(), before + 1);
        assert!(!path.exists() && !sandbox.path("out").exists());
        others_are_usable(&sandbox, "a bit");
    }
}

#[test]
fn a_manifest_or_configuration_with_another_bit() {
    let sandbox = stocked();
    let manifest = blob_of(&sandbox, state(&sandbox)["sql:v1"]);
    let mut bytes = fs::read(&manifest).unwrap();
    bytes[100] ^= 4;
    overwrite(&manifest, &bytes);
    let listed = json(&sandbox, "list");
    assert_eq!(
        (&listed["entries"][0]["tag"], &listed["damaged"][0]["tag"]),
        (&"sql:v2".into(), &"sql:v1".into())
    );
    assert_eq!(refused(&sandbox, "registry show sql:v1").1, "Incomplete", "it is in quarantine by now");
    assert_eq!(
        refused(&sandbox, "registry gc --apply --grace 0s").1,
        "Incomplete",
        "nothing is swept meanwhile"
    );
    others_are_usable(&sandbox, "a manifest");
    // A tag that is not worth mending can go.
    let bytes = fs::read(&manifest).unwrap();
    overwrite(&manifest, &bytes[1..]);
    registry(&sandbox, "untag sql:v1").ok();
    registry(&sandbox, "gc --apply --grace 0s").ok();
    whole(&sandbox);
}

type Spoil = fn(&Path);

/// What stands in the place of a blob, and what kind of error that is.
fn spoilt() -> Vec<(&'static str, &'static str, Spoil)> {
    vec![
        ("shorter", "Corrupt", |path| {
            let bytes = fs::read(path).unwrap();
            overwrite(path, &bytes[..bytes.len() - 1]);
        }),
        ("longer", "Corrupt", |path| {
            let bytes = fs::read(path).unwrap();
            overwrite(path, [&bytes[..], b"x"].concat());
        }),
        ("empty", "Corrupt", |path| overwrite(path, b"")),
        ("missing", "Incomplete", |path| fs::remove_file(path).unwrap()),
        ("a link to the same bytes", "Unsafe", |path| {
            let moved = path.with_extension("moved");
            fs::rename(path, &moved).unwrap();
            symlink(&moved, path).unwrap();
        }),
        ("a link to nothing", "Unsafe", |path| {
            fs::remove_file(path).unwrap();
            symlink("/nowhere", path).unwrap();
        }),
        ("a folder", "Unsafe", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("a pipe", "Unsafe", |path| {
            fs::remove_file(path).unwrap();
            assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        }),
    ]
}

#[test]
fn blobs_that_are_something_else() {
    let sandbox = stocked();
    let path = blob(&sandbox, "sql:v1", "adapter_model.safetensors");
    let digest = path.file_name().unwrap().to_string_lossy().into_owned();
    for (number, (what, expected, spoil)) in spoilt().into_iter().enumerate() {
        spoil(&path);
        let begun = Instant::now();
        let fsck = registry(&sandbox, "fsck");
        assert_eq!(fsck.code, Some(1), "{what}");
        assert!(
            fsck.stdout.contains(&digest) && fsck.stdout.contains("needed by sql:v1"),
            "{what}: {}",
            fsck.stdout
        );
        let (code, kind, message) = refused(&sandbox, READERS[number % READERS.len()]);
        assert_eq!((code, kind.as_str()), (1, expected), "{what}: {message}");
        assert!(message.contains(&digest) && message.contains("sql:v1"), "{what}: {message}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}: nobody waits");
        others_are_usable(&sandbox, what);
    }
}

#[test]
fn manifests_that_are_something_else() {
    let sandbox = stocked();
    let path = blob_of(&sandbox, state(&sandbox)["sql:v1"]);
    for (what, expected, spoil) in spoilt() {
        spoil(&path);
        let fsck = registry(&sandbox, "fsck");
        assert_eq!(fsck.code, Some(1), "{what}");
        let (code, kind, message) = refused(&sandbox, "inspect sql:v1");
        assert_eq!((code, kind.as_str()), (1, expected), "{what}: {message}");
        others_are_usable(&sandbox, what);
    }
}

#[test]
fn what_repair_says() {
    let sandbox = stocked();
    overwrite(&blob(&sandbox, "sql:v1", "adapter_model.safetensors"), "other bytes");
    let config = blob(&sandbox, "sql:v2", "adapter_config.json");
    fs::remove_file(&config).unwrap();
    symlink("/etc/passwd", &config).unwrap();
    let run = registry(&sandbox, "repair");
    assert_eq!(run.code, Some(1));
    assert_told!(run.stdout, @"
    2 blobs moved to quarantine
    lost: sha256:[DIGEST] is not a regular file; needed by sql:v2
    lost: sha256:[DIGEST] has 11 bytes instead of 122312; needed by sql:v1
    ");
    assert_told!(run.stderr, @"error: what is lost must be added or imported again; see above");
    assert_eq!(quarantine(&sandbox).len(), 2);
    let run = registry(&sandbox, "repair --json");
    assert_eq!(run.code, Some(1));
    let answer: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let codes: Vec<&str> =
        answer["lost"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["absent", "absent"]);
    registry(&sandbox, "add style again:v1").ok();
    registry(&sandbox, "add facts again:v2").ok();
    registry(&sandbox, "repair").ok();
    whole(&sandbox);
}

/// A blob that several need is told for all of them.
#[test]
fn everybody_who_needs_it_is_named() {
    let sandbox = stocked();
    registry(&sandbox, "tag sql:v1 other:name").ok();
    registry(&sandbox, "add base tiny:bf16").ok();
    fs::remove_file(blob(&sandbox, "sql:v1", "adapter_model.safetensors")).unwrap();
    let fsck = registry(&sandbox, "fsck --json");
    let answer: serde_json::Value = serde_json::from_str(&fsck.stdout).unwrap();
    let fault = &answer["faults"][0];
    assert_eq!(fault["tags"], serde_json::json!(["other:name", "sql:v1"]));
    assert_eq!((&fault["harm"], &fault["code"]), (&"lost".into(), &"absent".into()));
    registry(&sandbox, "verify tiny:bf16 sql:v2").ok();
}
