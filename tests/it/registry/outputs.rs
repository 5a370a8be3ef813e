//! Outputs named `registry:NAME:TAG`.

use std::fs;

use super::{assert_told, desk, json, refused, registry, root, run, state, stocked, whole};
use crate::support::{entries, files, fixtures};

#[test]
fn folders_become_artifacts() {
    let sandbox = stocked();
    let merged = run(&sandbox, "merge base sql:v1 -o registry:merged:v1").ok();
    assert!(merged.stdout.contains("wrote `registry:merged:v1`"), "{}", merged.stdout);
    assert!(
        !merged.stdout.contains("home") && !merged.stderr.contains("home"),
        "{}{}",
        merged.stdout,
        merged.stderr
    );
    run(&sandbox, "reduce sql:v2 --rank 2 -o registry:sql:small").ok();
    run(&sandbox, "combine sql:v1 sql:v2 --method svd -o registry:team/both:v1").ok();
    run(&sandbox, "extract base merged:v1 --rank 4 -o registry:again:v1").ok();
    let kinds = |name: &str| json(&sandbox, &format!("show {name}"))["artifact"]["kind"].clone();
    assert_eq!([kinds("merged:v1"), kinds("sql:small")], ["merged", "adapter"]);
    assert_eq!(json(&sandbox, "show again:v1")["artifact"]["op"], "extract");
    assert_eq!(entries(sandbox.root()), ["attn", "base", "facts", "home", "style"], "nothing else appears");
    assert_eq!(entries(&root(&sandbox).join("lorakit/ingest")), [""; 0], "and nothing is left");
    // The same as what the verb writes elsewhere.
    run(&sandbox, "merge base sql:v1 -o merged").ok();
    registry(&sandbox, "export merged:v1 exported").ok();
    let relative = |folder: &str| {
        let root = sandbox.path(folder);
        files(&root)
            .into_iter()
            .map(|(path, bytes)| (path.strip_prefix(&root).unwrap().to_path_buf(), bytes))
            .collect::<Vec<_>>()
    };
    assert!(relative("merged") == relative("exported"));
    whole(&sandbox);
}

#[test]
fn files_become_artifacts() {
    let sandbox = stocked();
    sandbox.copy(&fixtures().join("tiny-orders"), "tiny");
    run(&sandbox, "convert tiny -o registry:tiny:gguf --to gguf").ok();
    run(&sandbox, "quantize tiny:gguf -o registry:tiny:q8 --type Q8_0").ok();
    run(&sandbox, "convert sql:v1 -o registry:sql:gguf --to gguf --base base").ok();
    let file = |name: &str| json(&sandbox, &format!("show {name}"))["artifact"]["files"].clone();
    assert_eq!([&file("tiny:gguf")[0]["path"], &file("tiny:q8")[0]["path"]], ["tiny.gguf", "tiny.gguf"]);
    assert_eq!(
        (file("sql:gguf").as_array().unwrap().len(), &file("sql:gguf")[0]["path"]),
        (1, &"sql.gguf".into())
    );
    run(&sandbox, "inspect tiny:q8").ok();
    whole(&sandbox);
}

#[test]
fn a_tag_that_is_taken() {
    let sandbox = stocked();
    let before = state(&sandbox);
    let (code, kind, message) = refused(&sandbox, "reduce sql:v2 --rank 2 -o registry:sql:v1");
    assert_eq!((code, kind.as_str()), (2, "Usage"));
    assert_told!(message, @"`sql:v1` points to [SHORT] already");
    run(&sandbox, "reduce sql:v2 --rank 2 -o registry:sql:v1 --force").ok();
    assert_ne!(state(&sandbox)["sql:v1"], before["sql:v1"]);
    assert_eq!(json(&sandbox, "show sql:v1@{1}")["artifact"]["digest"], before["sql:v1"].to_string());
    for (output, part) in [
        ("registry:sql", "is not a name with a tag"),
        ("registry:SQL:v1", "is not a name with a tag"),
        ("registry:../x:v1", "is not a name with a tag"),
        ("registry:sql:v1@{1}", "is not a name with a tag"),
        ("registry:", "is not a name with a tag"),
    ] {
        let (code, kind, message) = refused(&sandbox, &format!("reduce sql:v2 --rank 2 -o {output}"));
        assert_eq!((code, kind.as_str()), (2, "Usage"), "{output}");
        assert!(message.contains(part), "{output}: {message}");
    }
}

#[test]
fn a_dry_run_leaves_nothing() {
    let sandbox = desk();
    let told = run(&sandbox, "merge base style -o registry:merged:v1 --dry-run").ok();
    assert_eq!(told.stdout.lines().next(), Some("would write `registry:merged:v1`"));
    run(&sandbox, "convert style -o registry:gguf:v1 --to gguf --base base --dry-run").ok();
    assert_eq!(entries(sandbox.root()), ["attn", "base", "facts", "style"], "not even a registry");
    registry(&sandbox, "add style sql:v1").ok();
    let before = files(&root(&sandbox));
    run(&sandbox, "merge base style -o registry:merged:v1 --dry-run").ok();
    refused(&sandbox, "merge base style -o registry:sql:v1 --dry-run");
    assert!(files(&root(&sandbox)) == before);
}

/// What fails half-way leaves nothing behind either.
#[test]
fn a_run_that_fails() {
    let sandbox = stocked();
    sandbox.copy(&fixtures().join("tiny-orders"), "other");
    refused(&sandbox, "merge other sql:v1 -o registry:merged:v1");
    assert_eq!(entries(&root(&sandbox).join("lorakit/ingest")), [""; 0]);
    fs::write(sandbox.path("style/adapter_model.safetensors"), "").unwrap();
    refused(&sandbox, "reduce style --rank 2 -o registry:sql:small");
    assert_eq!(entries(&root(&sandbox).join("lorakit/ingest")), [""; 0]);
    whole(&sandbox);
}
