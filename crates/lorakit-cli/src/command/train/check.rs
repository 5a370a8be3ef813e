//! `lorakit train --check-data`: what becomes of rows, and which tokens are trained.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use lorakit_train::data::{Example, Place, Report, Rows};
use lorakit_train::run;
use lorakit_train::settings::Settings;
use serde_json::{Value, json};

use super::SCHEMA;
use crate::error::Failure;
use crate::table::{print_table, table};
use crate::ui::Ui;
use crate::{names, units};

/// Trained text.
const TRAINED: Style = AnsiColor::Green.on_default().bold();
/// Ranges of lengths that are shown.
const RANGES: usize = 8;
/// Columns of the longest bar.
const BAR: usize = 30;

pub(super) fn run(settings: &Settings, ui: &Ui) -> Result<(), Failure> {
    let checked = run::check_data(settings)?;
    let validation = checked.validation.as_ref();
    if ui.json {
        let data = json!({ "training": object(&checked.training), "validation": validation.map(object) });
        ui.json(SCHEMA, json!({ "dry_run": true, "data": data }))?;
    } else {
        let mut text = of(&checked.training, "training");
        if let Some(validation) = validation {
            text.push('\n');
            text += &of(validation, "validation");
        }
        for example in &checked.training.examples {
            text.push('\n');
            text += &shown(example, &checked.training);
        }
        ui.result(&text)?;
    }
    // What a run would refuse.
    Ok(checked.verdict()?)
}

/// The report of some rows.
fn of(report: &Report, what: &str) -> String {
    let mut text = String::new();
    let share = 100.0 * report.supervised as f64 / report.tokens.max(1) as f64;
    let _ = writeln!(
        text,
        "{what}: {} with {} tokens, {} of them ({share:.1} %) trained",
        units::plural(report.documents, "document"),
        units::count(report.tokens),
        units::count(report.supervised),
    );
    text += &files(report);
    text.push('\n');
    lengths(&mut text, report);
    text.push('\n');
    for (method, rows) in &report.methods {
        let _ = writeln!(text, "what is trained: {} ({})", method.name(), units::plural(*rows, "row"));
    }
    if !report.ends_of_turn.is_empty() {
        let ends: Vec<String> =
            report.ends_of_turn.iter().map(|end| format!("`{}`", names::shown(end))).collect();
        let stops = if report.stops { "which ends generation" } else { "which does not end generation" };
        let _ = writeln!(text, "a turn ends with {}, {stops}", ends.join(" or "));
    }
    let notes = [
        (&report.too_long, "longer than `seq_len`"),
        (&report.dropped, "dropped for that"),
        (&report.nothing_trained, "with nothing to train, left out"),
        (&report.weightless, "with the weight 0, left out"),
        (&report.duplicates, "equal to an earlier one"),
        (&report.unmasked_ends, "whose end of turn is not trained"),
        (&report.missing_ends, "with an answer that nothing ends"),
        (&report.empty_answers, "with an answer without words"),
        (&report.straddling, "in which a token is half prompt, half answer"),
        (&report.unwritten_tools, "with tools that the template does not write"),
    ];
    for (rows, about) in notes.into_iter().filter(|(rows, _)| rows.count > 0) {
        let _ = writeln!(text, "{} {about}, first {}", units::plural(rows.count, "row"), first(rows, report));
    }
    if let Some(leaked) = report.leaked {
        let _ = writeln!(text, "{} of the validation are also trained", units::plural(leaked, "document"));
    }
    let thinking = &report.thinking;
    if thinking.rows > 0 {
        let _ = writeln!(
            text,
            "{} with `<think>`: {} filled, {} empty and trained, {} empty and given by the prompt",
            units::plural(thinking.rows, "row"),
            thinking.filled,
            thinking.empty_trained,
            thinking.empty_masked
        );
    } else if report.template_thinks {
        text += "the template knows `<think>`, and no row has thoughts: after training the model may not think either\n";
    }
    if report.dated.count > 0 {
        let rows = units::plural(report.dated.count, "row");
        let _ = writeln!(
            text,
            "the template writes the date into {rows}: that of the day on which a run begins, unless `template_day` says another"
        );
    }
    text
}

/// What is in each file.
fn files(report: &Report) -> String {
    let mut files = table(&["file", "format", "rows", "documents", "weight"]);
    for source in &report.sources {
        files.add_row([
            names::path(&source.path),
            source.format.name().to_string(),
            source.rows.to_string(),
            source.documents.to_string(),
            source.weight.to_string(),
        ]);
    }
    let mut text = String::from("\n");
    print_table(&mut text, &files);
    text
}

/// How long rows are: some quantiles, and a bar for each range.
fn lengths(text: &mut String, report: &Report) {
    let at = |share| report.lengths.quantile(share);
    let _ = writeln!(
        text,
        "tokens of a row: {} to {}, mean {:.0}, half below {}, 95 % below {}",
        at(0.0),
        at(1.0),
        report.lengths.mean(),
        at(0.5),
        at(0.95)
    );
    let ranges = report.lengths.histogram(RANGES);
    let most = ranges.iter().map(|(_, _, rows)| *rows).max().unwrap_or(0).max(1);
    let wide = ranges.last().map_or(1, |(_, end, _)| end.to_string().len());
    for (start, end, rows) in ranges {
        let bar = "#".repeat((rows * BAR).div_ceil(most));
        let _ = writeln!(text, "  {start:>wide$}-{end:<wide$} {bar} {rows}");
    }
}

fn first(rows: &Rows, report: &Report) -> String {
    rows.first.map_or(String::new(), |place| place_of(place, report))
}

/// `rows.jsonl:12`.
fn place_of(place: Place, report: &Report) -> String {
    let path = report.sources.get(place.source).map(|source| names::path(&source.path));
    format!("`{}:{}`", path.unwrap_or_default(), place.line)
}

/// An example: trained text in colour and between brackets, so that it is seen without colour too.
fn shown(example: &Example, report: &Report) -> String {
    let mut text =
        format!("{}: trained text is between {TRAINED}⟦ ⟧{TRAINED:#}\n", place_of(example.place, report));
    for span in &example.spans {
        let own = names::shown_lines(&span.text);
        if span.trained {
            let _ = write!(text, "{TRAINED}⟦{own}⟧{TRAINED:#}");
        } else {
            text += &own;
        }
    }
    text.push('\n');
    text
}

fn object(report: &Report) -> Value {
    let rows = |rows: &Rows| {
        json!({
            "count": rows.count,
            "first": rows.first.map(|place| json!({
                "file": report.sources.get(place.source).map(|source| &source.path), "line": place.line,
            })),
        })
    };
    let quantile = |share| report.lengths.quantile(share);
    json!({
        "files": report.sources.iter().map(|source| json!({
            "file": source.path, "format": source.format.name(), "rows": source.rows,
            "documents": source.documents, "weight": source.weight,
        })).collect::<Vec<_>>(),
        "rows": report.rows,
        "documents": report.documents,
        "tokens": report.tokens,
        "supervised_tokens": report.supervised,
        "lengths": {
            "shortest": quantile(0.0), "median": quantile(0.5), "p95": quantile(0.95), "longest": quantile(1.0),
            "mean": report.lengths.mean(),
        },
        "masks": report.methods.iter().map(|(method, rows)| json!({ "method": method.name(), "rows": rows })).collect::<Vec<_>>(),
        "ends_of_turn": report.ends_of_turn,
        "stops": report.stops,
        "too_long": rows(&report.too_long),
        "dropped": rows(&report.dropped),
        "nothing_trained": rows(&report.nothing_trained),
        "weightless": rows(&report.weightless),
        "duplicates": rows(&report.duplicates),
        "unmasked_ends": rows(&report.unmasked_ends),
        "missing_ends": rows(&report.missing_ends),
        "empty_answers": rows(&report.empty_answers),
        "straddling": rows(&report.straddling),
        "unwritten_tools": rows(&report.unwritten_tools),
        "dated": rows(&report.dated),
        "leaked": report.leaked,
        "think_blocks": {
            "rows": report.thinking.rows, "filled": report.thinking.filled,
            "empty_trained": report.thinking.empty_trained, "empty_masked": report.thinking.empty_masked,
        },
        "examples": report.examples.iter().map(|example| json!({
            "file": report.sources.get(example.place.source).map(|source| &source.path),
            "line": example.place.line,
            "spans": example.spans.iter().map(|span| json!({
                "text": span.text, "trained": span.trained, "weight": span.weight, "tokens": span.tokens,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}
