//! The spectra of an adapter: how much of its rank it uses, by layer and kind of module.

use std::fmt::Write as _;

use comfy_table::CellAlignment;
use lorakit::ops::inspect::{AdapterReport, ModuleReport, Spectrum, uniform_rank};

use super::grid;
use crate::{table, width};

/// Heights of a sparkline, lowest first.
const BARS: &[char] = &['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Columns of a sparkline, where there is room.
const COLUMNS: usize = 24;
/// Columns of the rest of the table, for names of ordinary length.
const BESIDE: usize = 58;

/// Prints nothing unless spectra were asked for.
pub(super) fn render(text: &mut String, report: &AdapterReport, verbose: bool) {
    let spectra: Vec<&Spectrum> = report.modules.iter().filter_map(|m| m.spectrum.as_ref()).collect();
    if spectra.is_empty() {
        return;
    }
    grid::shares(text, report, "effective rank by layer", |module| {
        let spectrum = module.spectrum.as_ref()?;
        (!spectrum.values.is_empty()).then(|| spectrum.effective / spectrum.values.len() as f64)
    });
    let _ = writeln!(text, "\nspectra (medians of each kind of module)");
    let header = ["kind", "rank", "effective", "stable", "90 %", "99 %", "dead", "singular values"];
    let mut table = table::table(&header);
    // Left-aligned, so that first values line up, however many follow.
    if let Some(values) = table.column_mut(header.len() - 1) {
        values.set_cell_alignment(CellAlignment::Left);
    }
    for (leaf, members) in kinds(report, verbose) {
        let all: Vec<&Spectrum> = members.iter().filter_map(|m| m.spectrum.as_ref()).collect();
        if all.is_empty() {
            continue;
        }
        table.add_row(vec![
            leaf,
            format!("{:.0}", median(all.iter().map(|s| s.values.len() as f64))),
            format!("{:.1}", median(all.iter().map(|s| s.effective))),
            format!("{:.1}", median(all.iter().map(|s| s.stable))),
            format!("{:.0}", median(all.iter().map(|s| s.rank90 as f64))),
            format!("{:.0}", median(all.iter().map(|s| s.rank99 as f64))),
            all.iter().map(|s| s.dead).max().unwrap_or(0).to_string(),
            sparkline(&shape(&all)),
        ]);
    }
    table::print_table(text, &table);
    let of = |share: f64| uniform_rank(&report.modules, share).unwrap_or(0);
    let _ = writeln!(
        text,
        "  rank {} for all modules keeps 90 % of the adapter's energy, rank {} keeps 99 %",
        of(0.9),
        of(0.99)
    );
}

/// Modules by kind, or each by itself.
fn kinds(report: &AdapterReport, each: bool) -> Vec<(String, Vec<&ModuleReport>)> {
    let mut kinds: Vec<(String, Vec<&ModuleReport>)> = Vec::new();
    for module in &report.modules {
        let name = if each { &module.path } else { &module.leaf };
        match kinds.iter_mut().find(|(known, _)| known == name) {
            Some((_, members)) => members.push(module),
            None => kinds.push((name.clone(), vec![module])),
        }
    }
    kinds
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// The median of each singular value, relative to the first.
fn shape(spectra: &[&Spectrum]) -> Vec<f64> {
    let longest = spectra.iter().map(|s| s.values.len()).max().unwrap_or(0);
    let at = |k: usize| {
        median(spectra.iter().map(|s| {
            let most = s.values.first().copied().unwrap_or(0.0);
            s.values.get(k).filter(|_| most > 0.0).map_or(0.0, |v| v / most)
        }))
    };
    (0..longest).map(at).collect()
}

/// One column for each value, or for each run of neighbours, represented by its first.
fn sparkline(values: &[f64]) -> String {
    let room = width::of_results().map_or(COLUMNS, |width| width.saturating_sub(BESIDE).clamp(8, COLUMNS));
    let columns = values.len().min(room);
    let value = |column: usize| values[column * values.len() / columns.max(1)];
    let bar = |v: f64| BARS[((v * BARS.len() as f64).ceil() as usize).clamp(1, BARS.len()) - 1];
    (0..columns).map(|column| bar(value(column))).collect()
}

#[cfg(test)]
mod tests {
    use super::sparkline;

    #[test]
    fn sparklines_fall() {
        assert_eq!(sparkline(&[1.0, 0.5, 0.1, 0.0]), "█▄▁▁");
        assert_eq!(sparkline(&[1.0; 64]).chars().count(), 24);
        assert_eq!(sparkline(&[]), "");
    }
}
