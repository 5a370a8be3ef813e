//! The table of everything under a folder: a line for each adapter and model.
//!
//! In a file or a pipe a line holds everything. On a terminal paths and names of bases are shortened in the middle;
//! names of findings never are, and go below where there is no room beside.

use std::fmt::Write as _;

use lorakit::Severity;
use lorakit::ops::audit::{AuditReport, Entry, Range};

use super::super::text;
use crate::names::{self, shown};
use crate::width::{columns, of_results, wrap};
use crate::{ui, units};

/// Spaces between columns, and before the first.
const GAP: usize = 2;
/// The least of a path and of a base that is still worth a column.
const LEAST: (usize, usize) = (20, 10);
/// The heading of the last column, which is as wide as the number of notes.
const FINDINGS: &str = "findings";
/// Columns before what belongs to the line above.
const INDENT: usize = 4;

/// One line of the table.
struct Line {
    path: String,
    base: String,
    /// Format, rank, scale, ...: short, and never shortened.
    facts: Vec<String>,
    findings: Vec<(Severity, Vec<&'static str>)>,
    notes: usize,
    /// What the name of a finding does not say.
    messages: Vec<String>,
}

pub(super) fn render(text: &mut String, report: &AuditReport, verbose: bool) {
    // With several folders, the path of each says in which it is.
    let alone = report.entries.iter().all(|entry| entry.root == report.entries[0].root);
    let values = |of: fn(&Entry) -> Option<f64>| report.entries.iter().any(|entry| of(entry).is_some());
    let (norms, spectra) = (values(|entry| entry.norm), values(|entry| entry.effective_rank));
    let mut heads = vec!["format", "rank", "scale", "size"];
    heads.extend(norms.then_some("norm"));
    heads.extend(spectra.then_some("eff. rank"));
    let lines: Vec<Line> = report
        .entries
        .iter()
        .map(|entry| {
            let mut facts = vec![
                entry.format.clone().unwrap_or_else(|| "-".into()),
                range(entry.rank, |rank| rank.to_string()),
                range(entry.scale, text::number),
                units::size(entry.bytes),
            ];
            let optional = |number: Option<f64>| number.map_or_else(|| "-".into(), text::number);
            facts.extend(norms.then(|| optional(entry.norm)));
            facts.extend(spectra.then(|| optional(entry.effective_rank)));
            line(entry, alone, facts, verbose)
        })
        .collect();
    let layout = Layout::new(&heads, &lines, of_results());
    layout.head(text);
    for line in &lines {
        layout.line(text, line);
    }
}

fn line(entry: &Entry, alone: bool, facts: Vec<String>, verbose: bool) -> Line {
    let path = match &entry.hub {
        Some(hub) => hub.short(),
        None if alone => entry.path.display().to_string(),
        None => entry.place().display().to_string(),
    };
    let least = if verbose { Severity::Note } else { Severity::Warning };
    let severities = [Severity::Error, Severity::Warning, Severity::Note]
        .into_iter()
        .filter(|severity| *severity >= least);
    let names = |severity: Severity| {
        let mut names: Vec<&str> = Vec::new();
        for finding in entry.findings.iter().filter(|finding| finding.severity == severity) {
            if !names.contains(&finding.code) {
                names.push(finding.code);
            }
        }
        (severity, names)
    };
    let findings = severities.map(names).filter(|(_, names)| !names.is_empty()).collect();
    let told = entry
        .findings
        .iter()
        .filter(|finding| verbose || ["unreadable", "needs-base"].contains(&finding.code));
    let mut messages: Vec<String> = told.map(|finding| shown(&finding.to_string()).into_owned()).collect();
    messages.extend(entry.also.iter().map(|also| format!("also at {}", names::path(also))));
    Line {
        path: shown(&path).into_owned(),
        base: shown(entry.base.as_deref().unwrap_or("-")).into_owned(),
        facts,
        findings,
        notes: if verbose { 0 } else { entry.count(Severity::Note) },
        messages,
    }
}

/// `8`, or `4-16` where modules differ.
fn range<T: Copy + PartialEq>(range: Option<Range<T>>, show: impl Fn(T) -> String) -> String {
    match range {
        None => "-".into(),
        Some(Range { min, max }) if min == max => show(min),
        Some(Range { min, max }) => format!("{}-{}", show(min), show(max)),
    }
}

/// Widths of the columns.
struct Layout {
    path: usize,
    base: usize,
    facts: Vec<usize>,
    heads: Vec<String>,
    width: Option<usize>,
    /// Whether there is no room for columns, so that facts go below the path.
    narrow: bool,
}

impl Layout {
    fn new(heads: &[&str], lines: &[Line], width: Option<usize>) -> Self {
        let widest =
            |of: &dyn Fn(&Line) -> usize, least: usize| lines.iter().map(of).max().unwrap_or(0).max(least);
        let fact = |(i, head): (usize, &&str)| widest(&|line| columns(&line.facts[i]), head.len());
        let facts: Vec<usize> = heads.iter().enumerate().map(fact).collect();
        let mut layout = Layout {
            path: widest(&|line| columns(&line.path), "path".len()),
            base: widest(&|line| columns(&line.base), "base".len()),
            facts,
            heads: heads.iter().map(ToString::to_string).collect(),
            width,
            narrow: false,
        };
        let Some(width) = width else { return layout };
        let found = lines.iter().any(|line| line.notes > 0 || !line.findings.is_empty());
        let beside = if found { GAP + FINDINGS.len() } else { 0 };
        let fixed = layout.facts.iter().map(|fact| fact + GAP).sum::<usize>() + 2 * GAP + beside;
        let room = width.saturating_sub(fixed);
        if layout.path + layout.base > room {
            layout.narrow = room < LEAST.0.min(layout.path) + LEAST.1.min(layout.base);
            // The path gets at least two thirds, and what the base does not need.
            layout.base = layout.base.min((room / 3).max(room.saturating_sub(layout.path)));
            layout.path = layout.path.min(room - layout.base.min(room));
        }
        layout
    }

    fn head(&self, text: &mut String) {
        if self.narrow {
            return;
        }
        let mut line = self.row("path", "base", &self.heads);
        if self.width.is_none_or(|width| columns(&line) + GAP + FINDINGS.len() <= width) {
            let _ = write!(line, "{:GAP$}{FINDINGS}", "");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }

    /// Path, format, base and numbers in their columns. Numbers end at the same place.
    fn row(&self, path: &str, base: &str, facts: &[String]) -> String {
        let mut line = format!("{:GAP$}{}", "", padded(&shortened(path, self.path), self.path, false));
        for (i, (fact, width)) in facts.iter().zip(&self.facts).enumerate() {
            let _ = write!(line, "{:GAP$}{}", "", padded(fact, *width, i > 0));
            if i == 0 {
                let _ = write!(line, "{:GAP$}{}", "", padded(&shortened(base, self.base), self.base, false));
            }
        }
        line
    }

    fn line(&self, text: &mut String, line: &Line) {
        let mut row = if self.narrow {
            let room = self.width.unwrap_or(usize::MAX).saturating_sub(GAP);
            format!("{:GAP$}{}", "", shortened(&line.path, room))
        } else {
            self.row(&line.path, &line.base, &line.facts)
        };
        let mut below = Vec::new();
        if self.narrow {
            let facts = line.facts.iter().zip(&self.heads).filter(|(fact, _)| *fact != "-");
            let facts = facts.map(|(fact, head)| match head.as_str() {
                "format" | "size" => fact.clone(),
                _ => format!("{head} {fact}"),
            });
            let facts = facts.collect::<Vec<_>>().join(", ");
            below.push((facts.clone(), facts));
            if line.base != "-" {
                let room = self.width.unwrap_or(usize::MAX).saturating_sub(INDENT);
                let base = shortened(&line.base, room);
                below.push((base.clone(), base));
            }
        }
        let findings = findings(line);
        let plain: Vec<&str> = findings.iter().map(|(plain, _)| plain.as_str()).collect();
        let beside = columns(&row) + GAP + columns(&plain.join("; "));
        if !findings.is_empty() && !self.narrow && self.width.is_none_or(|width| beside <= width) {
            let coloured: Vec<&str> = findings.iter().map(|(_, coloured)| coloured.as_str()).collect();
            let _ = write!(row, "{:GAP$}{}", "", coloured.join("; "));
        } else {
            below.extend(findings);
        }
        let _ = writeln!(text, "{}", row.trim_end());
        let room = self.width.unwrap_or(usize::MAX).saturating_sub(INDENT);
        for (plain, coloured) in below {
            if columns(&plain) <= room {
                let _ = writeln!(text, "{:INDENT$}{coloured}", "");
            } else {
                wrapped(text, &plain, room);
            }
        }
        for message in &line.messages {
            wrapped(text, message, room);
        }
    }
}

/// The names of findings by severity, as they are and coloured.
fn findings(line: &Line) -> Vec<(String, String)> {
    let of = |(severity, names): &(Severity, Vec<&str>)| {
        let names = names.join(", ");
        (format!("{severity}: {names}"), format!("{}: {names}", ui::severity(*severity)))
    };
    let mut all: Vec<(String, String)> = line.findings.iter().map(of).collect();
    if line.notes > 0 {
        let notes = units::plural(line.notes, "note");
        all.push((notes.clone(), notes));
    }
    all
}

fn wrapped(text: &mut String, line: &str, room: usize) {
    for line in wrap(line, room) {
        let _ = writeln!(text, "{:INDENT$}{line}", "");
    }
}

fn padded(text: &str, width: usize, right: bool) -> String {
    let gap = " ".repeat(width.saturating_sub(columns(text)));
    if right { gap + text } else { text.to_string() + &gap }
}

/// A text without its middle, if it is too long: both ends of a path say something.
fn shortened(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_string();
    }
    let length = text.chars().count();
    let kept = width.saturating_sub(1);
    let (head, tail) = (kept / 2, kept - kept / 2);
    let head: String = text.chars().take(head).collect();
    let tail: String = text.chars().skip(length.saturating_sub(tail)).collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<Line> {
        let line = |path: &str, base: &str, facts: [&str; 4], findings| Line {
            path: path.into(),
            base: base.into(),
            facts: facts.map(str::to_string).to_vec(),
            findings,
            notes: 1,
            messages: Vec::new(),
        };
        vec![
            line("a", "-", ["safetensors", "-", "-", "1.71 MB"], vec![]),
            line(
                "teams/translation/runs/2024-11-02/checkpoint-500",
                "meta-llama/Llama-3.2-1B-Instruct",
                ["peft", "4-16", "0.5-2", "12.3 MB"],
                vec![
                    (Severity::Error, vec!["zero-size-tensor"]),
                    (Severity::Warning, vec!["target-without-tensors", "local-path"]),
                ],
            ),
        ]
    }

    fn at(width: Option<usize>) -> String {
        let heads = ["format", "rank", "scale", "size"];
        let (lines, mut text) = (lines(), String::new());
        let layout = Layout::new(&heads, &lines, width);
        layout.head(&mut text);
        lines.iter().for_each(|line| layout.line(&mut text, line));
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn paths_give_way_and_findings_stay_whole() {
        insta::assert_snapshot!(at(None), @"
          path                                              format       base                              rank  scale     size  findings
          a                                                 safetensors  -                                    -      -  1.71 MB  1 note
          teams/translation/runs/2024-11-02/checkpoint-500  peft         meta-llama/Llama-3.2-1B-Instruct  4-16  0.5-2  12.3 MB  error: zero-size-tensor; warning: target-without-tensors, local-path; 1 note
        ");
        insta::assert_snapshot!(at(Some(100)), @"
          path                                format       base               rank  scale     size  findings
          a                                   safetensors  -                     -      -  1.71 MB  1 note
          teams/translatio…02/checkpoint-500  peft         meta-lla…Instruct  4-16  0.5-2  12.3 MB
            error: zero-size-tensor
            warning: target-without-tensors, local-path
            1 note
        ");
        insta::assert_snapshot!(at(Some(80)), @"
          path                   format       base        rank  scale     size  findings
          a                      safetensors  -              -      -  1.71 MB  1 note
          teams/tran…kpoint-500  peft         meta…truct  4-16  0.5-2  12.3 MB
            error: zero-size-tensor
            warning: target-without-tensors, local-path
            1 note
        ");
        insta::assert_snapshot!(at(Some(60)), @"
          a
            safetensors, 1.71 MB
            1 note
          teams/translation/runs/2024-11-02/checkpoint-500
            peft, rank 4-16, scale 0.5-2, 12.3 MB
            meta-llama/Llama-3.2-1B-Instruct
            error: zero-size-tensor
            warning: target-without-tensors, local-path
            1 note
        ");
        insta::assert_snapshot!(at(Some(40)), @"
        a
          safetensors, 1.71 MB
          1 note
        teams/translation/…1-02/checkpoint-500
          peft, rank 4-16, scale 0.5-2,
            12.3 MB
          meta-llama/Llama-3.2-1B-Instruct
          error: zero-size-tensor
          warning: target-without-tensors,
                   local-path
          1 note
        ");
    }

    #[test]
    fn no_line_is_too_wide() {
        for width in 40..=120 {
            for line in at(Some(width)).lines() {
                assert!(columns(line) <= width, "{width}: {line}");
            }
            for name in ["zero-size-tensor", "target-without-tensors", "local-path"] {
                assert!(at(Some(width)).contains(name), "{width}");
            }
        }
    }

    #[test]
    fn both_ends_of_a_path_stay() {
        assert_eq!(shortened("checkpoint-500", 20), "checkpoint-500");
        assert_eq!(shortened("teams/a/checkpoint-500", 12), "teams…nt-500");
    }
}
