//! What is found under folders, however they are linked.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::*;
use crate::plan::Silent;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/peft").join(name)
}

/// Copies the files of an adapter or a model.
fn copy(name: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap().map(|entry| entry.unwrap().path()) {
        fs::copy(&entry, to.join(entry.file_name().unwrap())).unwrap();
    }
}

fn listed(root: &Path, options: &AuditOptions) -> Vec<String> {
    let report = audit(&[root.to_path_buf()], options, &Silent).unwrap();
    let shown = |entry: &Entry| {
        let mut text = entry.path.display().to_string();
        for also in &entry.also {
            text += &format!(" = {}", also.display());
        }
        text
    };
    report.entries.iter().map(shown).collect()
}

#[test]
fn links_and_loops_lead_nowhere_twice() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    copy("adapters/plain", &root.join("v2"));
    copy("adapters/attn-r4", &root.join("v2/checkpoint-500"));
    symlink("v2", root.join("latest")).unwrap();
    symlink("..", root.join("v2/up")).unwrap();
    symlink("..", root.join("above")).unwrap();
    symlink(root, root.join("v2/checkpoint-500/top")).unwrap();
    symlink("self", root.join("self")).unwrap();
    assert_eq!(listed(root, &AuditOptions::new()), ["v2", "v2/checkpoint-500"]);
    // What is outside is followed, once.
    let outside = tempfile::tempdir().unwrap();
    copy("adapters/dora", &outside.path().join("a"));
    symlink(outside.path(), root.join("one")).unwrap();
    symlink(outside.path(), root.join("two")).unwrap();
    symlink(root, outside.path().join("back")).unwrap();
    assert_eq!(listed(root, &AuditOptions::new()), ["one/a", "v2", "v2/checkpoint-500"]);
}

#[test]
fn the_same_files_are_one_entry() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    copy("adapters/plain", &root.join("b"));
    for (name, make) in
        [("a", symlink as fn(PathBuf, PathBuf) -> _), ("c", |from, to| fs::hard_link(from, to))]
    {
        fs::create_dir(root.join(name)).unwrap();
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            make(root.join("b").join(file), root.join(name).join(file)).unwrap();
        }
    }
    // The path without links is the one that is listed.
    assert_eq!(listed(root, &AuditOptions::new()), ["b = a = c"]);
    // Another configuration is another adapter.
    fs::remove_file(root.join("a/adapter_config.json")).unwrap();
    fs::copy(root.join("b/adapter_config.json"), root.join("a/adapter_config.json")).unwrap();
    assert_eq!(listed(root, &AuditOptions::new()), ["a", "b = c"]);
}

#[test]
fn a_cache_of_the_hub_is_listed_by_its_repositories() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let repository = root.join("models--owner--style-lora");
    let revision = "0123456789abcdef0123456789abcdef01234567";
    copy("adapters/plain", &repository.join("blobs"));
    let snapshot = repository.join("snapshots").join(revision);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), revision).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        symlink(format!("../../blobs/{file}"), snapshot.join(file)).unwrap();
    }
    let report = audit(&[root.to_path_buf()], &AuditOptions::new(), &Silent).unwrap();
    assert_eq!(report.entries.len(), 1, "blobs are not listed");
    let hub = report.entries[0].hub.as_ref().unwrap();
    assert_eq!((hub.id.as_str(), hub.revision.as_str()), ("owner/style-lora", revision));
    assert_eq!(hub.short(), "owner/style-lora@0123456");
    let by_id = AuditOptions::new().with_filters(vec![Filter::parse("path=owner/*").unwrap()]);
    assert_eq!(listed(root, &by_id).len(), 1);
}

#[test]
fn hidden_folders_are_counted_and_searched_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    copy("adapters/plain", &root.join(".trash/old"));
    let report = audit(&[root.to_path_buf()], &AuditOptions::new(), &Silent).unwrap();
    assert_eq!((report.counts.found, report.counts.hidden_folders), (0, 1));
    assert_eq!(listed(root, &AuditOptions::new().with_hidden(true)), [".trash/old"]);
    // A hidden folder that is named is no secret.
    assert_eq!(listed(&root.join(".trash"), &AuditOptions::new()), ["old"]);
}

#[test]
fn a_single_file_and_a_folder_that_is_an_adapter() {
    let folder = tempfile::tempdir().unwrap();
    copy("adapters/plain", folder.path());
    assert_eq!(listed(folder.path(), &AuditOptions::new()), ["."]);
    let file = folder.path().join("adapter_model.safetensors");
    let report = audit(std::slice::from_ref(&file), &AuditOptions::new(), &Silent).unwrap();
    assert_eq!(report.entries[0].place(), file);
}

#[test]
fn the_card_states_the_licence() {
    let folder = tempfile::tempdir().unwrap();
    copy("adapters/plain", folder.path());
    let licenses = |card: &str| {
        fs::write(folder.path().join("README.md"), card).unwrap();
        let mut report = audit(&[folder.path().to_path_buf()], &AuditOptions::new(), &Silent).unwrap();
        report.entries.remove(0).licenses
    };
    assert_eq!(licenses("---\nlicense: apache-2.0\n---\n"), ["apache-2.0"]);
    assert_eq!(licenses("---\nlicense: [mit, bsd]\n---\n"), ["mit", "bsd"]);
    assert_eq!(licenses("---\nlicense: other\nlicense_name: acme-1\n---\n"), ["acme-1"]);
    assert_eq!(licenses("# Nothing\n"), [""; 0]);
}

#[test]
fn filters_mean_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    copy("adapters/plain", &root.join("plain"));
    copy("adapters/attn-r4", &root.join("attn"));
    copy("bases/llama-bf16", &root.join("model"));
    fs::create_dir(root.join("broken")).unwrap();
    fs::write(root.join("broken/adapter_config.json"), "{").unwrap();
    for (filters, expected) in [
        ("", "attn broken model plain"),
        ("kind=adapter", "attn broken plain"),
        ("kind!=adapter", "model"),
        ("format=safetensors", "model"),
        ("path=*a*n*", "attn plain"),
        ("rank=4", "attn"),
        ("rank=5..", "plain"),
        ("rank=..64 rank!=4", "plain"),
        ("size=100KB..", "model plain"),
        ("findings=error", "broken"),
        ("findings=unreadable", "broken"),
        ("findings!=unreadable kind=adapter", "attn plain"),
        ("findings=none kind=model", "model"),
        ("base!=*", "broken model"),
        ("licence=mit", ""),
    ] {
        let parsed =
            filters.split(' ').filter(|text| !text.is_empty()).map(|text| Filter::parse(text).unwrap());
        let options = AuditOptions::new().with_filters(parsed.collect());
        assert_eq!(listed(root, &options).join(" "), expected, "{filters}");
    }
}

#[test]
fn filters_that_are_none() {
    let texts =
        ["peft", "colour=red", "rank=high", "rank=9..8", "size=5XB", "findings=fatal", "base=", "base=a["];
    let told = texts.map(|text| format!("{text}\n    {}", Filter::parse(text).unwrap_err()));
    insta::assert_snapshot!(told.join("\n"), @"
    peft
        `peft` must be KEY=VALUE or KEY!=VALUE, such as `format=peft`
    colour=red
        `colour` is not a key; the keys are path, kind, format, base, license, rank, size, findings
    rank=high
        `rank=high` is not a condition: ranks look like 16, 8..32 or 16..
    rank=9..8
        `rank=9..8` is not a condition: there is nothing between these bounds
    size=5XB
        `size=5XB` is not a condition: unknown unit `XB`; sizes look like 5GB, 500MB or 2GiB
    findings=fatal
        `findings=fatal` is not a condition: `fatal` is not the name of a finding; the nearest is `unreadable`
    base=
        `base=` is not a condition: `` is empty; `*` stands for any text
    base=a[
        `base=a[` is not a condition: `a[` is not a pattern: invalid range pattern
    ");
}

#[test]
fn orders() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    copy("adapters/attn-r4", &root.join("checkpoint-500"));
    copy("adapters/plain", &root.join("checkpoint-1000"));
    fs::create_dir(root.join("broken")).unwrap();
    fs::write(root.join("broken/adapter_config.json"), "{").unwrap();
    let by = |sort| listed(root, &AuditOptions::new().with_sort(sort)).join(" ");
    assert_eq!(by(Sort::Path), "broken checkpoint-500 checkpoint-1000");
    assert_eq!(by(Sort::Size), "checkpoint-1000 checkpoint-500 broken");
    assert_eq!(by(Sort::Rank), "checkpoint-1000 checkpoint-500 broken");
    assert_eq!(by(Sort::Findings).split(' ').next(), Some("broken"));
}
