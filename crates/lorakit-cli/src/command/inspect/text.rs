//! Fields, wrapped text and findings of a report.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use anstyle::Style;
use lorakit::Finding;
use lorakit::Severity;
use lorakit::ops::inspect::{DTypeCount, TargetReport};

pub(in crate::command) use lorakit::units::number;

use crate::names::{self, shown};
use crate::ui;
use crate::units;

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
    format!("{BOLD}{kind}{BOLD:#} {}\n", names::path(path))
}

/// One line `  label  value`.
pub(super) fn field(text: &mut String, label: &str, value: impl Display) {
    let line = format!("  {label:LABEL$} {}", shown(&value.to_string()));
    let _ = writeln!(text, "{}", line.trim_end());
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
        let _ = writeln!(text, "  {} {}", padded(one.severity), shown(&one.reason));
        // If several reasons share a remedy, it follows the last.
        let last = |code: &str| target.verdicts.iter().rfind(|v| v.code == code).is_some_and(|v| v == one);
        let shown = *seen == MAX_ALIKE || last(one.code);
        if let Some(fix) = one.fix.as_ref().filter(|_| shown) {
            let _ = writeln!(text, "  {:8} -> {}", "", names::shown(fix));
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
            let _ = writeln!(text, "  {} {}", padded(finding.severity), shown(&finding.to_string()));
        }
        if *seen == MAX_ALIKE + 1 {
            let rest = findings.iter().filter(|f| f.code == finding.code).count() - MAX_ALIKE;
            let _ = writeln!(text, "  {:8} ... {rest} more `{}` (all with `--json`)", "", finding.code);
        }
    }
    if unread {
        let _ =
            writeln!(text, "  headers only: `--norms` reads the values (NaN, untrained factors, strength)");
    }
}

/// A severity in the column of severities.
fn padded(severity: Severity) -> String {
    let padding = 8usize.saturating_sub(severity.to_string().len());
    format!("{}{:padding$}", ui::severity(severity), "")
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
