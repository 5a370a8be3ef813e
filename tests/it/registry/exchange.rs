//! What goes out and comes in: exports, other layouts, evaluations.

use std::fs;

use serde_json::{Value, json};

use super::{assert_told, blob, desk, json, overwrite, refused, registry, root, run, state, stocked, whole};
use crate::support::{edit_json, entries, files, fixtures, read_json};

#[test]
fn an_export_is_what_was_added() {
    let sandbox = stocked();
    assert_told!(registry(&sandbox, "export sql:v1 out").ok().stdout, @"exported 2 files of `sql:v1` to `out`");
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let [one, other] = ["style", "out"].map(|folder| fs::read(sandbox.path(folder).join(name)).unwrap());
        assert!(one == other, "{name}");
    }
    // Whoever changes an export changes no blob.
    fs::write(sandbox.path("out/adapter_config.json"), "{}").unwrap();
    whole(&sandbox);
    let (code, kind, _) = refused(&sandbox, "registry export sql:v1 out");
    assert_eq!((code, kind.as_str()), (2, "Exists"));
    registry(&sandbox, "export sql:v1 out --force").ok();
    assert!(read_json(&sandbox.path("out/adapter_config.json"))["r"] == 8);
}

#[test]
fn exports_for_servers() {
    let sandbox = stocked();
    assert_told!(registry(&sandbox, "export sql:v1 serving --for vllm --served-as smol").ok().stdout, @"
    exported 2 files of `sql:v1` to `serving/sql/v1`
    `adapter_config.json` names the base `smol` there

      vllm serve smol --enable-lora --max-lora-rank 8 --lora-modules sql=serving/sql/v1
    ");
    assert_told!(registry(&sandbox, "export sql:v2 serving --for sglang").ok().stdout, @"
    exported 2 files of `sql:v2` to `serving/sql/v2`

      python -m sglang.launch_server --model-path llama-bf16 --enable-lora --lora-paths sql=serving/sql/v2
    ");
    assert_told!(registry(&sandbox, "export sql:v1@{0} serving --for peft").ok().stdout, @"
    exported 2 files of `sql:v1@{0}` to `serving/sql/[SHORT]`

      python -c 'from peft import AutoPeftModelForCausalLM as M; M.from_pretrained(\"serving/sql/[SHORT]\")'
    ");
    assert_eq!(
        read_json(&sandbox.path("serving/sql/v1/adapter_config.json"))["base_model_name_or_path"],
        "smol"
    );
    assert_eq!(
        read_json(&sandbox.path("serving/sql/v2/adapter_config.json"))["base_model_name_or_path"],
        "llama-bf16"
    );
    let no_links = files(&sandbox.path("serving")).into_keys().count();
    assert_eq!(no_links, 6, "real files in real folders");
    assert_told!(refused(&sandbox, "registry export sql:v1 serving --for llama.cpp").2, @"`sql` is in the format peft; llama.cpp loads gguf");
    sandbox.copy(&fixtures().join("tiny-orders"), "tiny");
    run(&sandbox, "convert tiny -o registry:tiny:gguf --to gguf").ok();
    assert_told!(registry(&sandbox, "export tiny:gguf serving --for llama.cpp").ok().stdout, @"
    exported 1 file of `tiny:gguf` to `serving/tiny/gguf`

      llama-server -m serving/tiny/gguf/tiny.gguf
    ");
    whole(&sandbox);
}

#[test]
fn evaluations() {
    let sandbox = stocked();
    assert_told!(registry(&sandbox, "eval add sql:v1 --metric exact=0.95 --metric loss=1.25").ok().stdout, @"
    `sql:v1` has the evaluation `sql:v1-eval-1`

      figure  value
      exact    0.95
      loss     1.25
    ");
    fs::write(sandbox.path("report.json"), r#"{"exact":0.5,"by":{"kind":{"rows":12}},"text":"x"}"#).unwrap();
    let added = json(&sandbox, "eval add sql:v1 --report report.json");
    assert_eq!(added["tag"], "sql:v1-eval-2");
    assert_eq!(added["metrics"], json!({ "by.kind.rows": 12.0, "exact": 0.5 }));
    // The same figures again are the same evaluation.
    assert_eq!(
        json(&sandbox, "eval add sql:v1 --metric exact=0.95 --metric loss=1.25")["tag"],
        "sql:v1-eval-1"
    );
    let shown = json(&sandbox, "show sql:v1");
    assert_eq!(shown["attached"].as_array().unwrap().len(), 2, "{shown}");
    assert_eq!(json(&sandbox, "list sql:v1")["entries"][0]["metrics"]["by.kind.rows"], 12.0);
    assert_eq!(json(&sandbox, "list sql:v2")["entries"][0].get("metrics"), Some(&serde_json::json!({})));
    for (report, part) in
        [("[1, 2", "is not JSON"), ("{}", "it has no figures"), (r#"["a"]"#, "it has no figures")]
    {
        fs::write(sandbox.path("report.json"), report).unwrap();
        let (code, kind, message) = refused(&sandbox, "registry eval add sql:v1 --report report.json");
        assert_eq!((code, kind.as_str()), (1, "Corrupt"));
        assert!(message.contains(part), "{message}");
    }
    whole(&sandbox);
}

/// A store is a layout of others, and theirs is one of ours.
#[test]
fn artifacts_of_another_layout() {
    let (there, here) = (stocked(), desk());
    registry(&there, "eval add sql:v1 --metric exact=0.5").ok();
    let before = files(&root(&there));
    let layout = root(&there).display().to_string();
    let imported = registry(&here, &format!("import {layout} sql:v1")).ok();
    assert_told!(imported.stdout, @"
    `sql:v1` is [SHORT] (2 files, 123 kB)
    with `sql:v1-eval-1`
    ");
    registry(&here, &format!("import {layout} sql:v2 other/name:latest")).ok();
    assert_eq!(state(&here)["sql:v1"], state(&there)["sql:v1"], "the same digest");
    assert_eq!(state(&here)["sql:v1-eval-1"], state(&there)["sql:v1-eval-1"]);
    assert_eq!(state(&here)["other/name:latest"], state(&there)["sql:v2"]);
    assert!(files(&root(&there)) == before, "the layout is only read");
    whole(&here);
    let (code, kind, message) = refused(&here, &format!("registry import {layout} sql:v9"));
    assert_eq!((code, kind.as_str()), (1, "NotFound"));
    assert!(
        message.contains("the layout has no `sql:v9`; it has sql:v1, sql:v1-eval-1, sql:v2"),
        "{message}"
    );
    let (_, kind, _) = refused(&here, &format!("registry import {layout} sql:v2 sql:v1"));
    assert_eq!(kind, "Moved");
    let (_, kind, _) = refused(&here, &format!("registry import {layout} sql:v1-eval-1 sql:eval"));
    assert_eq!(kind, "Unsupported");
    // An evaluation that is here already keeps its tag, and so does the one that comes.
    registry(&here, "untag sql:v1-eval-1").ok();
    registry(&here, "eval add sql:v1 --metric exact=0.75").ok();
    registry(&here, &format!("import {layout} sql:v1")).ok();
    let exact = |tag: &str| {
        let attached = json(&here, "show sql:v1")["attached"].as_array().unwrap().clone();
        attached.iter().find(|one| one["tag"] == tag).unwrap()["metrics"]["exact"].clone()
    };
    assert_eq!([exact("sql:v1-eval-1"), exact("sql:v1-eval-2")], [0.75, 0.5]);
}

#[test]
fn layouts_that_lie() {
    let (there, here) = (stocked(), desk());
    let layout = root(&there).display().to_string();
    let weights = blob(&there, "sql:v1", "adapter_model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    let mut flipped = bytes.clone();
    flipped[50_000] ^= 1;
    overwrite(&weights, &flipped);
    let (code, kind, message) = refused(&here, &format!("registry import {layout} sql:v1"));
    assert_eq!((code, kind.as_str()), (1, "Corrupt"));
    assert!(message.contains("the bytes that came are"), "{message}");
    assert!(weights.exists(), "nothing is moved in a layout that is only read");
    fs::remove_file(&weights).unwrap();
    assert_eq!(refused(&here, &format!("registry import {layout} sql:v1")).1, "Incomplete");
    // What is called by its digest and says other weights than it has.
    let manifest = state(&there)["sql:v2"];
    let path = super::blob_of(&there, manifest);
    let mut content: Value = read_json(&path);
    content["annotations"]["dev.lorakit.weights.digest"] = format!("sha256:{}", "0".repeat(64)).into();
    retag(&there, &content, "sql:lie");
    let (code, kind, message) = refused(&here, &format!("registry import {layout} sql:lie"));
    assert_eq!((code, kind.as_str()), (1, "Corrupt"));
    assert!(message.contains("the weights of `sql:lie` are"), "{message}");
    // A layer without a place is needed like any other.
    let mut content: Value = read_json(&path);
    content["layers"][0].as_object_mut().unwrap().shift_remove("annotations");
    content["annotations"].as_object_mut().unwrap().shift_remove("dev.lorakit.weights.digest");
    let file = content["layers"][1].clone();
    content["layers"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "mediaType": "x/y", "digest": file["digest"], "size": 5 }));
    retag(&there, &content, "sql:size");
    let message = refused(&here, &format!("registry import {layout} sql:size")).2;
    assert!(message.contains("cannot") || message.contains("adapter_config"), "{message}");
    assert_eq!(state(&here).len(), 0);
}

/// Writes a manifest into a store as another program does, without its locks.
fn retag(sandbox: &crate::support::Sandbox, manifest: &Value, tag: &str) {
    let text = manifest.to_string();
    let digest = lorakit_registry::Digest::of(text.as_bytes());
    fs::write(super::blob_of(sandbox, digest), &text).unwrap();
    edit_json(&root(sandbox).join("index.json"), |index| {
        index["manifests"].as_array_mut().unwrap().push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": text.len(),
            "annotations": { "org.opencontainers.image.ref.name": tag },
        }));
    });
}

/// Tags of other programs stay, are listed apart, and are remembered from then on.
#[test]
fn other_programs_write_too() {
    let sandbox = stocked();
    let manifest = read_json(&super::blob_of(&sandbox, state(&sandbox)["sql:v1"]));
    retag(&sandbox, &manifest, "theirs");
    let mut image = manifest.clone();
    image.as_object_mut().unwrap().shift_remove("annotations");
    image["artifactType"] = "application/vnd.example".into();
    retag(&sandbox, &image, "an-image");
    let old = fs::read(root(&sandbox).join("index.json")).unwrap();
    registry(&sandbox, "add attn sql:v3").ok();
    // A program that read the index before writes it back.
    fs::write(root(&sandbox).join("index.json"), old).unwrap();
    assert_eq!(
        state(&sandbox).into_keys().collect::<Vec<_>>(),
        ["an-image", "sql:v1", "sql:v2", "sql:v3", "theirs"]
    );
    let listed = json(&sandbox, "list");
    assert_eq!(listed["others"][0]["tag"], "an-image");
    assert_eq!(listed["entries"].as_array().unwrap().len(), 4);
    registry(&sandbox, "tag sql:v1 sql:v4").ok();
    let index = read_json(&root(&sandbox).join("index.json"));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 6, "the index says all of it again");
    whole(&sandbox);
    assert_eq!(entries(&root(&sandbox).join("lorakit/quarantine")), [""; 0]);
}
