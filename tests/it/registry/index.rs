//! F18: an index that is empty, torn, binary, huge, or says things twice.

use std::fs::{self, File};
use std::process::Command;

use serde_json::{Value, json};

use super::{assert_told, refused, registry, root, state, stocked, whole};
use crate::support::{edit_json, entries, read_json};

#[test]
fn an_index_that_cannot_be_read() {
    let sandbox = stocked();
    registry(&sandbox, "eval add sql:v1 --metric exact=0.5").ok();
    let path = root(&sandbox).join("index.json");
    let (whole_index, tags) = (fs::read(&path).unwrap(), state(&sandbox));
    let torn = whole_index[..whole_index.len() / 2].to_vec();
    for (what, content) in [
        ("empty", Vec::new()),
        ("torn", torn),
        ("binary", vec![0xff; 4096]),
        ("another form", b"{\"manifests\": 5}".to_vec()),
        ("deep", b"[".repeat(100_000)),
    ] {
        fs::write(&path, content).unwrap();
        // A program that writes it in place may be half-way, so each look takes a moment.
        let lines = ["list", "add attn sql:v3", "show sql:v1", "tag sql:v1 sql:v3", "gc --apply --grace 0s"];
        for line in &lines[..if what == "torn" { 5 } else { 2 }] {
            let (code, kind, message) = refused(&sandbox, &format!("registry {line}"));
            assert_eq!((code, kind.as_str()), (1, "Corrupt"), "{what}, {line}: {message}");
            assert!(message.contains("index.json"), "{what}, {line}: {message}");
        }
        let fsck = registry(&sandbox, "fsck");
        assert_eq!(fsck.code, Some(1), "{what}");
        assert!(fsck.stdout.contains("mendable: index.json"), "{what}: {}", fsck.stdout);
        repaired(&sandbox, what);
        assert_eq!(state(&sandbox), tags, "{what}");
    }
    assert_eq!(entries(&root(&sandbox).join("lorakit/quarantine")).len(), 5, "what was there is kept");
}

#[track_caller]
fn repaired(sandbox: &crate::support::Sandbox, what: &str) {
    let run = registry(sandbox, "repair");
    assert_eq!(
        (run.code, run.stdout.as_str()),
        (Some(0), "index.json was written anew\n"),
        "{what}: {}",
        run.stderr
    );
    whole(sandbox);
    let manifests = read_json(&root(sandbox).join("index.json"))["manifests"].as_array().unwrap().len();
    assert_eq!(manifests, state(sandbox).len(), "{what}: other programs see every tag");
}

#[test]
fn an_index_that_is_no_file_or_too_large() {
    let sandbox = stocked();
    let (path, tags) = (root(&sandbox).join("index.json"), state(&sandbox));
    File::create(&path).unwrap().set_len(100 << 20).unwrap();
    assert_told!(refused(&sandbox, "registry list").2, @"`[TMP]/home/store/index.json`: the file has 104857600 bytes, at most 67108864 are read");
    repaired(&sandbox, "large");
    fs::remove_file(&path).unwrap();
    Command::new("mkfifo").arg(&path).status().unwrap();
    // Nobody waits for a pipe.
    assert_told!(refused(&sandbox, "registry list").2, @"`[TMP]/home/store/index.json`: is damaged: it is not a regular file");
    repaired(&sandbox, "a pipe");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(refused(&sandbox, "registry list").0, 1);
    repaired(&sandbox, "a folder");
    fs::remove_file(&path).unwrap();
    let (code, kind, _) = refused(&sandbox, "registry list");
    assert_eq!((code, kind.as_str()), (1, "NotFound"));
    repaired(&sandbox, "missing");
    assert_eq!(state(&sandbox), tags);
}

/// A registry is still one when the files that say so are torn.
#[test]
fn a_torn_layout() {
    let sandbox = stocked();
    let tags = state(&sandbox);
    for file in ["oci-layout", "lorakit/format.json"] {
        fs::write(root(&sandbox).join(file), "{").unwrap();
        let run = registry(&sandbox, "list");
        assert_eq!(run.code, Some(1), "{file}: {}", run.stderr);
        assert!(
            run.stderr.contains(file) && run.stderr.contains("`lorakit registry repair`"),
            "{}",
            run.stderr
        );
        let run = registry(&sandbox, "repair").ok();
        assert_eq!(run.stdout, "what says that it is a registry was torn, and was written anew\n", "{file}");
        whole(&sandbox);
    }
    assert_eq!(state(&sandbox), tags);
}

/// What others say of entries stays; of two entries with one tag the first counts, as in other programs.
#[test]
fn entries_that_lorakit_does_not_know() {
    let sandbox = stocked();
    let [first, second] = ["sql:v1", "sql:v2"].map(|tag| state(&sandbox)[tag]);
    let entry = |digest, tag: &str| json!({ "digest": digest, "size": 1, "annotations": { "org.opencontainers.image.ref.name": tag }, "theirs": [1] });
    let path = root(&sandbox).join("index.json");
    edit_json(&path, |index| {
        index["unknown"] = json!({ "a": 1 });
        let list = index["manifests"].as_array_mut().unwrap();
        list.push(entry(first, "twice"));
        list.push(entry(second, "twice"));
        list.push(json!({ "digest": first, "size": 1 }));
        list.push(
            json!({ "digest": "sha512:00", "annotations": { "org.opencontainers.image.ref.name": "odd" } }),
        );
        list.push(json!(["not an entry"]));
    });
    assert_eq!(state(&sandbox)["twice"], first);
    registry(&sandbox, "add attn sql:v3").ok();
    assert_eq!(state(&sandbox)["twice"], first);
    let index: Value = read_json(&path);
    assert_eq!(index["unknown"]["a"], 1);
    let list = index["manifests"].as_array().unwrap();
    let named = |tag: &str| {
        list.iter()
            .filter(|e| e["annotations"]["org.opencontainers.image.ref.name"] == tag)
            .collect::<Vec<_>>()
    };
    assert_eq!((named("twice").len(), &named("twice")[0]["theirs"]), (1, &json!([1])));
    assert_eq!((named("odd").len(), list.len()), (1, 7));
    whole(&sandbox);
}

/// The reflog is cut in the middle of a line, and bytes of it change.
#[test]
fn a_torn_reflog() {
    let sandbox = stocked();
    let (log, tags) = (root(&sandbox).join("lorakit/reflog"), state(&sandbox));
    let lines = fs::read(&log).unwrap();
    for torn in
        [&lines[..lines.len() - 1], &lines[..lines.len() - 40], &lines[..30], b"", b"\xff\xfe\0", b"\n\n\n"]
    {
        fs::write(&log, torn).unwrap();
        assert_eq!(state(&sandbox), tags, "what the index says is not lost");
        registry(&sandbox, "tag sql:v1 sql:v3").ok();
        assert_eq!(state(&sandbox)["sql:v3"], tags["sql:v1"]);
        registry(&sandbox, "untag sql:v3").ok();
        assert_eq!(state(&sandbox), tags);
        whole(&sandbox);
    }
}

/// A tag whose manifest is lost does not keep others from moving, whatever the index says.
#[test]
fn a_lost_manifest_and_a_lost_index() {
    let sandbox = stocked();
    fs::remove_file(super::blob_of(&sandbox, state(&sandbox)["sql:v2"])).unwrap();
    fs::remove_file(root(&sandbox).join("index.json")).unwrap();
    let run = registry(&sandbox, "repair");
    assert_eq!(run.code, Some(1));
    assert_told!(run.stdout, @"
    index.json was written anew
    lost: sha256:[DIGEST] is not there; needed by sql:v2
    ");
    assert_eq!(state(&sandbox).len(), 2, "no tag is forgotten");
    registry(&sandbox, "tag sql:v1 sql:v3").ok();
    registry(&sandbox, "add attn attn:v1").ok();
    registry(&sandbox, "add facts sql:v2").ok();
    whole(&sandbox);
    let index = read_json(&root(&sandbox).join("index.json"));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 4);
}
