//! Columns: how wide the terminal is, how wide a text is, and lines that are broken where the terminal ends.

use std::env;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use anstream::adapter::strip_str;
use rustix::termios::tcgetwinsize;
use unicode_width::UnicodeWidthStr;

/// Lines are hard to read if they are longer, however wide the terminal is.
const MOST: usize = 100;
/// Narrower terminals break lines themselves.
const LEAST: usize = 20;
/// The width of a terminal that does not tell it.
const USUAL: usize = 80;
/// A value begins up to here, after a label of one or two words and a gap; other gaps are of something else.
const LABELS: usize = 20;
/// Words after which a text begins.
const MARKS: &[&str] =
    &["error: ", "hint: ", "note: ", "warning: ", "tip: ", "Usage: ", "Caused by: ", "-> "];

/// Columns of the terminal that shows results; `None` if there is none, since the lines of a file or a pipe are not
/// broken.
pub(crate) fn of_results() -> Option<usize> {
    of(io::stdout())
}

/// Columns of the terminal that shows messages and progress.
pub(crate) fn of_messages() -> Option<usize> {
    of(io::stderr())
}

fn of(stream: impl IsTerminal + AsFd) -> Option<usize> {
    if !stream.is_terminal() {
        return None;
    }
    let is_known = |columns: &usize| *columns > 0;
    let wanted = env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(is_known);
    let told = || tcgetwinsize(stream).ok().map(|size| size.ws_col.into()).filter(is_known);
    Some(wanted.or_else(told).unwrap_or(USUAL).clamp(LEAST, MOST))
}

/// Columns that a text takes, not counting the codes of colours.
pub(crate) fn columns(text: &str) -> usize {
    strip_str(text).map(UnicodeWidthStr::width).sum()
}

/// The text with lines of at most `width` columns, if there is a width.
pub(crate) fn fit(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return text.into() };
    let mut fitted = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        fitted += &wrap(line, width).join("\n");
        fitted += end;
    }
    fitted
}

/// A line as lines of at most `width` columns. What follows is indented to where the text of the first line begins.
/// Paths, numbers with their units, shapes, norms and text between backticks stay whole, unless they are wider than a line.
pub(crate) fn wrap(line: &str, width: usize) -> Vec<String> {
    if columns(line) <= width {
        return vec![line.into()];
    }
    let hang = hang(line).min(width * 2 / 5);
    let indent = line.len() - line.trim_start_matches(' ').len();
    let mut lines = vec![" ".repeat(indent)];
    let mut used = indent;
    let mut is_fresh = true;
    for (gap, piece) in pieces(&line[indent..], width - hang) {
        let taken = columns(piece);
        if !is_fresh && used + gap + taken > width {
            lines.push(" ".repeat(hang));
            used = hang;
            is_fresh = true;
        }
        let Some(last) = lines.last_mut() else { continue };
        let gap = if is_fresh { 0 } else { gap };
        *last += &" ".repeat(gap);
        *last += piece;
        used += gap + taken;
        is_fresh = false;
    }
    lines
}

/// Where the lines that follow begin.
fn hang(line: &str) -> usize {
    let line = strip_str(line).to_string();
    let text = line.trim_start_matches(' ');
    let indent = line.len() - text.len();
    if let Some(mark) = MARKS.iter().find(|mark| text.starts_with(**mark)) {
        return indent + mark.len();
    }
    let Some((label, rest)) = text.split_once("  ") else { return indent + 2 };
    let value = rest.trim_start_matches(' ');
    let begin = indent + columns(label) + 2 + rest.len() - value.len();
    let is_label = label.starts_with(char::is_alphanumeric) && label.split(' ').count() <= 2;
    if begin > LABELS || !is_label {
        return indent + 2;
    }
    let mark = MARKS.iter().find(|mark| value.starts_with(**mark));
    begin + mark.map_or(0, |mark| mark.len())
}

/// The parts of a text between which a line may end, each with the number of spaces before it.
fn pieces(text: &str, room: usize) -> Vec<(usize, &str)> {
    let mut pieces: Vec<(usize, &str)> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.trim_start_matches(' ');
        let gap = rest.len() - word.len();
        let end = end_of_piece(word);
        let piece = &word[..end];
        if columns(piece) > room {
            let mut words = piece.split(' ');
            pieces.extend(words.next().map(|word| (gap, word)));
            pieces.extend(words.map(|word| (1, word)));
        } else {
            pieces.push((gap, piece));
        }
        rest = &word[end..];
    }
    pieces
}

/// The first space at which `text` may be broken, or its end.
fn end_of_piece(text: &str) -> usize {
    let mut from = 0;
    while let Some(space) = text[from..].find(' ').map(|at| from + at) {
        let (before, after) = (&text[..space], &text[space + 1..]);
        let is_within =
            [("`", "`"), ("||", "||"), ("[", "]")].iter().any(|pair| is_open(before, after, *pair));
        if is_within || is_number_of(before, after) {
            from = space + 1;
        } else {
            return space;
        }
    }
    text.len()
}

/// Whether something that began before ends after.
fn is_open(before: &str, after: &str, (open, close): (&str, &str)) -> bool {
    let is_begun = if open == close {
        before.matches(open).count() % 2 == 1
    } else {
        before.rfind(open) > before.rfind(close)
    };
    is_begun && after.contains(close)
}

/// Whether a number stands before the space, and what it counts after it.
fn is_number_of(before: &str, after: &str) -> bool {
    let number =
        before.rsplit(' ').next().unwrap_or(before).trim_start_matches(['(', '~', '<', '>', '-', '`']);
    let is_number = number.starts_with(|c: char| c.is_ascii_digit())
        && number.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '%')
        && number.chars().all(|c| c.is_ascii_alphanumeric() || ".,%-".contains(c));
    let is_word = after.starts_with(|c: char| c.is_alphabetic() || c == '%');
    is_number && is_word && !number.ends_with('%')
}

#[cfg(test)]
mod tests {
    use super::{columns, fit, wrap};

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(columns("模型"), 4);
        assert_eq!(columns("e\u{301}"), 1);
        assert_eq!(columns("\u{1b}[1mbold\u{1b}[0m"), 4);
        assert_eq!(wrap("模型 模型 模型", 10), ["模型 模型", "  模型"]);
    }

    #[test]
    fn lines_hang_under_their_text() {
        let text = "  method        LoRA, 14 modules in 2 layers, with bias\n  warning  one of them is zero\nshort\n";
        insta::assert_snapshot!(fit(text, Some(36)), @"
          method        LoRA, 14 modules in
                      2 layers, with bias
          warning  one of them is zero
        short
        ");
        let error = "error: the adapter does not fit the base model\n\nhint: try `lorakit inspect ADAPTER`";
        insta::assert_snapshot!(fit(error, Some(30)), @"
        error: the adapter does not
               fit the base model

        hint: try `lorakit inspect
              ADAPTER`
        ");
        assert_eq!(fit(error, None), error);
    }

    #[test]
    fn wholes_are_not_broken() {
        let text = "wrote `a folder/of mine` (4.9 GB, 291 tensors) with BF16 [4096, 4096] in 41 s";
        for width in 26..60 {
            let lines = wrap(text, width);
            for whole in ["`a folder/of mine`", "4.9 GB", "291 tensors", "[4096, 4096]", "41 s"] {
                assert!(lines.iter().any(|line| line.contains(whole)), "{width} {lines:?}");
            }
            assert!(lines.iter().all(|line| columns(line) <= width), "{width} {lines:?}");
        }
        // Wider than a line: spaces are the best places left, and a path has none.
        assert_eq!(wrap("`lorakit merge BASE`", 12), ["`lorakit", "  merge", "  BASE`"]);
        assert_eq!(
            wrap("see /a/very/long/path/of/a/file now", 20),
            ["see", "  /a/very/long/path/of/a/file", "  now"]
        );
    }
}
