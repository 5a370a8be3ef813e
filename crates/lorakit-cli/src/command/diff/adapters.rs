//! Two adapters.

use std::fmt::{Display, Write as _};

use lorakit::ops::diff::{AdapterDiff, AdapterSide, ModuleDiff, ModuleSide, State};

use super::{
    WORST, and_more, apart, cell, differ, fields, four, holds_non_finite, non_finite, relative, tally,
    tensors, word,
};
use crate::command::inspect::text::number;
use crate::names;
use crate::table::{print_table, table};
use crate::ui::Ui;
use crate::units;

/// The result in one line.
pub(super) fn headline(found: &AdapterDiff) -> String {
    let states = || found.modules.iter().map(|m| m.state).chain(found.parameters.iter().map(|p| p.state));
    let differing = found.modules.iter().filter(|m| m.state.differs()).count();
    let parameters = found.parameters.iter().filter(|p| p.state.differs()).count();
    let format = if found.a.format == found.b.format { "" } else { ", in another format" };
    if states().all(|s| s == State::Same) {
        return format!("the same deltas{format}: every factor, byte for byte");
    }
    if !found.differs() {
        return format!("the same deltas{}", if format.is_empty() { ", stored otherwise" } else { format });
    }
    if states().all(|s| !s.differs() || s == State::Recast) {
        return format!("the same deltas within the rounding of their dtypes{format}");
    }
    if let Some(factor) = found.rescaled() {
        return format!("B is {factor:.3} times A{format}");
    }
    if differing == 0 {
        let all = units::plural(found.parameters.len(), "parameter");
        let bad = found.parameters.iter().filter(|p| p.state.differs() && holds_non_finite(p)).count();
        let bad = if bad == 0 { String::new() } else { format!(" ({bad} by NaN or infinity)") };
        return format!("the same deltas; {parameters} of {all} stored whole {}{bad}", differ(parameters));
    }
    if !found.modules.iter().any(ModuleDiff::shared) {
        return format!("no module in common: {}", tally(found.modules.iter().map(|m| m.state)));
    }
    let of_all =
        format!("{differing} of {} {}", units::plural(found.modules.len(), "module"), differ(differing));
    // NaN and infinity are in none of the figures.
    let bad = match found.modules.iter().filter(|m| m.state == State::NonFinite).count() {
        0 => String::new(),
        bad if bad == differing => return format!("{of_all} by NaN or infinite values in the factors"),
        bad => format!(" ({bad} by NaN or infinity)"),
    };
    format!(
        "{of_all}{bad}; cosine of all deltas {}, ||B - A|| = {} ||A||",
        cell(found.total.cosine(), four),
        cell(found.total.distance(), number),
    )
}

/// Everything below the first line.
pub(super) fn report(found: &AdapterDiff, ui: &Ui) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "  A  {}", side(&found.a, found.modules.iter().filter_map(|m| m.a.as_ref())));
    let _ = writeln!(text, "  B  {}", side(&found.b, found.modules.iter().filter_map(|m| m.b.as_ref())));
    if !found.modules.is_empty() {
        let _ = writeln!(text, "  modules: {}", tally(found.modules.iter().map(|m| m.state)));
    }
    if !found.parameters.is_empty() {
        let _ = writeln!(text, "  stored whole: {}", tally(found.parameters.iter().map(|p| p.state)));
    }
    if found.parameters.iter().any(|p| p.name.ends_with("(DoRA magnitude)")) {
        text += "  DoRA: the low-rank parts are compared as deltas, the magnitudes as vectors\n";
    }
    text += &non_finite(&found.parameters);
    text += &fields(&found.config, "configuration", ui);
    // One line is enough if every module is rescaled alike.
    if ui.verbose || found.rescaled().is_none() {
        text += &modules(&found.modules, ui);
    }
    text + &tensors(&found.parameters, "stored whole", ui)
}

fn side<'a>(side: &AdapterSide, modules: impl Iterator<Item = &'a ModuleSide> + Clone) -> String {
    let dtypes = modules.clone().flat_map(|m| [m.dtypes.0, m.dtypes.1]);
    format!(
        "`{}` ({}, {}, rank {}, scale {}, {})",
        names::path(&side.path),
        side.format,
        units::plural(side.modules, "module"),
        range(modules.clone().map(|m| m.rank as f64)),
        range(modules.clone().map(|m| m.scale)),
        distinct(dtypes),
    )
}

/// The least and the most, `14-31`; with negative numbers, `-2 to 2`.
fn range(values: impl Iterator<Item = f64> + Clone) -> String {
    let least = values.clone().reduce(f64::min);
    match (least, values.reduce(f64::max)) {
        (Some(least), Some(most)) if least < most => {
            let to = if least < 0.0 { " to " } else { "-" };
            format!("{}{to}{}", number(least), number(most))
        }
        (Some(value), _) => number(value),
        (None, _) => "-".into(),
    }
}

/// The different values.
fn distinct<T: Display>(values: impl Iterator<Item = T>) -> String {
    let mut known: Vec<String> = Vec::new();
    for value in values.map(|v| v.to_string()) {
        if !known.contains(&value) {
            known.push(value);
        }
    }
    if known.is_empty() { "-".into() } else { known.join(" ") }
}

fn modules(modules: &[ModuleDiff], ui: &Ui) -> String {
    let mut rows: Vec<&ModuleDiff> = modules.iter().filter(|m| ui.verbose || m.state.differs()).collect();
    if !ui.verbose {
        let distance = |m: &ModuleDiff| apart(m.sums.filter(|_| m.shared()).and_then(|s| s.distance()));
        rows.sort_by(|x, y| distance(y).total_cmp(&distance(x)));
    }
    let more = if ui.verbose { 0 } else { rows.len().saturating_sub(WORST) };
    rows.truncate(rows.len() - more);
    if rows.is_empty() {
        return String::new();
    }
    let title = if more > 0 { "module (furthest apart first)" } else { "module" };
    let mut lines = table(&[title, "is", "ranks", "|A|", "|B|", "|B|/|A|", "cosine", "|B-A|/|A|"]);
    for m in rows {
        let sums = |present: bool| m.sums.filter(|_| present);
        let both = sums(m.shared());
        let rank = |side: &Option<ModuleSide>| side.as_ref().map_or("-".into(), |s| s.rank.to_string());
        lines.add_row([
            m.path.clone(),
            word(m.state),
            format!("{} {}", rank(&m.a), rank(&m.b)),
            cell(sums(m.a.is_some()).map(|s| s.norms().0), number),
            cell(sums(m.b.is_some()).map(|s| s.norms().1), number),
            cell(both.and_then(|s| s.ratio()), number),
            cell(both.and_then(|s| s.cosine()), four),
            cell(both.and_then(|s| s.distance()), relative),
        ]);
    }
    let mut text = String::from("\n");
    print_table(&mut text, &lines);
    text + &and_more(more, "")
}
