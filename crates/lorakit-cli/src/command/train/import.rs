//! `lorakit train --import`: a configuration of another trainer as settings.

use std::path::Path;

use lorakit::{Finding, Severity};
use lorakit_train::settings::{self, Imported, Note, Noted};
use serde_json::json;

use super::{SCHEMA, typed};
use crate::args::{self, Common};
use crate::error::Failure;
use crate::ui::Ui;

/// Prints the settings on stdout, and what has no equivalent on stderr.
pub(super) fn run(path: &Path, args: &args::Train, common: &Common, ui: &Ui) -> Result<(), Failure> {
    let keys = args.keys.iter().map(|(key, _)| *key);
    let pairs = args.fixed.pairs.iter().filter_map(|pair| pair.split_once('=')).map(|(key, _)| key.trim());
    let elsewhere: Vec<&str> = keys.chain(pairs).collect();
    let Imported { program, settings, notes } = settings::import(path, &elsewhere)?;
    let settings = typed(settings, args, common)?;
    let findings: Vec<_> = notes.iter().map(|note| finding(program, note)).collect();
    if ui.json {
        let report = json!({
            "dry_run": true, "program": program, "settings": settings.json(), "findings": findings,
        });
        return ui.json(SCHEMA, report);
    }
    ui.notes(&findings);
    ui.raw(settings.print().as_bytes())
}

/// A note as one about the line of its key.
fn finding(program: &str, note: &Note) -> Finding {
    let Note { key, line, noted, text } = note;
    let (severity, what) = match noted {
        Noted::Changed => (Severity::Warning, "means something else here"),
        Noted::LeftOut => (Severity::Note, "is left out"),
    };
    let message = match (key.as_str(), *line) {
        ("", _) => text.clone(),
        (key, 0) => format!("`{key}`, which {program} has by default, {what}: {text}"),
        (key, line) => format!("line {line}: `{key}` {what}: {text}"),
    };
    Finding::new(severity, "import", "", message)
}
