//! `docs/reference/json.md` against what the commands print: every field is in the document, and the other way round.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Sandbox, fixtures, peft};

/// The section on what stands on stderr; the others are schemas, or shared by these.
const ERRORS: &str = "errors";

/// Commands that together print every field there is.
const COMMANDS: &[&str] = &[
    "inspect base",
    "inspect tiny plain nothing",
    "inspect nothing",
    "inspect tokens saved --norms",
    "inspect plain --spectrum --base base --for vllm --html page.html",
    "inspect dora --for llama.cpp",
    "merge base plain rslora=0.5 -o merged",
    "merge base plain -o merged --dry-run",
    "merge base plain -o merged --force",
    "merge base plain -o merged --force --dry-run",
    "merge tiny tiny-lora -o merged.gguf --quantize Q8_0",
    "merge tiny tiny-lora -o merged-dry.gguf --quantize Q8_0 --dry-run",
    "merge base tiny-lora -o never",
    "merge base nothing -o never",
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
    "reduce plain -o reduced-dry --budget 2000 --dry-run",
    "combine plain rslora -o combined",
    "combine plain attn -o combined-dry --method cat --dry-run",
    "combine plain=2 -o doubled --method cat",
    "inspect combined",
    "extract base tuned -o extracted --rank 2",
    "extract base tuned -o extracted-dry --auto --dry-run",
    "verify tuned --base base --adapter saved",
    "verify base --base base --adapter plain",
    "diff plain doubled",
    "diff plain attn",
    "diff saved extracted",
    "diff base tuned",
    "diff base tuned --base merged",
];

/// Paths of fields by section: a schema, or the title of what several share.
type Sections = BTreeMap<String, BTreeSet<String>>;

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
    sandbox
}

#[test]
fn the_reference_of_json_is_complete() {
    let documented = reference();
    let sandbox = workshop();
    let mut printed = Sections::new();
    for line in COMMANDS {
        let run = sandbox.run(&format!("{line} --json"), &[]);
        assert!(!run.stdout.is_empty() || !run.stderr.is_empty(), "{line}");
        for text in run.stdout.lines().chain(run.stderr.lines()) {
            let object: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{line}: {text}"));
            let (section, object) = match object.get("schema") {
                Some(schema) => (schema.as_str().unwrap(), &object),
                None => (ERRORS, &object["error"]),
            };
            let known = documented.get(section).unwrap_or_else(|| panic!("{line}: {section} has no section"));
            collect(object, "", known, printed.entry(section.to_string()).or_default());
        }
    }
    let mut wrong = Vec::new();
    for (section, fields) in documented.iter().filter(|(section, _)| printed.contains_key(*section)) {
        let printed = &printed[section];
        let missing = printed.iter().filter(|path| *path != "schema" && !covers(fields, path));
        wrong.extend(missing.map(|path| format!("{section}: `{path}` is printed and not in the document")));
        let idle = fields.iter().filter(|path| !printed.contains(*path));
        wrong.extend(idle.map(|path| format!("{section}: `{path}` is in the document and was not printed")));
    }
    let schemas = documented.keys().filter(|section| section.starts_with("lorakit."));
    wrong.extend(
        schemas.filter(|s| !printed.contains_key(*s)).map(|s| format!("{s} is documented and never printed")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether the document has the field. One that is null, or an empty list, or an object, is known by its own fields too.
fn covers(fields: &BTreeSet<String>, path: &str) -> bool {
    let inside = |known: &String| {
        known.strip_prefix(path).is_some_and(|rest| rest.starts_with('.') || rest.starts_with('['))
    };
    fields.contains(path) || fields.iter().any(inside)
}

/// Enters the path of every field of `value`, which is at `path`. Where the document speaks of any key, so does the path.
fn collect(value: &Value, path: &str, known: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    if !path.is_empty() {
        found.insert(path.to_string());
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
            let any_key = known.iter().any(|path| path.starts_with(&any));
            for (key, value) in fields {
                let path = if any_key { any.clone() } else { format!("{prefix}{key}") };
                collect(value, &path, known, found);
            }
        }
        _ => {}
    }
}

/// The fields of every section; a link in a row stands for the fields of the section it leads to.
fn reference() -> Sections {
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
    let sections = rows.keys().map(|section| (section.clone(), fields(section, &rows)));
    sections.filter(|(_, fields)| !fields.is_empty()).collect()
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

fn fields(section: &str, rows: &BTreeMap<String, Vec<Row>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for row in rows.get(section).unwrap_or_else(|| panic!("no section `{section}`")) {
        let inner = row.link.as_ref().map_or_else(BTreeSet::new, |link| fields(link, rows));
        if row.fields.is_empty() {
            found.extend(inner.iter().cloned());
        }
        for field in &row.fields {
            found.insert(field.clone());
            found.extend(inner.iter().map(|path| format!("{field}.{path}")));
        }
    }
    found
}
