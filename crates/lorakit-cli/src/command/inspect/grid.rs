//! The layer x module grid: one line for each kind of module, one character for each layer.

use std::fmt::Write as _;

use lorakit::ops::inspect::{AdapterReport, Grid, ModuleReport};

use super::text;
use crate::names::shown;
use crate::width;

/// Layers on one line, where there is room.
const PER_LINE: usize = 60;
/// Layers between two numbers of the ruler.
const STEP: usize = 10;
/// Signs of strength, weakest first.
const LEVELS: &[char] = &['.', ':', '-', '=', '#'];
const ADAPTED: char = '■';
const ABSENT: char = '·';
/// A module without a norm: its values are not finite, or cannot be decoded.
const UNKNOWN: char = '?';

/// Which modules are adapted, by rank where ranks differ; with norms also how strongly.
pub(super) fn render(text: &mut String, report: &AdapterReport) {
    let ranks: Vec<usize> = report.ranks.keys().copied().collect();
    let by_rank = ranks.len() > 1 && ranks.len() <= 26;
    let letter = |rank: usize| {
        let position = ranks.iter().position(|r| *r == rank).filter(|_| by_rank);
        position.map_or(ADAPTED, |i| char::from(b'a' + i as u8))
    };
    for grid in &report.grids {
        let what = if by_rank { "rank by layer" } else { "adapted modules by layer" };
        let _ = writeln!(text, "\n{what} ({})", range(grid));
        draw(text, grid, |cell| {
            let rank = cell.iter().filter_map(|&i| report.modules.get(i)).map(|m| m.rank).max();
            rank.map_or(ABSENT, letter)
        });
    }
    let cells = || report.grids.iter().flat_map(|g| &g.rows).flat_map(|r| &r.cells);
    let mut legend: Vec<String> = Vec::new();
    if by_rank && !report.grids.is_empty() {
        legend.extend(ranks.iter().map(|r| format!("{} rank {r}", letter(*r))));
    }
    if cells().any(Vec::is_empty) {
        if !by_rank {
            legend.push(format!("{ADAPTED} adapted"));
        }
        legend.push(format!("{ABSENT} not adapted"));
    }
    for line in legend.chunks(6) {
        let _ = writeln!(text, "  {}", line.join("   "));
    }
    if cells().any(|c| c.len() > 1) {
        let _ = writeln!(text, "  a cell stands for all experts of its layer");
    }
    if report.norms {
        strengths(text, report);
    }
}

/// `model.layers.0 to 29`.
fn range(grid: &Grid) -> String {
    match grid.layers {
        0 | 1 => format!("{}.0", shown(&grid.stem)),
        n => format!("{}.0 to {}", shown(&grid.stem), n - 1),
    }
}

/// The compared value: the norm, relative to the base weight if there is a base.
pub(super) fn strength(module: &ModuleReport, relative: bool) -> Option<f64> {
    if relative { module.relative } else { module.norm }
}

fn strengths(text: &mut String, report: &AdapterReport) {
    let relative = report.modules.iter().any(|m| m.relative.is_some());
    let cell = |cell: &[usize]| {
        let all = cell.iter().filter_map(|&i| report.modules.get(i)).map(|m| strength(m, relative));
        all.fold(None, |most: Option<Option<f64>>, s| Some(most.flatten().max_by_value(s)))
    };
    let values =
        report.grids.iter().flat_map(|g| &g.rows).flat_map(|r| &r.cells).filter_map(|c| cell(c).flatten());
    let most = values.fold(0.0, f64::max);
    if most <= 0.0 {
        return;
    }
    for grid in &report.grids {
        let _ = writeln!(text, "\nstrength by layer ({}), {}", range(grid), meaning(relative));
        draw(text, grid, |c| match cell(c) {
            None => ' ',
            Some(None) => UNKNOWN,
            Some(Some(value)) => {
                let level = (value / most * LEVELS.len() as f64).ceil() as usize;
                LEVELS[level.clamp(1, LEVELS.len()) - 1]
            }
        });
    }
    let steps: Vec<String> = LEVELS
        .iter()
        .enumerate()
        .map(|(i, sign)| format!("{sign} to {}", value(most * (i + 1) as f64 / 5.0, relative)))
        .collect();
    let unknown = report.modules.iter().any(|m| strength(m, relative).is_none());
    let unknown = if unknown { format!("   {UNKNOWN} unknown") } else { String::new() };
    let _ = writeln!(text, "  {}{unknown}", steps.join("   "));
}

/// A share from 0 to 1 of each module, by layer; a cell of several modules shows the largest.
pub(super) fn shares(
    text: &mut String,
    report: &AdapterReport,
    title: &str,
    share: impl Fn(&ModuleReport) -> Option<f64>,
) {
    for grid in &report.grids {
        let _ = writeln!(text, "\n{title} ({}), as a share of the rank", range(grid));
        draw(text, grid, |cell| {
            let shares = cell.iter().filter_map(|&i| report.modules.get(i)).filter_map(&share);
            match shares.fold(None, |most: Option<f64>, s| most.max_by_value(Some(s))) {
                None if cell.is_empty() => ' ',
                None => UNKNOWN,
                Some(share) => {
                    LEVELS[((share * LEVELS.len() as f64).ceil() as usize).clamp(1, LEVELS.len()) - 1]
                }
            }
        });
    }
    let steps: Vec<String> =
        LEVELS.iter().enumerate().map(|(i, sign)| format!("{sign} to {} %", 20 * (i + 1))).collect();
    if !report.grids.is_empty() {
        let _ = writeln!(text, "  {}", steps.join("   "));
    }
}

pub(super) fn meaning(relative: bool) -> &'static str {
    if relative { "||scale B A|| / ||W||" } else { "||scale B A||" }
}

/// A strength: as a percentage of the base weight's norm, or as it is.
pub(super) fn value(strength: f64, relative: bool) -> String {
    if relative { format!("{} %", text::number(strength * 100.0)) } else { text::number(strength) }
}

trait MaxByValue {
    fn max_by_value(self, other: Self) -> Self;
}

impl MaxByValue for Option<f64> {
    fn max_by_value(self, other: Self) -> Self {
        match (self, other) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        }
    }
}

fn draw(text: &mut String, grid: &Grid, sign: impl Fn(&[usize]) -> char) {
    let leaves: Vec<_> = grid.rows.iter().map(|row| shown(&row.leaf)).collect();
    let widest = leaves.iter().map(|leaf| width::columns(leaf)).max().unwrap_or(0).max("layer".len());
    let room = width::of_results().map_or(PER_LINE, |width| width.saturating_sub(widest + 4));
    let per_line = (room.min(PER_LINE) / STEP * STEP).max(STEP);
    for start in (0..grid.layers).step_by(per_line) {
        let end = (start + per_line).min(grid.layers);
        let _ = writeln!(text, "  {:widest$}  {}", "layer", ruler(start, end));
        for (row, leaf) in grid.rows.iter().zip(&leaves) {
            let cells: String = row.cells.iter().skip(start).take(end - start).map(|c| sign(c)).collect();
            let padding = widest - width::columns(leaf);
            let _ = writeln!(text, "  {leaf}{:padding$}  {}", "", cells.trim_end());
        }
    }
}

/// Layer numbers above their columns: every tenth, and the last.
fn ruler(start: usize, end: usize) -> String {
    let mut line = String::new();
    for layer in (start..end).step_by(STEP) {
        let _ = write!(line, "{layer:<STEP$}");
    }
    let last = (end - 1).to_string();
    let at = end - 1 - start;
    let used = line.trim_end().len();
    let mut line = line.trim_end().to_string();
    if at > used {
        let _ = write!(line, "{:1$}{last}", "", at - used);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::ruler;

    #[test]
    fn rulers_name_tens_and_the_last_layer() {
        assert_eq!(ruler(0, 1), "0");
        assert_eq!(ruler(0, 4), "0  3");
        assert_eq!(ruler(0, 30), "0         10        20       29");
        assert_eq!(ruler(60, 62), "60");
    }
}
