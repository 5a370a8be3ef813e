//! `lorakit trace`.

use std::fmt::Write as _;
use std::path::PathBuf;

use lorakit_trace::ErrorKind;
use lorakit_trace::push::{self, FileReport, Pushed};
use serde::Serialize;

use crate::args;
use crate::error::{Failure, Stopped};
use crate::ui::{self, Ui};
use crate::{interrupt, names, trace, units};

const SCHEMA: &str = "lorakit.trace/1";

/// What became of files.
#[derive(Serialize)]
struct Report<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run: Option<bool>,
    #[serde(flatten)]
    pushed: &'r Pushed,
}

/// `lorakit trace push`.
pub(crate) fn push(args: &args::Push, ui: &Ui) -> Result<(), Failure> {
    let files = files(args)?;
    if args.dry_run {
        return report(&push::look(&files)?, true, ui);
    }
    let carrier = trace::carrier().ok_or_else(|| {
        Failure::usage(
            "this build sends nothing: it was compiled without the feature `remote`",
            "releases have it, and so has `cargo install --path crates/lorakit-cli --features remote`; files of traces can be \
             sent by another lorakit, on another machine too",
        )
    })?;
    let destination = trace::destination()?;
    if files.is_empty() {
        return report(&Pushed::default(), false, ui);
    }
    if destination.traces.is_none() && destination.scores.is_none() {
        return Err(Failure::usage(
            "no variable says where traces go",
            "set `LANGFUSE_BASE_URL`, `LANGFUSE_PUBLIC_KEY` and `LANGFUSE_SECRET_KEY`, or `OTEL_EXPORTER_OTLP_ENDPOINT`",
        ));
    }
    let pushed = push::push(&files, &destination, carrier.as_ref(), &interrupt::asked)?;
    if interrupt::asked() {
        return Err(Stopped::Clean.into());
    }
    report(&pushed, false, ui)?;
    let left = pushed.files.iter().map(|file| file.left).sum();
    let bad = |file: &FileReport| {
        let path = names::path(&file.path);
        file.bad.iter().map(|bad| format!("`{path}:{}` {}", bad.line, bad.why)).collect::<Vec<_>>()
    };
    let reasons: Vec<String> = pushed.files.iter().flat_map(bad).collect();
    if pushed.stopped.is_some() || !reasons.is_empty() {
        return Err(Failure::Unsent { why: pushed.stopped, left, reasons });
    }
    Ok(())
}

/// The files that are meant: without any path, those of the state folder, if there are any.
fn files(args: &args::Push) -> Result<Vec<PathBuf>, Failure> {
    if args.paths.is_empty() {
        let folder = trace::state_folder()?;
        return match push::files(&folder) {
            Err(_) if !folder.exists() => Ok(Vec::new()),
            Err(error) if error.kind() == ErrorKind::Usage => Ok(Vec::new()),
            files => Ok(files?),
        };
    }
    let mut files = Vec::new();
    for path in &args.paths {
        for file in push::files(path)? {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

fn report(pushed: &Pushed, dry_run: bool, ui: &Ui) -> Result<(), Failure> {
    if ui.json {
        return ui.json(SCHEMA, Report { dry_run: dry_run.then_some(true), pushed });
    }
    let mut text = String::new();
    for file in &pushed.files {
        let _ = writeln!(text, "`{}`: {}", names::path(&file.path), about(file, dry_run));
    }
    if pushed.files.is_empty() {
        text = "no traces wait\n".into();
    }
    ui.result(&text)?;
    if !ui.quiet {
        pushed.warnings.iter().for_each(|warning| ui::note(&format!("warning: {}", names::shown(warning))));
    }
    Ok(())
}

/// What a file holds, or what became of it.
fn about(file: &FileReport, dry_run: bool) -> String {
    let counted = |count: u64, noun: &str| units::plural(usize::try_from(count).unwrap_or(usize::MAX), noun);
    if file.busy {
        return "is still being written".into();
    }
    let mut text = if dry_run {
        let held = [(file.spans, "span"), (file.scores, "score")];
        let held: Vec<String> =
            held.iter().filter(|(count, _)| *count > 0).map(|(count, noun)| counted(*count, noun)).collect();
        if held.is_empty() { "nothing to send".into() } else { format!("{} to send", held.join(" and ")) }
    } else {
        format!("{} sent, {} left", counted(file.sent, "line"), file.left)
    };
    if dry_run && !file.bad.is_empty() {
        let _ = write!(text, ", {} of something else", counted(file.bad.len() as u64, "line"));
    }
    if file.cut {
        text += ", the last line is cut off";
    }
    text
}
