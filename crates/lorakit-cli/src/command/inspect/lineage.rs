//! Where a file came from, as an indented tree.

use std::fmt::Write as _;

use anstyle::Style;
use lorakit::lineage::{Ancestry, Parent, Record};

use super::text::number;
use crate::names::shown;

/// Characters of a name or an option that are printed.
const MAX_TEXT: usize = 120;
/// Deeper levels are indented no further.
const MAX_INDENT: usize = 40;
/// Lines that are printed; `--json` has them all.
const MAX_LINES: usize = 100;
/// Digits of a digest that are printed.
const DIGITS: usize = 12;
const BOLD: Style = Style::new().bold();

/// Prints the step that made the file, then each parent followed by the step that made it.
pub(super) fn render(text: &mut String, ancestry: Option<&Ancestry>) {
    let Some(ancestry) = ancestry else { return };
    let mut lines = Vec::new();
    of_ancestry(&mut lines, ancestry, 2);
    let _ = writeln!(text, "\n{BOLD}lineage{BOLD:#}");
    for line in lines.iter().take(MAX_LINES) {
        let _ = writeln!(text, "{line}");
    }
    if lines.len() > MAX_LINES {
        let _ = writeln!(text, "  ... {} more lines (all with `--json`)", lines.len() - MAX_LINES);
    }
}

fn of_ancestry(lines: &mut Vec<String>, ancestry: &Ancestry, indent: usize) {
    match (ancestry.record(), ancestry.version()) {
        (Some(record), _) => of_record(lines, &record, indent),
        (None, Some(version)) => {
            put(lines, indent, &format!("a record of version {version} (shown with `--json`)"))
        }
        (None, None) => put(lines, indent, "a record that says no version (shown with `--json`)"),
    }
}

fn of_record(lines: &mut Vec<String>, record: &Record, indent: usize) {
    let options: Vec<String> =
        record.options.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(&value))).collect();
    let options = if options.is_empty() { String::new() } else { format!("  {}", options.join(", ")) };
    put(
        lines,
        indent,
        &format!("{}{options}  (lorakit {})", escaped(&record.verb), escaped(&record.lorakit)),
    );
    for parent in &record.parents {
        put(lines, indent + 2, &of_parent(parent));
        if let Some(ancestry) = &parent.lineage {
            of_ancestry(lines, ancestry, indent + 4);
        }
    }
}

/// `adapter 0.7 x `style`  sha256:1a2b3c4d5e6f`.
fn of_parent(parent: &Parent) -> String {
    let weight = parent.weight.map_or_else(String::new, |weight| format!("{} x ", number(weight)));
    let mut text = format!("{} {weight}`{}`", parent.role.name(), escaped(&parent.name));
    if let Some(revision) = &parent.revision {
        let _ = write!(text, " at {}", escaped(revision));
    }
    if let Some(digest) = &parent.weights {
        let (kind, digits) = digest.split_once(':').unwrap_or(("", digest));
        let short: String = digits.chars().take(DIGITS).collect();
        let _ = write!(text, "  {}:{}", escaped(kind), escaped(&short));
    }
    text
}

/// A part of a record, on one line, and not without end.
fn escaped(text: &str) -> String {
    let shown = shown(text);
    match shown.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}...", &shown[..end]),
        None => shown.into_owned(),
    }
}

fn put(lines: &mut Vec<String>, indent: usize, text: &str) {
    let indent = indent.min(MAX_INDENT);
    lines.push(format!("{:indent$}{}", "", text.trim_end()));
}
