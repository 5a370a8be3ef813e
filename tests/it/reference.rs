//! `docs/reference/json.md` against what the commands print: every field is in the document, and the other way round.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use safetensors::tensor::Dtype;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::{Run, Sandbox, edit_json, fixtures, peft};
use crate::weights::{Tensor, write_file};

/// The section about stderr; the others are schemas, or shared by schemas.
const ERRORS: &str = "errors";

/// Commands that together print every field there is.
const COMMANDS: &[&str] = &[
    "inspect base",
    "inspect tiny nothing plain",
    "inspect nothing",
    "inspect tokens saved --norms",
    "inspect plain --spectrum --base base --for vllm --html page.html",
    "inspect dora --for llama.cpp",
    "inspect deltas.safetensors",
    "inspect plain base --policy policy.toml",
    "inspect --recursive hub base plain --spectrum --fail-on warning --html listing.html",
    "merge base plain rslora=0.5 -o merged",
    "merge merged plain=-1 -o undone --skip mlp",
    "merge merged plain=-1 rslora=-0.5 -o undone-all",
    "merge base plain -o merged --dry-run",
    "merge base plain -o merged --force",
    "merge base plain -o merged --force --dry-run",
    "merge tiny tiny-lora -o merged.gguf --quantize Q8_0",
    "merge tiny tiny-lora -o merged-dry.gguf --quantize Q8_0 --dry-run",
    "merge base -o never nothing",
    "quantize tiny -o quantised.gguf --type Q4_K_M",
    "quantize tiny -o quantised-dry.gguf --type Q4_K_M --dry-run",
    "quantize --list",
    "convert tiny -o tiny.gguf --to gguf",
    "convert tiny.gguf -o back --to hf",
    "convert tiny.gguf -o back-dry --to hf --dry-run",
    "convert patterns -o patterns.gguf --to gguf --base base",
    "convert dora -o dora.gguf --to gguf --base base --dora-to-lora --rank 16",
    "convert plain -o mlx --to mlx --dry-run",
    "reduce plain -o reduced --rank 2",
    "reduce plain -o reduced-dry --budget 5000 --dry-run",
    "reduce plain -o traded.gguf --to gguf --base base --target-size 30kB",
    "combine plain rslora -o combined",
    "combine plain attn -o combined-dry --method cat --dry-run",
    "combine plain=2 -o doubled --method cat",
    "combine tiny-lora -o chosen --model tiny --tune long --context 90 --tune-metric exact --tune-trials 10 --max-tokens 1",
    "inspect combined",
    "extract base tuned -o extracted --rank 2",
    "extract base tuned -o extracted-dry --auto --dry-run",
    "edit patterns -o edited --license mit --fold-alpha --dtype bf16 --rename-prefix model=m",
    "edit plain -o edited-dry --base-model org/model --dry-run",
    "verify tuned --base base --adapter saved",
    "verify base --base base --adapter plain",
    "verify merged --base base --adapter plain=0.5",
    "diff plain doubled",
    "diff plain attn",
    "diff saved extracted",
    "diff base tuned",
    "diff base tuned --base merged",
    "train --model tiny --data rows --val 0.2 --max-steps 2 --lr 0.01 --packing false -o trained --html trained.html --report otlp",
    "train --model tiny --data rows -o never --estimate",
    "train --model tiny --data rows --val rows -o never --check-data",
    "train --model tiny --data rows -o never --print-config",
    "train --import axolotl.yml -o never",
    "eval --model tiny --adapter tiny-lora --data rows --regression items --contains name --max-tokens 4 --html eval.html --report otlp",
    "eval --model tiny --adapter tiny-lora --data long --answers 0 --context 90 --scales 1 --null 2 --general none",
    "generate --model tiny --adapter tiny-lora --data rows --max-tokens 4 --report otlp",
    "trace push -n",
    "trace push -n trained long",
    "registry add kept json:v1",
    "registry add rslora json:v2 --base base",
    "registry add combined both:v1",
    "registry tag json:v1 json:stable",
    "registry eval add json:v1 --metric exact=0.5",
    "registry list",
    "registry list --store broken",
    "registry show json:v1",
    "registry log",
    "registry lineage",
    "registry diff json:v1 json:v2",
    "registry dup",
    "registry stats",
    "registry verify",
    "registry keygen -o key",
    "registry sign json:v1 --key key",
    "registry sign kept --key key -o kept.sig",
    "registry verify json:v1 --key key.pub",
    "registry verify kept --signature kept.sig --key key.pub",
    "registry export json:v1 served --for vllm --served-as base",
    "registry import home/store json:v1 other:v1 --store second",
    "registry untag json:stable",
    "registry rm json:v2",
    "registry gc",
    "registry fsck --store broken --read-data",
    "registry repair --store broken",
    "version",
    "env",
    "completions fish",
    "man merge",
    "man --dir man1",
    "merge --help",
    "help",
];

/// The fields of a schema: the path of each, and the row of the document it comes from.
type Fields = BTreeMap<String, Origin>;

/// A row: its section, which is a schema or the title of a shared part, and its field there.
type Origin = (String, String);

fn workshop() -> Sandbox {
    let sandbox = Sandbox::new();
    for (name, from) in [
        ("base", "bases/llama-bf16"),
        ("tuned", "merged/modules-to-save"),
        ("plain", "adapters/plain"),
        ("rslora", "adapters/rslora"),
        ("attn", "adapters/attn-r4"),
        ("dora", "adapters/dora"),
        ("patterns", "adapters/patterns"),
        ("saved", "adapters/modules-to-save"),
        ("tokens", "adapters/token-indices"),
    ] {
        sandbox.copy(&peft(from), name);
    }
    sandbox.copy(&fixtures().join("tiny-orders"), "tiny");
    sandbox.copy(&fixtures().join("tiny-json-lora"), "tiny-lora");
    let rows = fs::read_to_string(fixtures().join("tiny-json/train.jsonl")).unwrap();
    let rows: Vec<&str> = rows.lines().take(9).collect();
    fs::create_dir(sandbox.path("rows")).unwrap();
    fs::write(sandbox.path("rows/train.jsonl"), format!("{0}\n{0}\n", rows.join("\n"))).unwrap();
    fs::write(sandbox.path("rows/valid.jsonl"), rows[..2].join("\n")).unwrap();
    sandbox.copy(&peft("adapters/plain"), "hub/models--owner--name/snapshots/0123abc");
    fs::create_dir(sandbox.path("hub/other")).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        let own = sandbox.path("hub/models--owner--name/snapshots/0123abc").join(file);
        fs::hard_link(own, sandbox.path("hub/other").join(file)).unwrap();
    }
    edit_json(&sandbox.path("hub/models--owner--name/snapshots/0123abc/adapter_config.json"), |config| {
        config["base_model_name_or_path"] = "/home/ann/llama".into();
    });
    let tensor = |name: &str, shape: &[usize]| (name.into(), Tensor::new(Dtype::F32, shape, &[0.5, 1.0]));
    let tensors = [
        tensor("a.lora_down.weight", &[1, 2]),
        tensor("a.lora_up.weight", &[2, 1]),
        tensor("b.w_norm", &[2]),
    ];
    write_file(&sandbox.path("deltas.safetensors"), &tensors.into());
    fs::write(sandbox.path("plain/README.md"), "---\nlicense: mit\n---\n").unwrap();
    let long = fs::read_to_string(fixtures().join("tiny-json/heldout.jsonl")).unwrap();
    fs::write(sandbox.path("long"), long).unwrap();
    let items = [("{", false), ("", true)].map(|(text, must)| {
        format!(r#"{{"prompt": "a", "checks": {{"not_contains": "{text}"}}, "must": {must}}}"#)
    });
    fs::write(sandbox.path("items"), items.join("\n")).unwrap();
    fs::write(sandbox.path("axolotl.yml"), "base_model: ./tiny\nadapter: lora\ndatasets:\n  - path: ./rows\nlora_r: 8\nlora_alpha: 16\nlora_target_linear: true\nlearning_rate: 1e-3\nbf16: auto\n")
        .unwrap();
    fs::write(sandbox.path("policy.toml"), "formats = ['gguf']").unwrap();
    sandbox.copy(&peft("adapters/plain"), "kept");
    fs::write(sandbox.path("kept/notes.log"), "").unwrap();
    damaged_registry(&sandbox);
    sandbox
}

/// A registry `broken` with a tag whose manifest is damaged, one whose weights are, and one of another program.
fn damaged_registry(sandbox: &Sandbox) {
    let mut digests = Vec::new();
    for (adapter, name) in [("attn", "manifest:v1"), ("dora", "weights:v1")] {
        let line = format!("registry add {adapter} {name} --store broken --json");
        let added: Value = serde_json::from_str(&sandbox.run(&line, &[]).ok().stdout).unwrap();
        digests.push(added["artifact"].clone());
    }
    let blob = |digest: &Value| {
        let hex = digest.as_str().unwrap().trim_start_matches("sha256:");
        sandbox.path("broken/blobs/sha256").join(hex)
    };
    fs::rename(blob(&digests[0]["digest"]), sandbox.path("lost")).unwrap();
    let weights = digests[1]["files"].as_array().unwrap().last().unwrap();
    let path = blob(&weights["digest"]);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let image = br#"{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;
    let digest: String = Sha256::digest(image).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(sandbox.path("broken/blobs/sha256").join(&digest), image).unwrap();
    edit_json(&sandbox.path("broken/index.json"), |index| {
        let entry = serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{digest}"), "size": image.len(),
            "annotations": { "org.opencontainers.image.ref.name": "image:v1" },
        });
        index["manifests"].as_array_mut().unwrap().push(entry);
    });
}

#[test]
fn the_reference_of_json_is_complete() {
    let documented = reference();
    let sandbox = workshop();
    let mut printed: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for line in COMMANDS {
        let mut command = sandbox.command();
        command
            .env("LORAKIT_THREADS", "2")
            .env("XDG_STATE_HOME", sandbox.path("state"))
            .env("LORAKIT_HOME", sandbox.path("home"))
            .args(line.split(' '))
            .arg("--json");
        let run = Run::new(&sandbox, &command.output().unwrap());
        assert_eq!(run.stdout.is_empty(), line.ends_with("nothing"), "{line}: {}", run.stderr);
        for text in run.stdout.lines().chain(run.stderr.lines()) {
            let object: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{line}: {text}"));
            let section = object.get("schema").map_or(ERRORS, |schema| schema.as_str().unwrap());
            let object = if section == ERRORS { &object["error"] } else { &object };
            let known = documented.get_key_value(section);
            let (section, known) = known.unwrap_or_else(|| panic!("{line}: `{section}` has no section"));
            collect(object, "", known, printed.entry(section).or_default());
        }
    }
    let mut wrong = Vec::new();
    let mut idle: BTreeSet<&Origin> = documented.values().flat_map(Fields::values).collect();
    for (section, printed) in &printed {
        let known = &documented[*section];
        let missing = printed.iter().filter(|path| *path != "schema" && !covers(known, path));
        wrong.extend(missing.map(|path| format!("{section}: `{path}` is printed and not in the document")));
        printed.iter().filter_map(|path| known.get(path)).for_each(|origin| _ = idle.remove(origin));
    }
    wrong
        .extend(idle.iter().map(|(section, field)| {
            format!("{section}: `{field}` is in the document and was never printed")
        }));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether the document has the field. A null, an empty list or an object is also covered by its inner fields.
fn covers(known: &Fields, path: &str) -> bool {
    let inside = |field: &String| {
        field.strip_prefix(path).is_some_and(|rest| rest.starts_with('.') || rest.starts_with('['))
    };
    known.contains_key(path) || known.keys().any(inside)
}

/// Enters the path of every field of `value`, which is at `path`. Where the document speaks of any key (`*`), so does the
/// path, and where it describes what is inside elsewhere (`**`), that is not looked at.
fn collect(value: &Value, path: &str, known: &Fields, found: &mut BTreeSet<String>) {
    if !path.is_empty() {
        found.insert(path.to_string());
    }
    let elsewhere = format!("{path}.**");
    if known.contains_key(&elsewhere) && !value.is_null() {
        found.insert(elsewhere);
        return;
    }
    match value {
        Value::Array(items) => {
            let path = format!("{path}[]");
            found.insert(path.clone());
            items.iter().for_each(|item| collect(item, &path, known, found));
        }
        Value::Object(fields) => {
            let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
            let any = format!("{prefix}*");
            let any_key = known.keys().any(|path| path.starts_with(&any));
            for (key, value) in fields {
                let path = if any_key { any.clone() } else { format!("{prefix}{key}") };
                collect(value, &path, known, found);
            }
        }
        _ => {}
    }
}

/// The fields of every schema, and of errors; a link in a row includes the fields of its target section.
fn reference() -> BTreeMap<String, Fields> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/json.md"));
    let mut rows: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let mut section = String::new();
    for line in page.unwrap().lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = match title.strip_prefix('`') {
                Some(schema) => schema.trim_end_matches('`').to_string(),
                None => title.to_lowercase().replace(' ', "-"),
            };
        } else if let Some(row) = Row::of(line) {
            rows.entry(section.clone()).or_default().push(row);
        }
    }
    let sections = rows.keys().filter(|section| *section == ERRORS || section.starts_with("lorakit."));
    sections.map(|section| (section.clone(), fields(section, &rows))).collect()
}

/// A row of a table: its fields, and the section that its description leads to.
struct Row {
    fields: Vec<String>,
    link: Option<String>,
}

impl Row {
    fn of(line: &str) -> Option<Row> {
        let (first, rest) = line.strip_prefix("| ")?.split_once('|')?;
        let fields: Vec<String> = first.split('`').skip(1).step_by(2).map(str::to_string).collect();
        let link = rest.split_once("](#").and_then(|(_, link)| link.split_once(')'));
        let link = link.map(|(link, _)| link.to_string());
        (!fields.is_empty() || link.is_some()).then_some(Row { fields, link })
    }
}

fn fields(section: &str, rows: &BTreeMap<String, Vec<Row>>) -> Fields {
    let mut found = Fields::new();
    for row in rows.get(section).unwrap_or_else(|| panic!("no section `{section}`")) {
        let inner = row.link.as_ref().map_or_else(Fields::new, |link| fields(link, rows));
        if row.fields.is_empty() {
            found.extend(inner.clone());
        }
        for field in &row.fields {
            found.insert(field.clone(), (section.to_string(), field.clone()));
            found.extend(inner.iter().map(|(path, origin)| (format!("{field}.{path}"), origin.clone())));
        }
    }
    found
}
