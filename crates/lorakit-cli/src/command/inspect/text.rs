//! Fields, wrapped text and findings of a report.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::io::IsTerminal as _;

use anstyle::Style;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use lorakit::Finding;
use lorakit::Severity;
use lorakit::ops::inspect::{DTypeCount, TargetReport};

use crate::ui;
use crate::units;

/// Columns a report may take.
pub(in crate::command) const WIDTH: usize = 100;
const BOLD: Style = Style::new().bold();
/// Columns of the label of a field.
const LABEL: usize = 13;
/// Number of different values up to which all are listed, e.g. ranks.
const MAX_VALUES: usize = 8;
/// How many are named if there are more.
const MOST_COMMON: usize = 3;
/// Findings of one code that are printed; `--json` has them all.
const MAX_ALIKE: usize = 4;

/// The title of a report: what it is, and where.
pub(super) fn title(kind: &str, path: &std::path::Path) -> String {
    format!("{BOLD}{kind}{BOLD:#} {}\n", path.display())
}

/// One line `  label  value`, wrapped under the value.
pub(super) fn field(text: &mut String, label: &str, value: impl Display) {
    let lines = wrap(&value.to_string(), WIDTH - LABEL - 3);
    for (i, line) in lines.iter().enumerate() {
        let label = if i == 0 { label } else { "" };
        let _ = writeln!(text, "  {label:LABEL$} {line}");
    }
}

/// Lines of at most `width` columns; a longer word stays whole.
pub(in crate::command) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().map_or(0, |l| l.chars().count());
        if line > 0 && line + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// `8`, or `4 (2 modules), 8 (12)` where modules differ; of many values, in ascending order, the ends and those that
/// most modules have.
pub(super) fn tally<T: Display>(counts: impl IntoIterator<Item = (T, usize)>) -> String {
    let counts: Vec<(String, usize)> = counts.into_iter().map(|(v, n)| (v.to_string(), n)).collect();
    match counts.as_slice() {
        [] => "none".into(),
        [(value, _)] => value.clone(),
        [(least, _), .., (most, _)] if counts.len() > MAX_VALUES => {
            let mut common = counts.clone();
            common.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
            format!("{least} to {most}, most often {}", each(&common[..MOST_COMMON]))
        }
        many => each(many),
    }
}

fn each(counts: &[(String, usize)]) -> String {
    let each = counts.iter().enumerate().map(|(i, (value, n))| match i {
        0 => format!("{value} ({})", units::plural(*n, "module")),
        _ => format!("{value} ({n})"),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// `F32`, or `F32 (1.2 M values, 4.8 MB), BF16 (...)`.
pub(super) fn dtypes(counts: &[DTypeCount]) -> String {
    match counts {
        [] => "none".into(),
        [one] => one.dtype.to_string(),
        many => {
            let each = many.iter().map(|c| {
                format!("{} ({} in {})", c.dtype, units::size(c.bytes), units::plural(c.tensors, "tensor"))
            });
            each.collect::<Vec<_>>().join(", ")
        }
    }
}

/// Four significant digits.
pub(in crate::command) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if !(1e-4..1e6).contains(&v) => format!("{value:.3e}"),
        v => {
            let decimals = (3 - v.log10().floor() as i32).max(0) as usize;
            let text = format!("{value:.decimals$}");
            if text.contains('.') {
                text.trim_end_matches('0').trim_end_matches('.').to_string()
            } else {
                text
            }
        }
    }
}

/// A table in the house style: no borders, two columns of indentation. The first column is text, the others are
/// numbers. A terminal gets at most [`WIDTH`] columns; in a file or a pipe names stay whole, to be searched for.
pub(in crate::command) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    let arrangement = if std::io::stdout().is_terminal() {
        ContentArrangement::Dynamic
    } else {
        ContentArrangement::Disabled
    };
    table.load_preset(presets::NOTHING).set_content_arrangement(arrangement);
    table.set_width(WIDTH as u16 - 1).set_header(header.to_vec());
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if i == 0 { 2 } else { 1 }, 1));
        if i > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A table as lines, without spaces at their ends.
pub(in crate::command) fn print_table(text: &mut String, table: &Table) {
    for line in table.to_string().lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// Prints the first rows of a table that has `more`.
pub(in crate::command) fn print_first(text: &mut String, table: &Table, more: usize) {
    print_table(text, table);
    if more > 0 {
        let _ = writeln!(text, "  ... {more} more (all with `--verbose` or `--json`)");
    }
}

/// Whether a program takes the adapter, and each reason with its remedy.
pub(super) fn target(text: &mut String, target: &TargetReport) {
    let name = target.runtime.title();
    let verdict = if target.is_accepted() { "takes it" } else { "does not take it as it is" };
    let _ = writeln!(text, "\n{BOLD}for {name}{BOLD:#}: {name} {verdict}");
    let mut alike: BTreeMap<&str, usize> = BTreeMap::new();
    for one in &target.verdicts {
        let seen = alike.entry(one.code).or_default();
        *seen += 1;
        if *seen > MAX_ALIKE {
            continue;
        }
        let padding = 8usize.saturating_sub(one.severity.to_string().len());
        for (i, line) in wrap(&one.reason, WIDTH - 11).iter().enumerate() {
            let _ = match i {
                0 => writeln!(text, "  {}{:padding$} {line}", ui::severity(one.severity), ""),
                _ => writeln!(text, "  {:8} {line}", ""),
            };
        }
        // A command stays on one line, to be copied; if several reasons share a remedy, it follows the last.
        let last = |code: &str| target.verdicts.iter().rfind(|v| v.code == code).is_some_and(|v| v == one);
        let shown = *seen == MAX_ALIKE || last(one.code);
        if let Some(fix) = one.fix.as_ref().filter(|_| shown) {
            let _ = writeln!(text, "  {:8} -> {fix}", "");
        }
    }
    for (code, seen) in alike.iter().filter(|(_, seen)| **seen > MAX_ALIKE) {
        let _ = writeln!(text, "  {:8} ... {} more `{code}` (all with `--json`)", "", seen - MAX_ALIKE);
    }
}

/// The findings, gravest first, then what was not checked.
pub(super) fn findings(text: &mut String, findings: &[Finding], unread: bool) {
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let named = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")];
    let counts: Vec<String> = named
        .iter()
        .map(|(s, noun)| (count(*s), noun))
        .filter(|(n, _)| *n > 0)
        .map(|(n, noun)| units::plural(n, noun))
        .collect();
    let summary = if counts.is_empty() { "none".to_string() } else { counts.join(", ") };
    let _ = writeln!(text, "\n{BOLD}findings{BOLD:#}: {summary}");
    let mut alike: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in findings {
        let seen = alike.entry(finding.code).or_default();
        *seen += 1;
        if *seen <= MAX_ALIKE {
            let padding = 8usize.saturating_sub(finding.severity.to_string().len());
            let lines = wrap(&finding.to_string(), WIDTH - 11);
            for (i, line) in lines.iter().enumerate() {
                let _ = match i {
                    0 => writeln!(text, "  {}{:padding$} {line}", ui::severity(finding.severity), ""),
                    _ => writeln!(text, "  {:8} {line}", ""),
                };
            }
        }
        if *seen == MAX_ALIKE + 1 {
            let rest = findings.iter().filter(|f| f.code == finding.code).count() - MAX_ALIKE;
            let _ = writeln!(text, "  {:8} ... {rest} more `{}` (all with `--json`)", "", finding.code);
        }
    }
    if unread {
        let _ = writeln!(
            text,
            "  headers only: `--norms` also looks for NaN, untrained factors, and how strong each module is"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::tally;

    #[test]
    fn many_values_are_a_range() {
        assert_eq!(tally([(8, 14)]), "8");
        assert_eq!(tally((1..=8).map(|rank| (rank, 1))).matches(',').count(), 7);
        let many = (14..32).map(|rank| (rank, if rank == 20 { 9 } else { rank % 4 }));
        assert_eq!(tally(many), "14 to 31, most often 20 (9 modules), 15 (3), 19 (3)");
    }
}
