//! The part of a card's text that lorakit writes, between two comments, so that the next verb replaces it.

use std::ops::Range;

pub(super) const BEGIN: &str =
    "<!-- lorakit: begin. This section is written by lorakit and replaced by its next run. -->";
pub(super) const END: &str = "<!-- lorakit: end -->";

/// Where the section is in `body`, its markers included. Both must stand at the start of a line.
pub(super) fn find(body: &str) -> Option<Range<usize>> {
    let start = line_that_is(body, 0, BEGIN)?;
    let end = line_that_is(body, start + BEGIN.len(), END)?;
    Some(start..end + END.len())
}

/// `body` without its section.
pub(super) fn without(body: &str) -> String {
    match find(body) {
        Some(range) => [&body[..range.start], &body[range.end..]].concat(),
        None => body.to_string(),
    }
}

/// The byte at which a line begins that is exactly `wanted`.
fn line_that_is(body: &str, from: usize, wanted: &str) -> Option<usize> {
    let mut found = body[from..].match_indices(wanted).map(|(at, _)| from + at);
    found.find(|at| {
        let before = body[..*at].chars().next_back().is_none_or(|c| ['\n', '\r'].contains(&c));
        let after = body[at + wanted.len()..].chars().next().is_none_or(|c| ['\n', '\r'].contains(&c));
        before && after
    })
}

/// `body` with `text` as its section: in the place of the old one, else at the top.
pub(super) fn placed(body: &str, text: &str, eol: &str) -> String {
    let text = text.trim_end().replace('\n', eol);
    let section = format!("{BEGIN}{eol}{text}{eol}{END}");
    if let Some(range) = find(body) {
        return format!("{}{section}{}", &body[..range.start], &body[range.end..]);
    }
    if body.trim().is_empty() {
        return format!("{eol}{section}{eol}");
    }
    let gap = if body.starts_with(['\n', '\r']) { eol.to_string() } else { format!("{eol}{eol}") };
    format!("{eol}{section}{gap}{body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_placed_once_and_everything_else_stays() {
        let first = placed("# Mine\n\ntext\n", "one\n", "\n");
        assert_eq!(first, format!("\n{BEGIN}\none\n{END}\n\n# Mine\n\ntext\n"));
        assert_eq!(placed(&first, "two\n", "\n"), first.replace("one", "two"));
        assert_eq!(placed("\n# Mine", "a\nb", "\r\n"), format!("\r\n{BEGIN}\r\na\r\nb\r\n{END}\r\n\n# Mine"));
        assert_eq!(placed("", "a", "\n"), format!("\n{BEGIN}\na\n{END}\n"));
    }

    #[test]
    fn markers_that_are_quoted_or_alone_are_text() {
        for body in [
            format!("`{BEGIN}`\n{END}\n"),
            format!("{BEGIN}\n"),
            format!("{END}\n{BEGIN}\n"),
            format!("> {BEGIN}\n{END}"),
        ] {
            assert_eq!(find(&body), None, "{body}");
            assert!(placed(&body, "x", "\n").ends_with(&body));
        }
    }
}
