//! `lorakit diff`.

mod adapters;
mod models;

use std::fmt::Write as _;

use lorakit::ops::diff::{self, Diff, DiffOptions, DiffReport, FieldDiff, State, Stored, Sums, TensorDiff};
use serde::Serialize;

use super::inspect::text::number;
use super::reduce::percent;
use crate::args::{self, Common};
use crate::error::Failure;
use crate::names::shown;
use crate::progress::Bar;
use crate::table::{print_table, table};
use crate::ui::{self, Ui};

/// Rows of a table without `--verbose`.
const WORST: usize = 8;
/// Fields of a configuration without `--verbose`.
const FIELDS: usize = 10;

/// The report, and the same in one line.
#[derive(Serialize)]
struct Told<'d> {
    message: String,
    #[serde(flatten)]
    report: DiffReport<'d>,
}

pub(crate) fn run(args: &args::Diff, common: &Common, ui: &Ui) -> Result<(), Failure> {
    let options = DiffOptions::new(&args.a, &args.b)
        .with_base(args.base.clone())
        .with_threads(common.threads)
        .with_mode(common.read_mode());
    let bar = Bar::new(ui, "comparing");
    let found = diff::diff(&options, &bar)?;
    bar.finish();
    let differs = found.differs();
    let headline = match &found {
        Diff::Adapters(found) => adapters::headline(found),
        Diff::Models(found) => models::headline(found),
    };
    if ui.json {
        ui.json("lorakit.diff/1", Told { message: headline, report: found.report() })?;
    } else {
        let mut text = if differs { headline } else { ui::good(&headline) } + "\n";
        if !ui.quiet {
            text += &match &found {
                Diff::Adapters(found) => adapters::report(found, ui),
                Diff::Models(found) => models::report(found, ui),
            };
        }
        ui.result(&text)?;
        if let Diff::Models(found) = &found {
            ui.notes(&models::notes(found));
        }
    }
    if differs && args.exit_code { Err(Failure::Differs("A and B differ")) } else { Ok(()) }
}

/// `4 the same, 20 different`: how many there are of each state.
fn tally(states: impl Iterator<Item = State>) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for state in states {
        let word = match state {
            State::Same => "the same",
            State::Equal => "equal, stored otherwise",
            State::Recast => "equal within rounding",
            State::Rescaled(_) => "rescaled",
            State::Different => "different",
            State::Reshaped => "of another shape",
            State::OnlyA => "only in A",
            State::OnlyB => "only in B",
            State::Undecodable => "different and not decoded",
            State::NonFinite => "without a delta: NaN or infinite values",
        };
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}

/// The state in a table.
fn word(state: State) -> String {
    match state {
        State::Recast => "rounded".into(),
        State::Rescaled(factor) => format!("x {factor:.4}"),
        State::Reshaped => "other shape".into(),
        State::OnlyA => "only in A".into(),
        State::OnlyB => "only in B".into(),
        State::Undecodable => "not decoded".into(),
        State::NonFinite => "NaN".into(),
        other => other.name().into(),
    }
}

/// A value, or a dash.
fn cell(value: Option<f64>, text: impl Fn(f64) -> String) -> String {
    value.map_or("-".into(), text)
}

fn differ(n: usize) -> &'static str {
    if n == 1 { "differs" } else { "differ" }
}

/// A distance relative to a norm: `0.31 %`, even if it is many times the norm.
fn relative(distance: f64) -> String {
    if distance < 10.0 { percent(distance) } else { format!("{} %", number(100.0 * distance)) }
}

fn four(value: f64) -> String {
    // Not `-0.0000`.
    format!("{:.4}", if value.abs() < 5e-5 { 0.0 } else { value })
}

/// The dtypes of a tensor, or its shapes if these differ.
fn stored(tensor: &TensorDiff) -> String {
    let shape = |s: &Stored| s.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    match (&tensor.a, &tensor.b) {
        (Some(a), Some(b)) if a.shape != b.shape => format!("{} {}", shape(a), shape(b)),
        (Some(a), Some(b)) if a.dtype != b.dtype => format!("{} {}", a.dtype, b.dtype),
        (Some(one), _) | (_, Some(one)) => one.dtype.to_string(),
        (None, None) => String::new(),
    }
}

/// How far apart two values or deltas are, for sorting; the ones that cannot be measured come first.
fn apart(distance: Option<f64>) -> f64 {
    distance.unwrap_or(f64::INFINITY)
}

/// Tensors, the most changed first; `what` names them. Without `--verbose` only a few, and none that are the same.
fn tensors(tensors: &[TensorDiff], what: &str, ui: &Ui) -> String {
    let mut rows: Vec<&TensorDiff> = tensors.iter().filter(|t| ui.verbose || t.state.differs()).collect();
    let deltas = rows.iter().any(|t| t.change.as_ref().is_some_and(|c| c.deltas.is_some()));
    if !ui.verbose {
        let distance = |t: &TensorDiff| apart(t.change.as_ref().and_then(|c| c.whole.distance()));
        rows.sort_by(|x, y| distance(y).total_cmp(&distance(x)));
    }
    let more = if ui.verbose { 0 } else { rows.len().saturating_sub(WORST) };
    rows.truncate(rows.len() - more);
    if rows.is_empty() {
        return String::new();
    }
    let title = if more > 0 { format!("{what} (most changed first)") } else { what.to_string() };
    let mut header = vec![title.as_str(), "is", "dtype"];
    header.extend(if deltas {
        ["|A-W|", "|B-W|", "cos", "change"]
    } else {
        ["differ", "change", "max", "cosine"]
    });
    let mut lines = table(&header);
    for t in rows {
        let change = t.change.as_ref();
        let of = |value: &dyn Fn(&Sums) -> Option<f64>| change.and_then(|c| value(&c.whole));
        let distance = cell(of(&Sums::distance), relative);
        let mut row = vec![t.name.clone(), word(t.state), stored(t)];
        if deltas {
            let added = change.and_then(|c| c.deltas);
            row.push(cell(added.map(|d| d.norms().0), number));
            row.push(cell(added.map(|d| d.norms().1), number));
            row.push(cell(added.and_then(|d| d.cosine()), four));
            row.push(distance);
        } else {
            row.push(cell(change.map(|c| c.share()), percent));
            row.push(distance);
            row.push(cell(change.map(|c| c.largest), number));
            row.push(cell(of(&Sums::cosine), |cosine| format!("{cosine:.6}")));
        }
        lines.add_row(row);
    }
    let mut text = String::from("\n");
    print_table(&mut text, &lines);
    text + &and_more(more, "")
}

fn and_more(more: usize, what: &str) -> String {
    match more {
        0 => String::new(),
        _ => format!("  ... {more} more{what} (all with `--verbose` or `--json`)\n"),
    }
}

/// Fields of configurations that differ; `title` names the file.
fn fields(fields: &[FieldDiff], title: &str, ui: &Ui) -> String {
    if fields.is_empty() {
        return String::new();
    }
    let shown = if ui.verbose { fields.len() } else { fields.len().min(FIELDS) };
    let mut lines = table(&[title, "A", "B"]);
    for field in &fields[..shown] {
        let value = |value: &Option<String>| value.as_ref().map_or("-".into(), |text| shorten(text));
        lines.add_row([field.field.clone(), value(&field.a), value(&field.b)]);
    }
    let mut text = String::from("\n");
    print_table(&mut text, &lines);
    text + &and_more(fields.len() - shown, "")
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(32) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

/// Whether a side holds NaN or infinity.
fn holds_non_finite(tensor: &TensorDiff) -> bool {
    tensor.change.as_ref().is_some_and(|c| c.non_finite != (0, 0))
}

/// Lines that say which values are left out of norms.
fn non_finite(tensors: &[TensorDiff]) -> String {
    let mut text = String::new();
    for t in tensors {
        let Some((a, b)) = t.change.as_ref().map(|c| c.non_finite).filter(|n| *n != (0, 0)) else { continue };
        let _ = writeln!(
            text,
            "  `{}`: NaN or infinite values, {a} in A and {b} in B, are left out",
            shown(&t.name)
        );
    }
    text
}
