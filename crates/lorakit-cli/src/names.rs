//! Names and paths as they are printed. They come from files of strangers: nothing in them ends a line or moves the
//! cursor.

use std::borrow::Cow;
use std::path::Path;

/// A path of the file system.
pub(crate) fn path(path: &Path) -> String {
    shown(&path.display().to_string()).into_owned()
}

/// A name, or a text that holds names, on one line: line breaks, escape codes and marks that turn the direction of
/// writing are spelt out, such as `\n` and `\u{1b}`.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unprintable(c) {
            shown.extend(c.escape_debug());
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

/// A text of several lines: what would move the cursor in another way is spelt out.
pub(crate) fn shown_lines(text: &str) -> String {
    text.split('\n').map(shown).collect::<Vec<_>>().join("\n")
}

/// A word as a shell reads it: quoted where it needs that.
pub(crate) fn in_a_shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn is_unprintable(c: char) -> bool {
    let breaks_lines = matches!(c, '\u{2028}' | '\u{2029}');
    let turns =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || breaks_lines || turns
}

#[cfg(test)]
mod tests {
    use super::{in_a_shell, shown};

    #[test]
    fn names_stay_on_their_line() {
        assert_eq!(shown("model.layers.0"), "model.layers.0");
        assert_eq!(shown("it's \"C:\\x\" 模型 e\u{301}"), "it's \"C:\\x\" 模型 e\u{301}");
        assert_eq!(shown("a\nb\r\tc\u{1b}[2Jd\u{202e}e\u{9b}"), r"a\nb\r\tc\u{1b}[2Jd\u{202e}e\u{9b}");
    }

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        assert_eq!(in_a_shell("style/=0.65"), "style/=0.65");
        assert_eq!(in_a_shell("my adapter=1"), "'my adapter=1'");
        assert_eq!(in_a_shell("it's"), r"'it'\''s'");
        assert_eq!(in_a_shell(r"layers\.[0-5]\."), r"'layers\.[0-5]\.'");
        assert_eq!(in_a_shell(""), "''");
    }
}
