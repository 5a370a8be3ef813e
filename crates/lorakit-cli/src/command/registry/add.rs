//! `lorakit registry add` and `import`.

use std::fmt::Write as _;

use lorakit_registry::add::{self, AddOptions, Added};
use lorakit_registry::{Artifact, Digest, Store, Tag, import};
use serde_json::json;

use super::expected;
use crate::args;
use crate::error::Failure;
use crate::names::shown;
use crate::progress::Bar;
use crate::ui::Ui;
use crate::units;

pub(super) fn add(store: &Store, args: &args::Add, ui: &Ui) -> Result<(), Failure> {
    let options = AddOptions {
        base: args.base.clone(),
        allow_base_mismatch: args.allow_base_mismatch,
        allow_non_finite: args.allow_non_finite,
        expected: expected(&args.moved),
        epoch: epoch()?,
    };
    let bar = Bar::new(ui, "adding");
    let added = add::add(store, &args.path, &args.name, &options, &bar)?;
    bar.finish();
    ui.notes(&added.notes);
    let Added { artifact, before, shared, left_out, .. } = &added;
    if ui.json {
        let left_out: Vec<_> =
            left_out.iter().map(|(file, why)| json!({ "file": file, "why": why })).collect();
        let added = json!({
            "tag": args.name.to_string(), "before": before, "shared_bytes": shared, "left_out": left_out,
            "artifact": artifact, "notes": added.notes,
        });
        return ui.json("lorakit.registry.add/1", added);
    }
    let mut text = said(artifact, &args.name, *before);
    if *shared > 0 {
        let _ = writeln!(text, "{} of it were there already", units::size(*shared));
    }
    ui.result(&text)?;
    if !ui.quiet && !left_out.is_empty() {
        let files: Vec<String> =
            left_out.iter().map(|(file, why)| format!("`{}` ({why})", shown(file))).collect();
        crate::ui::note(&format!("note: left out: {}", files.join(", ")));
    }
    Ok(())
}

pub(super) fn import(store: &Store, args: &args::Import, ui: &Ui) -> Result<(), Failure> {
    let name = match (&args.name, Tag::parse(&args.tag)) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) => name,
        (None, None) => {
            return Err(Failure::usage(
                &format!(
                    "`{}` is not a name with a tag, so it must be said what it is called here",
                    shown(&args.tag)
                ),
                "`lorakit registry import LAYOUT TAG NAME:TAG`",
            ));
        }
    };
    let bar = Bar::new(ui, "importing");
    let imported = import::import(store, &args.layout, &args.tag, &name, expected(&args.moved), &bar)?;
    bar.finish();
    ui.notes(&imported.notes);
    if ui.json {
        let import::Imported { artifact, before, attached, .. } = &imported;
        let imported =
            json!({ "tag": name.to_string(), "before": before, "attached": attached, "artifact": artifact });
        return ui.json("lorakit.registry.import/1", imported);
    }
    let mut text = said(&imported.artifact, &name, imported.before);
    for tag in &imported.attached {
        let _ = writeln!(text, "with `{tag}`");
    }
    ui.result(&text)
}

/// What a tag points to now.
fn said(artifact: &Artifact, tag: &Tag, before: Option<Digest>) -> String {
    let mut text = format!(
        "`{tag}` is {} ({}, {})\n",
        artifact.digest.short(),
        units::plural(artifact.files.len(), "file"),
        units::size(artifact.bytes),
    );
    if let Some(before) = before {
        let _ = writeln!(text, "before it was {}, which is `{tag}@{{1}}` now", before.short());
    }
    let count = |severity: &str| {
        artifact.facts.findings.iter().filter(|finding| finding.severity == severity).count()
    };
    let counted = [("error", count("error")), ("warning", count("warning")), ("note", count("note"))];
    let found: Vec<String> = counted
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(word, count)| units::plural(count, word))
        .collect();
    if !found.is_empty() {
        let _ = writeln!(text, "the audit found {}: `lorakit registry show {tag}`", found.join(", "));
    }
    text
}

/// The time that a reproducible build states.
fn epoch() -> Result<Option<u64>, Failure> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    text.to_str().and_then(|text| text.parse().ok()).map(Some).ok_or_else(|| {
        Failure::usage(
            "`SOURCE_DATE_EPOCH` is not a number of seconds since 1970",
            "unset it, or set it to such a number: `SOURCE_DATE_EPOCH=$(date +%s)`",
        )
    })
}
