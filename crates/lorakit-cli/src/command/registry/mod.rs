//! `lorakit registry`.

mod add;
mod check;
mod lineage;
mod list;
mod show;
mod sign;

use std::fmt::Write as _;
use std::path::Path;

use lorakit_registry::export::{self, ExportOptions};
use lorakit_registry::{Digest, Evaluation, Expected, Reference, Store, Tag, compare};
use serde_json::json;

use crate::args::{self, Action, EvalAction};
use crate::error::Failure;
use crate::progress::Bar;
use crate::table::{print_table, table};
use crate::ui::Ui;
use crate::{names, registry, units};

pub(crate) fn run(args: &args::Registry, ui: &Ui) -> Result<(), Failure> {
    let root = match &args.store {
        Some(root) => root.clone(),
        None => registry::folder()?,
    };
    match &args.action {
        Action::Add(args) => return add::add(&Store::create(&root)?, args, ui),
        Action::Import(args) => return add::import(&Store::create(&root)?, args, ui),
        Action::Repair => return check::repair(&root, ui),
        // These need no registry.
        Action::Keygen { output } => return sign::keygen(output, ui),
        Action::Sign(args) if args.name.exists() => return sign::sign_folder(args, ui),
        Action::Verify(args) if args.signature.is_some() => return sign::verify_folder(args, ui),
        // Nothing was added yet, which is no error for who only looks.
        Action::List(_)
        | Action::Dup
        | Action::Stats
        | Action::Log { tag: None }
        | Action::Lineage { name: None }
            if !root.exists() =>
        {
            drop(Store::create(&root)?)
        }
        _ => {}
    }
    let store = &Store::open(&root)?;
    match &args.action {
        Action::Add(_) | Action::Import(_) | Action::Repair | Action::Keygen { .. } => Ok(()),
        Action::List(args) => list::run(store, args, ui),
        Action::Show { name } => show::run(store, name, ui),
        Action::Tag { name, new, moved } => {
            let (digest, before) = store.tag(name, new, expected(moved))?;
            said(ui, &new.to_string(), Some(digest), before)
        }
        Action::Untag { tag, expect } => {
            let expected = expect.map_or(Expected::Any, Expected::This);
            let before = store.untag(tag, expected)?;
            said(ui, &tag.to_string(), None, Some(before))
        }
        Action::Rm { name } => remove(store, name, ui),
        Action::Log { tag } => list::log(store, tag.as_ref(), ui),
        Action::Lineage { name } => lineage::run(store, name.as_ref(), ui),
        Action::Diff { a, b } => show::diff(store, a, b, ui),
        Action::Dup => list::twins(store, ui),
        Action::Stats => stats(store, ui),
        Action::Verify(args) => check::verify(store, args, ui),
        Action::Sign(args) => sign::sign(store, args, ui),
        Action::Fsck { read_data } => check::fsck(store, *read_data, ui),
        Action::Gc(args) => check::gc(store, args, ui),
        Action::Export(args) => export(store, args, ui),
        Action::Eval { action: EvalAction::Add(args) } => evaluate(store, args, ui),
    }
}

/// What a tag must point to for it to be moved.
fn expected(moved: &args::Moved) -> Expected {
    match moved.expect {
        Some(digest) => Expected::This(digest),
        None if moved.force => Expected::Any,
        None => Expected::Nothing,
    }
}

/// Says that a tag moved.
fn said(ui: &Ui, tag: &str, new: Option<Digest>, before: Option<Digest>) -> Result<(), Failure> {
    if ui.json {
        return ui.json("lorakit.registry.tag/1", json!({ "tag": tag, "digest": new, "before": before }));
    }
    let mut text = match new {
        Some(new) => format!("`{tag}` points to {}", new.short()),
        None => format!("removed the tag `{tag}`"),
    };
    if let Some(before) = before.filter(|before| Some(*before) != new) {
        let _ = write!(text, "; it pointed to {} before, which is `{tag}@{{1}}` now", before.short());
    }
    ui.result(&(text + "\n"))
}

fn remove(store: &Store, name: &Reference, ui: &Ui) -> Result<(), Failure> {
    let removed = store.remove(name)?;
    if ui.json {
        return ui.json("lorakit.registry.rm/1", json!({ "removed": removed }));
    }
    let tags: Vec<String> = removed.keys().map(|tag| format!("`{tag}`")).collect();
    ui.result(&match &tags[..] {
        [] => format!("no tag points to `{name}` any more\n"),
        tags => format!("removed {}\n", tags.join(", ")),
    })?;
    if !ui.quiet
        // Other programs give tags that are not names here.
        && let Some(tag) = removed.keys().find(|tag| Tag::parse(tag).is_some())
    {
        crate::ui::note(&format!(
            "note: nothing is swept for 30 days: `lorakit registry tag '{tag}@{{1}}' {tag}` brings it back"
        ));
    }
    Ok(())
}

fn stats(store: &Store, ui: &Ui) -> Result<(), Failure> {
    let catalog = store.catalog()?;
    let stats = compare::stats(&catalog.entries, catalog.attached.len());
    if ui.json {
        return ui.json("lorakit.registry.stats/1", &stats);
    }
    let mut text = format!(
        "{} of {}, {} attached\n{} in files, {} stored",
        units::plural(stats.tags, "tag"),
        units::plural(stats.artifacts, "artifact"),
        stats.attached,
        units::size(stats.bytes),
        units::size(stats.stored),
    );
    if stats.stored < stats.bytes {
        let saved = stats.bytes - stats.stored;
        let share = 100.0 * saved as f64 / stats.bytes as f64;
        let _ = write!(text, ": sharing saves {} ({share:.0} %)", units::size(saved));
    }
    ui.result(&(text + "\n"))
}

fn export(store: &Store, args: &args::Export, ui: &Ui) -> Result<(), Failure> {
    let artifact = store.find(&args.name)?;
    let version = match args.name.tag() {
        Some(tag) if matches!(args.name, Reference::Tag(_)) => tag.tag.clone(),
        _ => artifact.digest.short(),
    };
    let options =
        ExportOptions { server: args.server, served_as: args.served_as.clone(), replace: args.force };
    let bar = Bar::new(ui, "exporting");
    let name = (args.name.name().short(), version.as_str());
    let exported = export::export(store, &artifact, name, &args.folder, &options, &bar)?;
    bar.finish();
    if ui.json {
        let name = args.name.to_string();
        let export = json!({ "name": name, "digest": artifact.digest, "export": exported });
        return ui.json("lorakit.registry.export/1", export);
    }
    let mut text = format!(
        "exported {} of `{}` to `{}`\n",
        units::plural(artifact.files.len(), "file"),
        args.name,
        names::path(&exported.folder)
    );
    for file in &exported.changed {
        let served = args.served_as.as_deref().unwrap_or_default();
        let _ = writeln!(text, "`{file}` names the base `{}` there", names::shown(served));
    }
    if let Some(signature) = exported.signature {
        let _ = writeln!(text, "its signature is `{signature}`");
    } else if exported.signature_omitted {
        text += "its signature is left out, since it is not one of the changed file\n";
    }
    if let Some(command) = &exported.command {
        let _ = writeln!(text, "\n  {}", names::shown(command));
    }
    ui.result(&text)
}

fn evaluate(store: &Store, args: &args::EvalAdd, ui: &Ui) -> Result<(), Failure> {
    let mut evaluation = match &args.report {
        Some(path) => read_report(path)?,
        None => Evaluation::default(),
    };
    evaluation.metrics.extend(args.metric.iter().cloned());
    let (tag, artifact) = store.evaluate(&args.name, &evaluation)?;
    if ui.json {
        let metrics = &artifact.facts.metrics;
        let evaluation = json!({ "tag": tag, "digest": artifact.digest, "metrics": metrics });
        return ui.json("lorakit.registry.eval/1", evaluation);
    }
    let mut text = format!("`{}` has the evaluation `{tag}`\n\n", args.name);
    let mut rows = table(&["figure", "value"]);
    for (name, value) in &artifact.facts.metrics {
        rows.add_row([name.clone(), list::figure(*value)]);
    }
    print_table(&mut text, &rows);
    ui.result(&text)
}

fn read_report(path: &Path) -> Result<Evaluation, Failure> {
    let reader = lorakit::Reader::new(lorakit::ReadMode::Positioned);
    let bytes = reader.bytes(path, MOST_OF_REPORT).map_err(lorakit::Error::from)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(Evaluation::from_report(&text).map_err(|error| error.at(path))?)
}

/// Most bytes of a report.
const MOST_OF_REPORT: u64 = 16 << 20;
