//! Tables in the house style: no borders, two columns of indentation, numbers to the right.
//!
//! In a file or a pipe each row is one line, and its name stays whole, to be searched for. On a terminal a table that
//! is too wide breaks the words of its header, then the names in its first column after dots; if that does not make
//! it narrow enough, each row becomes a name and, below it, its values with their headings.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Row, Table, presets};

use crate::{names, width};

/// The narrowest column of names that are broken.
const NARROWEST: usize = 20;
/// Spaces between two columns.
const GAP: usize = 2;

/// A table with this header. The first column is text, the others are numbers.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((GAP as u16, 0));
        if i > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A table as lines for the terminal or the pipe that shows results, without spaces at their ends.
pub(crate) fn print_table(text: &mut String, table: &Table) {
    print(text, table, width::of_results());
}

/// Prints the first rows of a table that has `more`.
pub(crate) fn print_first(text: &mut String, table: &Table, more: usize) {
    print_table(text, table);
    if more > 0 {
        let _ = writeln!(text, "  ... {more} more (all with `--verbose` or `--json`)");
    }
}

fn print(text: &mut String, table: &Table, width: Option<usize>) {
    let header = table.header().map(cells).unwrap_or_default();
    let rows: Vec<Vec<String>> = table.row_iter().map(cells).collect();
    let (header, rows) = match width.map(|width| fitted(&header, &rows, width)) {
        None | Some(Fit::Whole) => (header, rows),
        Some(Fit::Columns(columns)) => {
            let rows = rows.iter().map(|row| {
                let mut row = row.clone();
                if let (Some(name), Some(width)) = (row.first_mut(), columns.first()) {
                    *name = broken(name, *width);
                }
                row
            });
            (headings(&header, &columns), rows.collect())
        }
        Some(Fit::Records) => return records(text, &header, &rows, width.unwrap_or(usize::MAX)),
    };
    let mut laid = table_like(table, header);
    for row in rows {
        laid.add_row(row);
    }
    for line in laid.to_string().lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

fn cells(row: &Row) -> Vec<String> {
    row.cell_iter().map(|cell| names::shown(&cell.content()).into_owned()).collect()
}

/// An empty table whose columns are aligned as those of another.
fn table_like(other: &Table, header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for (column, like) in table.column_iter_mut().zip(other.column_iter()) {
        *column = like.clone();
    }
    table
}

/// How a table fits a terminal.
enum Fit {
    /// As it is.
    Whole,
    /// With columns of these widths.
    Columns(Vec<usize>),
    /// Not as a table.
    Records,
}

fn fitted(header: &[String], rows: &[Vec<String>], width: usize) -> Fit {
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| width::columns(cell)).max().unwrap_or(0)
    };
    let cells: Vec<usize> = (0..header.len()).map(widest).collect();
    let whole: Vec<usize> = header.iter().zip(&cells).map(|(h, cell)| width::columns(h).max(*cell)).collect();
    let total = |columns: &[usize]| columns.iter().map(|column| column + GAP).sum::<usize>();
    if total(&whole) <= width {
        return Fit::Whole;
    }
    let word = |heading: &String| heading.split(' ').map(width::columns).max().unwrap_or(0);
    let mut columns: Vec<usize> = header.iter().zip(&cells).map(|(h, cell)| word(h).max(*cell)).collect();
    let Some(name) = cells.first() else { return Fit::Whole };
    columns[0] = 0;
    let room = width.saturating_sub(total(&columns));
    if room < NARROWEST.min(*name) {
        return Fit::Records;
    }
    columns[0] = room.min(whole[0]);
    // What is left goes to headings that would take two lines.
    let mut left = room - columns[0];
    for (column, whole) in columns.iter_mut().zip(&whole).skip(1) {
        let missing = whole.saturating_sub(*column);
        if missing <= left {
            *column += missing;
            left -= missing;
        }
    }
    Fit::Columns(columns)
}

/// The header with its words on several lines, which end at the same height.
fn headings(header: &[String], columns: &[usize]) -> Vec<String> {
    let lines: Vec<Vec<String>> =
        header.iter().zip(columns).map(|(heading, width)| filled(heading.split(' '), *width, " ")).collect();
    let height = lines.iter().map(Vec::len).max().unwrap_or(0);
    lines.iter().map(|lines| "\n".repeat(height - lines.len()) + &lines.join("\n")).collect()
}

/// A name on lines of at most `width` columns, which end after dots where they can.
fn broken(name: &str, width: usize) -> String {
    if width::columns(name) <= width {
        return name.into();
    }
    let mut parts: Vec<&str> = Vec::new();
    for mut part in name.split_inclusive(['.', '/', ' ']) {
        while width::columns(part) > width {
            let mut end = 0;
            for (at, c) in part.char_indices() {
                end = at + c.len_utf8();
                if width::columns(&part[..end]) >= width {
                    break;
                }
            }
            parts.push(&part[..end]);
            part = &part[end..];
        }
        parts.push(part);
    }
    filled(parts, width, "").join("\n")
}

/// Lines of as many parts as fit.
fn filled<'p>(parts: impl IntoIterator<Item = &'p str>, width: usize, between: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if width::columns(line) + width::columns(between) + width::columns(part) <= width => {
                *line += between;
                *line += part;
            }
            _ => lines.push(part.into()),
        }
    }
    lines
}

/// Each row as its name and, below, its values with their headings; a dash stands for no value.
fn records(text: &mut String, header: &[String], rows: &[Vec<String>], width: usize) {
    let indented = |text: &mut String, line: &str, indent: usize| {
        let _ = writeln!(text, "{:indent$}{}", "", line.trim_end());
    };
    if let Some(title) = header.first() {
        indented(text, title, 2);
    }
    for row in rows {
        let Some((name, values)) = row.split_first() else { continue };
        broken(name, width - 2).lines().for_each(|line| indented(text, line, 2));
        let is_said = |value: &str| !value.is_empty() && value != "-";
        let values = header.iter().skip(1).zip(values).filter(|(_, value)| is_said(value));
        let values: Vec<String> = values.map(|(heading, value)| format!("{heading} {value}")).collect();
        for line in filled(values.iter().map(String::as_str), width - 4, "   ") {
            for line in width::wrap(&line, width - 4) {
                indented(text, &line, 4);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{print, table};

    fn at(width: Option<usize>) -> String {
        let mut rows = table(&["module (worst first)", "rank", "signs against", "norm"]);
        rows.add_row(["model.layers.0.self_attn.q_proj", "16", "12.5 %", "0.1234"]);
        rows.add_row(["模型.layers.10.mlp\n.down_proj", "8", "-", "1.5"]);
        let mut text = String::new();
        print(&mut text, &rows, width);
        text
    }

    #[test]
    fn a_table_that_fits_stays_as_it_is() {
        insta::assert_snapshot!(at(None), @r#"
        module (worst first)             rank  signs against    norm
        model.layers.0.self_attn.q_proj    16         12.5 %  0.1234
        模型.layers.10.mlp\n.down_proj      8              -     1.5
        "#);
        assert_eq!(at(None), at(Some(70)));
    }

    #[test]
    fn headings_break_first_and_then_names() {
        insta::assert_snapshot!(at(Some(60)), @r#"
                                                 signs
        module (worst first)             rank  against    norm
        model.layers.0.self_attn.q_proj    16   12.5 %  0.1234
        模型.layers.10.mlp\n.down_proj      8        -     1.5
        "#);
        insta::assert_snapshot!(at(Some(50)), @r#"
                                           signs
        module (worst first)       rank  against    norm
        model.layers.0.self_attn.    16   12.5 %  0.1234
        q_proj
        模型.layers.10.mlp\n.         8        -     1.5
        down_proj
        "#);
    }

    #[test]
    fn rows_of_a_narrow_terminal_are_records() {
        insta::assert_snapshot!(at(Some(38)), @r#"
        module (worst first)
        model.layers.0.self_attn.q_proj
          rank 16   signs against 12.5 %
          norm 0.1234
        模型.layers.10.mlp\n.down_proj
          rank 8   norm 1.5
        "#);
        insta::assert_snapshot!(at(Some(24)), @r#"
        module (worst first)
        model.layers.0.
        self_attn.q_proj
          rank 16
          signs against 12.5 %
          norm 0.1234
        模型.layers.10.mlp\n.
        down_proj
          rank 8   norm 1.5
        "#);
    }
}
