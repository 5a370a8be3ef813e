//! The report on an adapter as text.

use std::fmt::Write as _;

use lorakit::lineage::Ancestry;
use lorakit::ops::inspect::{AdapterReport, FitReport, Grid, ModuleReport};

use super::text::{self, field};
use super::{grid, lineage, spectrum};
use crate::names::{self, shown};
use crate::{table, units};

/// Modules in the lists of the strongest and of the weakest.
const ENDS: usize = 4;
/// Saved parameters and token numbers that are listed.
const MAX_LISTED: usize = 6;

pub(super) fn render(report: &AdapterReport, verbose: bool) -> String {
    let mut text = text::title("adapter", &report.path);
    field(&mut text, "method", method(report));
    if !report.modules.is_empty() {
        field(&mut text, "rank", text::tally(report.ranks.iter().map(|(r, n)| (r, *n))));
        field(&mut text, "alpha", text::tally(report.alphas.iter().map(|(a, n)| (text::number(*a), *n))));
        field(&mut text, "scale", text::tally(report.scales.iter().map(|(s, n)| (text::number(*s), *n))));
    }
    let tensors = units::plural(report.tensors, "tensor");
    field(
        &mut text,
        "parameters",
        format!("{} in {tensors}, {}", units::count(report.parameters), units::size(report.bytes)),
    );
    field(&mut text, "dtype", text::dtypes(&report.dtypes));
    field(&mut text, "base model", report.base_model.as_deref().unwrap_or("not named"));
    field(&mut text, "made by", made_by(report));
    saved(&mut text, report);
    if let Some(fit) = &report.fit {
        let base = names::path(&fit.base);
        field(
            &mut text,
            "fit",
            match &fit.misfit {
                None => format!("fits `{base}`: changes {} of its {} tensors", fit.changed, fit.base_tensors),
                Some(why) => format!(
                    "does not fit `{base}`: {}",
                    why.trim_start_matches("does not fit the base model: ")
                ),
            },
        );
        if fit.misfit.is_none() {
            field(&mut text, "values", values(fit, fit.non_finite));
        }
    }
    grid::render(&mut text, report);
    let outside: Vec<&str> =
        report.modules.iter().filter(|m| m.layer.is_none()).map(|m| m.path.as_str()).collect();
    if !outside.is_empty() {
        let _ = writeln!(text, "\noutside the layers: {}", shown(&outside.join(", ")));
    }
    spectrum::render(&mut text, report, verbose);
    if verbose {
        let _ = writeln!(text, "\nmodules");
        modules(&mut text, report, &report.modules.iter().collect::<Vec<_>>());
    } else if report.norms {
        extremes(&mut text, report);
    }
    lineage::render(&mut text, report.lineage.as_ref());
    if let Some(target) = &report.target {
        text::target(&mut text, target);
    }
    text::findings(&mut text, &report.findings, !report.norms);
    text
}

/// Whether a merge would refuse the values, as far as they were read.
fn values(fit: &FitReport, non_finite: usize) -> String {
    let unread = match fit.base_tensors.saturating_sub(fit.checked) {
        0 => String::new(),
        n => format!("; the {n} others of the base were not read"),
    };
    match non_finite {
        0 => format!(
            "finite in the adapter and in the {} that it adds to{unread}",
            units::plural(fit.checked, "tensor")
        ),
        n => format!("a merge is refused: {} NaN or infinity{unread}", hold(n)),
    }
}

fn hold(tensors: usize) -> String {
    if tensors == 1 { "a tensor holds".into() } else { format!("{tensors} tensors hold") }
}

fn method(report: &AdapterReport) -> String {
    if report.modules.is_empty() {
        let multiplied = report.methods.iter();
        let multiplied =
            multiplied.map(|(method, n)| format!("{method}, multiplies {}", units::plural(*n, "weight")));
        let methods: Vec<String> = multiplied.collect();
        return if methods.is_empty() { "no low-rank modules".into() } else { methods.join("; ") };
    }
    let methods: Vec<String> = match report.methods.len() {
        1 => report.methods.keys().map(ToString::to_string).collect(),
        _ => report.methods.iter().map(|(method, n)| format!("{n} {method}")).collect(),
    };
    let adapted = |g: &Grid| {
        (0..g.layers)
            .filter(|&l| g.rows.iter().any(|r| r.cells.get(l).is_some_and(|c| !c.is_empty())))
            .count()
    };
    let layers: usize = report.grids.iter().map(adapted).sum();
    let modules = units::plural(report.modules.len(), "module");
    let layers = if layers == 0 { String::new() } else { format!(" in {}", units::plural(layers, "layer")) };
    let bias = if report.modules.iter().any(|m| m.bias) { ", with bias" } else { "" };
    format!("{}, {modules}{layers}{bias}", methods.join(", "))
}

fn made_by(report: &AdapterReport) -> String {
    let record = report.lineage.as_ref().and_then(Ancestry::record);
    let mut text = match (&record, &report.peft_version) {
        (Some(record), trained) => {
            let by = format!("lorakit {} (`{}`)", record.lorakit, record.verb);
            // These verbs change a trained adapter; others make something new.
            let changed = ["convert", "reduce"].contains(&record.verb.as_str());
            match trained {
                Some(version) if changed => format!("PEFT {version}, then {by}"),
                _ => by,
            }
        }
        (None, Some(version)) => format!("PEFT {version}"),
        _ if report.format != "peft" => format!("not said; a file in the format of {}", report.format),
        _ => "a version of PEFT that does not say its number (before 0.18), or another program".into(),
    };
    if let Some(task) = &report.task {
        let _ = write!(text, ", for {task}");
    }
    if !matches!(report.init.as_str(), "true" | "") {
        let _ = write!(text, ", initialised with `{}`", report.init);
    }
    text
}

fn saved(text: &mut String, report: &AdapterReport) {
    for (what, all) in [("saved whole", &report.saved), ("full deltas", &report.deltas)] {
        for (i, saved) in all.iter().take(MAX_LISTED).enumerate() {
            let label = if i == 0 { what } else { "" };
            field(text, label, format!("{} {:?}, {}", saved.name, saved.shape, units::size(saved.bytes)));
        }
        if all.len() > MAX_LISTED {
            field(text, "", format!("... {} more (all with `--json`)", all.len() - MAX_LISTED));
        }
    }
    for rows in &report.token_rows {
        let some: Vec<String> = rows.rows.iter().take(MAX_LISTED).map(ToString::to_string).collect();
        let more = if rows.rows.len() > MAX_LISTED { ", ..." } else { "" };
        let count = units::plural(rows.rows.len(), "row");
        field(text, "token rows", format!("{count} of {}: {}{more}", rows.path, some.join(", ")));
    }
}

/// The strongest and the weakest modules.
fn extremes(text: &mut String, report: &AdapterReport) {
    let relative = report.modules.iter().any(|m| m.relative.is_some());
    let strength = |m: &ModuleReport| grid::strength(m, relative);
    let mut sorted: Vec<&ModuleReport> = report.modules.iter().filter(|m| strength(m).is_some()).collect();
    if sorted.is_empty() {
        return;
    }
    sorted.sort_by(|x, y| strength(y).unwrap_or(0.0).total_cmp(&strength(x).unwrap_or(0.0)));
    if sorted.len() <= 2 * ENDS {
        let _ = writeln!(text, "\nmodules, strongest first");
        return modules(text, report, &sorted);
    }
    let _ = writeln!(text, "\nstrongest modules");
    modules(text, report, &sorted[..ENDS]);
    let _ = writeln!(text, "\nweakest modules");
    sorted.reverse();
    modules(text, report, &sorted[..ENDS]);
}

fn modules(text: &mut String, report: &AdapterReport, modules: &[&ModuleReport]) {
    let relative = report.modules.iter().any(|m| m.relative.is_some());
    let mut header = vec!["module", "rank", "scale", "B", "A"];
    if report.norms {
        header.push(grid::meaning(false));
    }
    if relative {
        header.push("/ ||W||");
    }
    let mut table = table::table(&header);
    for m in modules {
        let rank = m.experts.map_or_else(|| m.rank.to_string(), |e| format!("{e} x {}", m.rank));
        let shape = |s: &[usize]| s.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ");
        let mut row = vec![m.path.clone(), rank, text::number(m.scale), shape(&m.b), shape(&m.a)];
        if report.norms {
            row.push(m.norm.map_or_else(|| "?".into(), text::number));
        }
        if relative {
            row.push(m.relative.map_or_else(|| "?".into(), |r| grid::value(r, true)));
        }
        table.add_row(row);
    }
    table::print_table(text, &table);
}
