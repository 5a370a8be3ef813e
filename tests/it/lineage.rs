//! What an output says about where it came from.

use std::fs;
use std::path::{Path, PathBuf};

use lorakit::lineage::weights;
use lorakit::plan::Silent;
use lorakit_tensor::{Checkpoint, Reader};
use serde_json::{Value, json};

use crate::support::{Sandbox, entries, fixtures, peft, read_json};

/// The record that `inspect --json` shows.
#[track_caller]
fn record(sandbox: &Sandbox, path: &str) -> Value {
    let run = sandbox.run(&format!("inspect --json {path}"), &[]).ok();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    report["reports"][0]["lineage"].clone()
}

/// The part of `inspect` that shows the chain.
#[track_caller]
fn tree(sandbox: &Sandbox, path: &str) -> String {
    let run = sandbox.run(&format!("inspect {path}"), &[]).ok();
    let (_, rest) = run.stdout.split_once("\nlineage\n").expect("there is a chain");
    let tree: Vec<&str> = rest.lines().take_while(|line| !line.is_empty()).collect();
    // Digests are tested elsewhere.
    let masked = tree.iter().map(|line| line.split_once("  sha256:").map_or(*line, |(line, _)| line));
    masked.collect::<Vec<_>>().join("\n").replace(env!("CARGO_PKG_VERSION"), "[VERSION]")
}

fn digest(path: &Path) -> String {
    let checkpoint = Checkpoint::open(path, &Reader::default()).unwrap();
    weights::digest(&checkpoint, &Silent).unwrap()
}

/// The fixtures that can be written to GGUF.
fn inputs(sandbox: &Sandbox) {
    sandbox.copy(&fixtures().join("tiny-orders"), "base");
    sandbox.copy(&fixtures().join("tiny-json-lora"), "json");
    sandbox.copy(&fixtures().join("tiny-upper-lora"), "upper");
}

#[test]
fn a_chain_of_models_survives_its_middle() {
    let sandbox = Sandbox::new();
    inputs(&sandbox);
    let digests = [digest(&sandbox.path("base")), digest(&sandbox.path("json"))];
    sandbox.run("merge base json=0.5 -o merged", &[]).ok();
    let merged = digest(&sandbox.path("merged"));
    sandbox.run("convert merged -o merged.gguf --to gguf", &[]).ok();
    sandbox.run("quantize merged.gguf -o small.gguf --type Q8_0", &[]).ok();
    sandbox.run("convert small.gguf -o again --to hf", &[]).ok();
    for gone in ["base", "json", "merged"] {
        fs::remove_dir_all(sandbox.path(gone)).unwrap();
    }
    fs::remove_file(sandbox.path("merged.gguf")).unwrap();
    let last = record(&sandbox, "again");
    let step = |record: &Value| record["parents"][0]["lineage"].clone();
    let (quantized, converted) = (step(&last), step(&step(&last)));
    let first = step(&converted);
    let verbs = [&last, &quantized, &converted, &first].map(|record| record["verb"].clone());
    assert_eq!(verbs, ["convert", "quantize", "convert", "merge"]);
    assert_eq!(converted["parents"][0]["weights"], json!(merged));
    assert_eq!(converted["parents"][0]["name"], "merged");
    let roles = [0, 1].map(|i| first["parents"][i]["role"].clone());
    assert_eq!(roles, ["base", "adapter"]);
    assert_eq!([0, 1].map(|i| first["parents"][i]["weights"].clone()), digests.map(Value::from));
    assert_eq!(first["parents"][1]["weight"], 0.5);
    // In the header of the file, and in the file next to it.
    assert_eq!(record(&sandbox, "again/model.safetensors"), last);
    let mut page = read_json(&sandbox.path("again/lorakit.json"));
    assert!(page["files"].as_array().unwrap().contains(&json!("model.safetensors")), "{page}");
    page.as_object_mut().unwrap().shift_remove("files");
    assert_eq!(page, last);
    let lines = [
        "  quantize  type=Q8_0  (lorakit [VERSION])",
        "    model `merged.gguf`",
        "      convert  to=gguf, dtype=BF16  (lorakit [VERSION])",
        "        model `merged`",
        "          merge  rounding=once, tied=untie  (lorakit [VERSION])",
        "            base `base`",
        "            adapter 0.5 x `json`",
    ];
    assert_eq!(tree(&sandbox, "small.gguf").lines().collect::<Vec<_>>(), lines);
}

#[test]
fn a_chain_of_adapters() {
    let sandbox = Sandbox::new();
    for name in ["plain", "all-r8-second"] {
        sandbox.copy(&peft(&format!("adapters/{name}")), name);
    }
    sandbox
        .run("combine plain=0.7 all-r8-second=0.3 -o both --method dare_linear --density 0.5 --seed 7", &[])
        .ok();
    sandbox.run("reduce both -o small --rank 2", &[]).ok();
    sandbox.run("convert small -o mlx --to mlx", &[]).ok();
    fs::remove_dir_all(sandbox.path("both")).unwrap();
    let last = record(&sandbox, "mlx");
    let combined = &last["parents"][0]["lineage"]["parents"][0]["lineage"];
    assert_eq!((&combined["verb"], &combined["options"]["seed"]), (&json!("combine"), &json!(7)));
    assert_eq!(combined["parents"][1]["weight"], 0.3);
    assert_eq!(combined["parents"][0]["sha256"].as_array().unwrap().len(), 1);
    assert_eq!(combined["parents"][0]["base_model"], "llama-bf16");
    let lines = [
        "  convert  to=mlx  (lorakit [VERSION])",
        "    adapter `small`",
        "      reduce  rank=2, to=peft  (lorakit [VERSION])",
        "        adapter `both`",
        "          combine  method=dare_linear, density=0.5, seed=7, to=peft  (lorakit [VERSION])",
        "            adapter 0.7 x `plain`",
        "            adapter 0.3 x `all-r8-second`",
    ];
    assert_eq!(tree(&sandbox, "mlx").lines().collect::<Vec<_>>(), lines);
}

#[test]
fn an_extracted_adapter_names_both_models() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (peft("bases/llama-bf16"), peft("adapters/plain"));
    let tuned = sandbox.merge(&base, &adapter, "tuned", "");
    sandbox.run("extract -o out --rank 4", &[&base, &tuned]).ok();
    let record = record(&sandbox, "out");
    assert_eq!((&record["verb"], &record["options"]["rank"]), (&json!("extract"), &json!(4)));
    let roles = [0, 1].map(|i| record["parents"][i]["role"].clone());
    assert_eq!(roles, ["base", "tuned"]);
    assert_eq!([0, 1].map(|i| record["parents"][i]["weights"].clone()), [digest(&base), digest(&tuned)]);
    assert_eq!(record["parents"][1]["lineage"]["verb"], "merge");
}

#[test]
fn a_plain_conversion_is_recorded_where_it_is_asked_for() {
    let sandbox = Sandbox::new();
    inputs(&sandbox);
    let run = |line: &str| sandbox.run(line, &[]).ok();
    run("convert base -o auto.gguf --to gguf");
    run("convert base -o never.gguf --to gguf --lineage never");
    run("convert base -o always.gguf --to gguf --lineage always");
    let bytes = |name: &str| fs::read(sandbox.path(name)).unwrap();
    assert!(bytes("auto.gguf") == bytes("never.gguf"), "`auto` writes no record");
    assert_eq!(record(&sandbox, "auto.gguf"), Value::Null);
    assert_eq!(
        record(&sandbox, "always.gguf")["parents"][0]["weights"],
        json!(digest(&sandbox.path("base")))
    );
    run("quantize base -o auto-q.gguf --type Q8_0");
    run("quantize base -o never-q.gguf --type Q8_0 --lineage never");
    assert!(bytes("auto-q.gguf") == bytes("never-q.gguf"), "`auto` writes no record");
    // Facts that are not true of the output do not stay in it.
    run("quantize always.gguf -o without.gguf --type Q8_0 --lineage never");
    assert!(bytes("without.gguf") == bytes("auto-q.gguf"), "the record of the input is left out");
    run("merge base json -o merged --lineage never");
    assert_eq!(record(&sandbox, "merged"), Value::Null);
    assert!(!entries(&sandbox.path("merged")).contains(&"lorakit.json".to_string()));
}

#[test]
fn shards_have_one_digest_and_one_page() {
    let sandbox = Sandbox::new();
    let (base, adapter) = (peft("bases/llama-bf16"), peft("adapters/plain"));
    assert_eq!(digest(&base), digest(&peft("bases/llama-bf16-sharded")));
    let whole = sandbox.merge(&base, &adapter, "whole", "");
    let shards = sandbox.merge(&base, &adapter, "shards", "--max-shard-size 20KB");
    assert!(entries(&shards).len() > entries(&whole).len());
    assert_eq!(digest(&whole), digest(&shards));
    let (one, many) = (record(&sandbox, "whole"), record(&sandbox, "shards"));
    assert_eq!(one["parents"], many["parents"]);
    assert_eq!(many["parents"][0]["weights"], json!(digest(&base)));
    assert_eq!(many["options"]["max_shard"], 20_000);
    // A single shard knows everything but the digest of the base.
    let shard = entries(&shards).into_iter().find(|name| name.ends_with(".safetensors")).unwrap();
    fs::copy(shards.join(shard), sandbox.path("shard.safetensors")).unwrap();
    let part = record(&sandbox, "shard.safetensors");
    assert_eq!(part["parents"][0].get("weights"), None);
    assert_eq!(part["parents"][1], many["parents"][1]);
}

#[test]
fn where_things_lie_is_not_in_them() {
    let sandbox = Sandbox::new();
    let outputs: Vec<Vec<(String, Vec<u8>)>> = ["here", "there/and/far"]
        .iter()
        .enumerate()
        .map(|(i, place)| {
            fs::create_dir_all(sandbox.path(place)).unwrap();
            let base = sandbox.copy(&peft("bases/llama-bf16"), &format!("{place}/base"));
            let adapter = sandbox.copy(&peft("adapters/plain"), &format!("{place}/adapter"));
            let options = ["", "-t 3 --no-mmap"][i];
            let out = sandbox.merge(&base, &adapter, &format!("{place}/out-{i}"), options);
            let file = |name: String| (name.clone(), fs::read(out.join(name)).unwrap());
            entries(&out).into_iter().map(file).collect()
        })
        .collect();
    assert!(outputs[0] == outputs[1], "the same bytes");
    // A folder named as the current one still has a name.
    let run = sandbox
        .command()
        .current_dir(sandbox.path("here/base"))
        .args(["merge", ".", "../adapter", "-o", "../dot"])
        .output();
    assert!(run.unwrap().status.success());
    assert_eq!(record(&sandbox, "here/dot"), record(&sandbox, "here/out-0"));
}

/// The record of an adapter whose header holds `text`.
#[track_caller]
fn with_header(text: &str) -> (Sandbox, Value, String) {
    let sandbox = Sandbox::new();
    let adapter = sandbox.copy(&peft("adapters/plain"), "adapter");
    rewrite(&adapter.join("adapter_model.safetensors"), text);
    let run = sandbox.run("reduce adapter -o out --rank 2", &[]).ok();
    let record = record(&sandbox, "out");
    (sandbox, record, run.stderr)
}

/// Puts an entry into the header of a safetensors file.
fn rewrite(path: &PathBuf, text: &str) {
    let bytes = fs::read(path).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    header["__metadata__"]["lorakit.lineage"] = text.into();
    let header = header.to_string().into_bytes();
    let new = [&(header.len() as u64).to_le_bytes()[..], &header, &bytes[8 + len..]].concat();
    fs::write(path, new).unwrap();
}

#[test]
fn a_record_that_is_no_use_is_left_out() {
    for text in ["{", r#"{"version":1}"#, &"[".repeat(100_000), r#"{"version":1,"version":1}"#] {
        let (_sandbox, record, said) = with_header(text);
        assert_eq!(record["parents"][0].get("lineage"), None, "{record}");
        assert!(said.contains("its record of where the tensors came from is left out"), "{said}");
    }
}

/// A GGUF file is not refused for it either, whatever its bytes are.
#[test]
fn a_record_that_is_not_text_is_left_out() {
    let sandbox = Sandbox::new();
    inputs(&sandbox);
    sandbox.run("convert base -o model.gguf --to gguf --lineage always", &[]).ok();
    let path = sandbox.path("model.gguf");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(9).position(|window| window == b"{\"version").unwrap();
    bytes[at + 1] = 0xff;
    fs::write(&path, bytes).unwrap();
    let run = sandbox.run("quantize model.gguf -o small.gguf --type Q8_0", &[]).ok();
    let note = "its record of where the tensors came from is left out: it is not UTF-8 text";
    assert!(run.stderr.contains(note), "{}", run.stderr);
    assert_eq!(record(&sandbox, "model.gguf"), Value::Null);
    // A small file without the record, and so byte for byte what it is made of the model without one.
    sandbox.run("convert base -o plain.gguf --to gguf", &[]).ok();
    sandbox.run("quantize plain.gguf -o expected.gguf --type Q8_0", &[]).ok();
    let [small, expected] = ["small.gguf", "expected.gguf"].map(|name| fs::read(sandbox.path(name)).unwrap());
    assert!(small == expected);
}

#[test]
fn a_record_of_a_newer_version_is_kept_as_it_is() {
    let text = r#"{"version":2,"what":["is","not","known"],"a":1.50}"#;
    let (sandbox, record, said) = with_header(text);
    assert_eq!(record["parents"][0]["lineage"], serde_json::from_str::<Value>(text).unwrap());
    assert!(!said.contains("record"), "{said}");
    assert!(tree(&sandbox, "out").ends_with("a record of version 2 (shown with `--json`)"));
}

/// The page names the files that `--force` may replace; any others stay.
#[test]
fn what_the_page_names_is_replaced() {
    let sandbox = Sandbox::new();
    let base = sandbox.copy(&peft("bases/llama-bf16"), "base");
    fs::write(base.join("NOTICE.txt"), "a notice").unwrap();
    let merge =
        |options: &str| sandbox.run(&format!("merge base -o out {options}"), &[&peft("adapters/plain")]);
    merge("").ok();
    fs::remove_file(base.join("NOTICE.txt")).unwrap();
    merge("--force").ok();
    assert!(!sandbox.path("out/NOTICE.txt").exists());
    fs::write(sandbox.path("out/thesis.txt"), "mine").unwrap();
    assert_eq!(merge("--force").code, Some(2));
    assert!(sandbox.path("out/thesis.txt").exists());
}
