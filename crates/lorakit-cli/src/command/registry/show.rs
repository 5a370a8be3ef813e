//! `lorakit registry show` and `diff`.

use std::fmt::Write as _;

use lorakit_registry::{Artifact, Entry, Kind, Reference, Store, compare};
use serde_json::json;

use super::list::{figure, short};
use crate::error::Failure;
use crate::names::shown;
use crate::table::{print_table, table};
use crate::ui::{self, Ui};
use crate::units;

pub(super) fn run(store: &Store, name: &Reference, ui: &Ui) -> Result<(), Failure> {
    let artifact = store.find(name)?;
    let catalog = store.catalog()?;
    let of_it = |entry: &&Entry| entry.artifact.digest == artifact.digest;
    let tags: Vec<&str> = catalog.entries.iter().filter(of_it).map(|entry| entry.tag.as_str()).collect();
    let attached: Vec<&Entry> =
        catalog.attached.iter().filter(|entry| entry.artifact.subject == Some(artifact.digest)).collect();
    if ui.json {
        let attached: Vec<_> = attached
            .iter()
            .map(|entry| {
                let facts = &entry.artifact.facts;
                json!({ "tag": entry.tag, "kind": facts.kind, "metrics": facts.metrics })
            })
            .collect();
        return ui.json(
            "lorakit.registry.show/1",
            json!({ "tags": tags, "artifact": artifact, "attached": attached }),
        );
    }
    let mut text = format!("{name}  {}\n", artifact.digest);
    let others: Vec<&str> = tags.into_iter().filter(|tag| *tag != name.to_string()).collect();
    if !others.is_empty() {
        let _ = writeln!(text, "also {}", others.join(", "));
    }
    text.push('\n');
    facts(&mut text, &artifact);
    files(&mut text, &artifact);
    evaluations(&mut text, &attached);
    let findings = &artifact.facts.findings;
    if !findings.is_empty() {
        text.push('\n');
        for finding in findings {
            let _ = writeln!(text, "{}: {}", finding.severity, shown(&finding.message));
        }
    }
    ui.result(&text)
}

fn facts(text: &mut String, artifact: &Artifact) {
    let facts = &artifact.facts;
    let base = &facts.base;
    let what = match facts.kind {
        Kind::Merged => "model".to_string(),
        _ => format!("{} adapter", facts.methods.join(", ")),
    };
    let params = facts.params.map(units::count);
    let named = base.name.as_ref().map(|name| match &base.revision {
        Some(revision) => format!("{name} at {revision}"),
        None => name.clone(),
    });
    let lines = [
        ("what", Some(what)),
        ("format", facts.format.clone()),
        ("rank", facts.rank.clone()),
        ("alpha", facts.alpha.clone()),
        ("scale", facts.scale.clone()),
        ("targets", Some(facts.targets.join(", "))),
        ("parameters", params),
        ("dtype", Some(facts.dtypes.join(", "))),
        ("norm", facts.norm.map(|norm| format!("{norm:.4}"))),
        ("base", named),
        ("base weights", base.digest.clone()),
        ("trained as", base.form.clone()),
        ("licence", facts.licence.clone()),
        ("made by", facts.op.as_ref().map(|op| format!("lorakit {op}"))),
        ("weights", facts.weights.clone()),
    ];
    for (name, value) in lines {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = writeln!(text, "  {name:<13} {}", shown(&value));
        }
    }
}

fn files(text: &mut String, artifact: &Artifact) {
    text.push('\n');
    let mut rows = table(&["file", "size", "digest"]);
    for file in &artifact.files {
        rows.add_row([file.path.display().to_string(), units::size(file.bytes), file.digest.short()]);
    }
    print_table(text, &rows);
}

fn evaluations(text: &mut String, attached: &[&Entry]) {
    let figures = attached.iter().flat_map(|entry| {
        entry.artifact.facts.metrics.iter().map(|(name, value)| (name.clone(), *value, entry.tag.clone()))
    });
    let mut rows = table(&["figure", "value", "from"]);
    let mut count = 0;
    for (name, value, tag) in figures {
        rows.add_row([name, figure(value), tag]);
        count += 1;
    }
    if count > 0 {
        text.push('\n');
        print_table(text, &rows);
    }
}

pub(super) fn diff(store: &Store, a: &Reference, b: &Reference, ui: &Ui) -> Result<(), Failure> {
    let (first, second) = (store.find(a)?, store.find(b)?);
    let found = compare::difference(&first, &second);
    if ui.json {
        return ui.json(
            "lorakit.registry.diff/1",
            json!({ "a": first.digest, "b": second.digest, "difference": found }),
        );
    }
    let mut text = String::new();
    if first.digest == second.digest {
        return ui.result(&format!("{}: both are {}\n", ui::good("the same"), first.digest.short()));
    }
    if found.same_weights {
        let _ = writeln!(text, "the weights are the same");
    }
    let mut rows = table(&["", &a.to_string(), &b.to_string()]);
    for fact in &found.facts {
        let shorter = |text: &Option<String>| match text.as_deref() {
            None => "-".to_string(),
            Some(text) if text.starts_with("sha256:") => short(text),
            Some(text) => text.to_string(),
        };
        rows.add_row([fact.fact.to_string(), shorter(&fact.a), shorter(&fact.b)]);
    }
    if !found.facts.is_empty() {
        print_table(&mut text, &rows);
    }
    for (word, files) in
        [("changed", &found.changed), ("only in A", &found.removed), ("only in B", &found.added)]
    {
        if !files.is_empty() {
            let _ = writeln!(text, "{word}: {}", files.join(", "));
        }
    }
    let _ = match &found.obstacles[..] {
        [] => writeln!(text, "\na server can exchange A for B while it runs"),
        obstacles => {
            writeln!(text, "\na server cannot exchange A for B while it runs: {}", obstacles.join("; "))
        }
    };
    if !found.same_weights {
        let _ = writeln!(text, "`lorakit diff {a} {b}` compares the weights");
    }
    ui.result(&text)
}
