//! The YAML between the `---` lines: which keys it has, where they are, and how a value is written.
//!
//! A library reads it, event by event, so an alias is never followed and nothing can grow. Lines are edited, so that
//! all others stay as they were.

use std::fmt::Write as _;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// The most bytes that are read; the largest in use, with results of hundreds of evaluations, are a tenth of it.
const MAX_BYTES: usize = 1 << 20;

/// The value of a key in a card's front matter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// Nothing, `null` or `~`.
    Empty,
    /// A text, a number or a truth value, without its quotes.
    Text(String),
    /// A list of such.
    List(Vec<String>),
    /// Anything else: a map, a list of maps, an alias.
    Other,
}

/// A key, and the whole lines of it and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) lines: Range<usize>,
}

/// The members of a map in block style, in order, and the indentation of its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) members: Vec<Member>,
    pub(super) indent: String,
}

/// Reads a map.
///
/// # Errors
/// What is wrong, as the end of a sentence about the front matter.
pub(super) fn read(yaml: &str) -> Result<Map, String> {
    if yaml.len() > MAX_BYTES {
        return Err(format!("has {} bytes; at most {MAX_BYTES} are read", yaml.len()));
    }
    let mut events = Events { parser: Parser::new_from_str(yaml) };
    let places = Places { yaml, bytes: yaml.char_indices().map(|(at, _)| at).collect() };
    let mut map = Map::default();
    let mut documents = 0;
    loop {
        match events.next()? {
            (Event::StreamEnd, _) => return Ok(map),
            (Event::DocumentStart(_), _) if documents > 0 => {
                return Err("holds more than one document".into());
            }
            (Event::DocumentStart(_), _) => documents += 1,
            (Event::MappingStart(..), span) if span.is_empty() => {
                map = members(&mut events, &places)?;
            }
            (Event::MappingStart(..), _) => return Err("is written in braces".into()),
            (Event::Scalar(..) | Event::SequenceStart(..) | Event::Alias(_), _) => {
                return Err("is not a list of keys with values".into());
            }
            _ => {}
        }
    }
}

fn members(events: &mut Events<'_>, places: &Places<'_>) -> Result<Map, String> {
    let mut map = Map::default();
    loop {
        let (event, span) = events.next()?;
        if event == Event::MappingEnd {
            return Ok(map);
        }
        let start = places.line_start(span);
        if map.members.is_empty() {
            map.indent = places.indent(start);
        }
        let key = node(events, places, event, span)?;
        let (event, span) = events.next()?;
        let value = node(events, places, event, span)?;
        let end = places.line_end(key.end.max(value.end));
        let key = match key.value {
            Value::Text(text) => text,
            _ => String::new(),
        };
        map.members.push(Member { key, value: value.value, lines: start..end });
    }
}

/// A value, and the byte after its last character.
struct Node {
    value: Value,
    end: usize,
}

/// Reads the node that begins with `event`.
fn node(events: &mut Events<'_>, places: &Places<'_>, event: Event<'_>, span: Span) -> Result<Node, String> {
    let mut end = places.end(&event, span);
    let list = match event {
        Event::Scalar(text, style, ..) => {
            let empty = style == ScalarStyle::Plain && is_null(&text);
            let value = if empty { Value::Empty } else { Value::Text(text.into_owned()) };
            return Ok(Node { value, end });
        }
        Event::SequenceStart(..) => true,
        Event::MappingStart(..) => false,
        _ => return Ok(Node { value: Value::Other, end }),
    };
    let mut items = list.then(Vec::new);
    let mut depth = 1;
    while depth > 0 {
        let (event, span) = events.next()?;
        end = end.max(places.end(&event, span));
        match event {
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                depth += 1;
                items = None;
            }
            Event::MappingEnd | Event::SequenceEnd => depth -= 1,
            Event::Scalar(text, ..) => {
                if let Some(items) = &mut items {
                    items.push(text.into_owned());
                }
            }
            _ => items = None,
        }
    }
    Ok(Node { value: items.map_or(Value::Other, Value::List), end })
}

fn is_null(plain: &str) -> bool {
    ["", "~", "null", "Null", "NULL"].contains(&plain)
}

/// The parser, with the end of its stream as an error.
struct Events<'y> {
    parser: Parser<'y, saphyr_parser::StrInput<'y>>,
}

impl<'y> Events<'y> {
    fn next(&mut self) -> Result<(Event<'y>, Span), String> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let line = error.marker().line();
                Err(format!("is not YAML: {} (line {line} of it)", error.info()))
            }
            None => Err("is not YAML: it ends early".into()),
        }
    }
}

/// Where things are: markers count characters.
struct Places<'y> {
    yaml: &'y str,
    /// The byte of each character.
    bytes: Vec<usize>,
}

impl Places<'_> {
    fn byte(&self, character: usize) -> usize {
        self.bytes.get(character).copied().unwrap_or(self.yaml.len())
    }

    fn line_start(&self, span: Span) -> usize {
        self.yaml[..self.byte(span.start.index())].rfind(['\n', '\r']).map_or(0, |at| at + 1)
    }

    fn indent(&self, line: usize) -> String {
        self.yaml[line..].chars().take_while(|c| *c == ' ').collect()
    }

    /// The byte after the last visible character of an event. The span of a block of text reaches to the next line that
    /// holds something; what ends a block in block style has no characters.
    fn end(&self, event: &Event<'_>, span: Span) -> usize {
        if span.is_empty() || matches!(event, Event::MappingStart(..) | Event::SequenceStart(..)) {
            return 0;
        }
        let (start, end) = (self.byte(span.start.index()), self.byte(span.end.index()));
        start + self.yaml[start..end].trim_end().len()
    }

    /// The byte after the line in which `end` lies.
    fn line_end(&self, end: usize) -> usize {
        let rest = &self.yaml[end..];
        match rest.find(['\n', '\r']) {
            None => self.yaml.len(),
            Some(at) => end + at + if rest[at..].starts_with("\r\n") { 2 } else { 1 },
        }
    }
}

/// The lines of a member.
pub(super) fn written(key: &str, value: &Value, indent: &str, eol: &str) -> String {
    let key = scalar(key);
    match value {
        Value::Text(text) => format!("{indent}{key}: {}{eol}", scalar(text)),
        Value::List(items) if items.is_empty() => format!("{indent}{key}: []{eol}"),
        Value::List(items) => {
            let items: String = items.iter().map(|item| format!("{indent}- {}{eol}", scalar(item))).collect();
            format!("{indent}{key}:{eol}{items}")
        }
        Value::Empty | Value::Other => format!("{indent}{key}:{eol}"),
    }
}

/// A text as YAML 1.1 and 1.2 both read it: plain if that is safe, else in double quotes.
fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_string() } else { quoted(text) }
}

/// A text in double quotes, as YAML 1.1 and 1.2 both read it.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            // What YAML does not allow as it is, and what it takes for the end of a line.
            '\0'..' '
            | '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                let _ = write!(quoted, "\\u{:04X}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a text without quotes is a text in every version of YAML: a word, an identifier, a few words.
fn is_plain(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || " -._/+:@()".contains(c);
    let reserved = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"]
        .contains(&text.to_ascii_lowercase().as_str());
    let identifier = text.contains('/') && text.contains(|c: char| c.is_ascii_alphabetic());
    let first = |c: char| c.is_ascii_alphabetic() || (c.is_ascii_digit() && identifier);
    text.starts_with(first)
        && text.chars().all(inside)
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !reserved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines<'y>(yaml: &'y str, key: &str) -> &'y str {
        let map = read(yaml).unwrap();
        &yaml[map.members.iter().find(|member| member.key == key).unwrap().lines.clone()]
    }

    #[test]
    fn values_of_every_form() {
        let yaml = "license: apache-2.0 # free\nlanguage:\n- en\n- \"no\"\ntags: [chat, 'small', 7]\nempty:\nnone: ~\n\
                    model-index:\n- name: x\n  results: []\nwidget:\n  text: hi\ntext: >-\n  two\n  lines\nsame: &a b\nas: *a\n";
        let map = read(yaml).unwrap();
        let list = |items: &[&str]| Value::List(items.iter().map(ToString::to_string).collect());
        let text = |text: &str| Value::Text(text.to_string());
        let values: Vec<_> = map.members.into_iter().map(|member| (member.key, member.value)).collect();
        let expected = [
            ("license", text("apache-2.0")),
            ("language", list(&["en", "no"])),
            ("tags", list(&["chat", "small", "7"])),
            ("empty", Value::Empty),
            ("none", Value::Empty),
            ("model-index", Value::Other),
            ("widget", Value::Other),
            ("text", text("two lines")),
            ("same", text("b")),
            ("as", Value::Other),
        ];
        assert_eq!(values, expected.map(|(key, value)| (key.to_string(), value)));
    }

    #[test]
    fn lines_are_those_of_key_and_value() {
        let yaml = "a: 1 # one\r\n# of b\r\nb:\r\n- x\r\n\r\n# of c\r\nc: |\r\n  y\r\n\r\nd: {e: 1,\r\n f: 2}\r\n\r\né: \"ü\r\n  ö\"\r\ng:\r\nh: *i";
        let yaml = format!("i: &i 1\r\n{yaml}");
        assert_eq!(lines(&yaml, "a"), "a: 1 # one\r\n");
        assert_eq!(lines(&yaml, "b"), "b:\r\n- x\r\n");
        assert_eq!(lines(&yaml, "c"), "c: |\r\n  y\r\n");
        assert_eq!(lines(&yaml, "d"), "d: {e: 1,\r\n f: 2}\r\n");
        assert_eq!(lines(&yaml, "é"), "é: \"ü\r\n  ö\"\r\n");
        assert_eq!(lines(&yaml, "g"), "g:\r\n");
        assert_eq!(lines(&yaml, "h"), "h: *i");
        assert_eq!(read("  a: 1\n  b: 2\n").unwrap().indent, "  ");
    }

    #[test]
    fn what_is_not_a_map_is_said() {
        let wrong = |yaml: &str| read(yaml).unwrap_err();
        assert_eq!(wrong("a: 1\n---\nb: 2\n"), "holds more than one document");
        assert_eq!(wrong("- a\n"), "is not a list of keys with values");
        assert_eq!(wrong("{a: 1}\n"), "is written in braces");
        assert_eq!(wrong("text\n"), "is not a list of keys with values");
        assert!(wrong("a: [1\n").starts_with("is not YAML: "), "{}", wrong("a: [1\n"));
        assert!(wrong("a: *b\n").starts_with("is not YAML: "), "{}", wrong("a: *b\n"));
        assert!(wrong("a: b: c\n").contains("line 1 of it"), "{}", wrong("a: b: c\n"));
        assert_eq!(wrong(&"a".repeat(MAX_BYTES + 1)), "has 1048577 bytes; at most 1048576 are read");
        for none in ["", "\n", "# only a comment\n"] {
            assert_eq!(read(none).unwrap(), Map::default());
        }
    }

    #[test]
    fn bombs_do_not_go_off() {
        let aliases: String =
            (1..40).map(|i| format!("a{i}: &a{i} [{}]\n", format!("*a{},", i - 1).repeat(9))).collect();
        assert_eq!(read(&format!("a0: &a0 [x]\n{aliases}")).unwrap().members.len(), 40);
        for deep in ["[", "{a: ", "- ", "? ", "&", "*", "!", "|", "\"", "%"] {
            let _ = read(&format!("a: {}", deep.repeat(100_000)));
            let _ = read(&deep.repeat(100_000));
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same_text() {
        let texts = [
            "mit",
            "org/model",
            "01-ai/Yi-6B",
            "base_model:adapter:org/x",
            "no",
            "Null",
            "1.0",
            "1e3",
            "2024-01-01",
            "",
            " a ",
            "a: b",
            "a:",
            "#a",
            "a #b",
            "- a",
            "'a'",
            "\"\\",
            "ä🦙",
            "a\nb",
            "\u{85}\u{2028}\u{feff}\u{7}\u{7f}",
            "0x1F",
            "1:30",
            "@a",
            "*a",
            "&a",
            "!a",
            "%a",
            "`a",
            "[a]",
            "{a}",
            "~",
            "a\tb",
            ".inf",
            "=",
            "<<",
        ];
        for text in texts {
            let value = Value::Text(text.to_string());
            let list = Value::List(vec![text.to_string(); 2]);
            let yaml = written("k", &value, "", "\n") + &written(text, &list, "", "\n");
            let map = read(&yaml).unwrap();
            let found: Vec<_> = map.members.into_iter().map(|member| member.value).collect();
            assert_eq!(found, [value, list], "{yaml}");
        }
        assert_eq!(written("a b", &Value::List(vec![]), "  ", "\r\n"), "  a b: []\r\n");
    }
}
