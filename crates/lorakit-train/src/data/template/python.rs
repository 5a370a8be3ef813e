//! Values as Python prints them: templates are written for Jinja2, and what they print becomes tokens.

use std::fmt::{self, Write};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};
use serde_json::Value as Json;

/// Prints `value` as `str(value)` does.
pub(super) fn print(out: &mut dyn Write, value: &Value) -> fmt::Result {
    if value.is_undefined() {
        return Ok(());
    }
    match value.as_str() {
        Some(text) => out.write_str(text),
        None => repr(out, value),
    }
}

/// Prints `value` as `repr(value)` does.
fn repr(out: &mut dyn Write, value: &Value) -> fmt::Result {
    match value.kind() {
        ValueKind::None => out.write_str("None"),
        ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if value.is_integer() => write!(out, "{value}"),
        ValueKind::Number => match f64::try_from(value.clone()) {
            Ok(number) => out.write_str(&float(number)),
            Err(_) => write!(out, "{value}"),
        },
        ValueKind::String => quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            out.write_char('[')?;
            for (at, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.write_str(if at == 0 { "" } else { ", " })?;
                repr(out, &item)?;
            }
            out.write_char(']')
        }
        ValueKind::Map => {
            out.write_char('{')?;
            for (at, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.write_str(if at == 0 { "" } else { ", " })?;
                repr(out, &key)?;
                out.write_str(": ")?;
                repr(out, &value.get_item(&key).unwrap_or_default())?;
            }
            out.write_char('}')
        }
        _ => write!(out, "{value}"),
    }
}

/// A string with the quotes that Python prefers.
fn quoted(out: &mut dyn Write, text: &str) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.write_char(quote)?;
    for character in text.chars() {
        match character {
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\\' => out.write_str("\\\\")?,
            c if c == quote => write!(out, "\\{c}")?,
            c if c.is_control() && u32::from(c) < 256 => write!(out, "\\x{:02x}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char(quote)
}

/// A float as `repr` prints it: the fewest digits that give it back, with an exponent below -4 and from 16 on.
pub(super) fn float(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() {
            "nan".into()
        } else if number > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if number != 0.0 && !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{number:?}"),
    }
}

/// How `json.dumps` is asked to print.
#[derive(Default)]
struct Style {
    indent: Option<usize>,
    ascii: bool,
    sorted: bool,
    separators: Option<(String, String)>,
}

/// The filter `tojson` of transformers: `json.dumps(value, ensure_ascii=False)`, without the escapes for HTML that
/// Jinja's own has.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::BadSerialization, "an undefined value has no JSON"));
    }
    let separators = match options.get::<Option<Vec<String>>>("separators")? {
        Some(pair) => match <[String; 2]>::try_from(pair) {
            Ok([item, key]) => Some((item, key)),
            Err(_) => {
                return Err(Error::new(ErrorKind::InvalidOperation, "`separators` must be two strings"));
            }
        },
        None => None,
    };
    let style = Style {
        indent: options.get::<Option<usize>>("indent")?,
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        separators,
    };
    options.assert_all_used()?;
    let value = serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let mut out = String::new();
    style.write(&mut out, &value, 0);
    Ok(out)
}

/// `value` as `json.dumps(value, ensure_ascii=False)` prints it.
pub(in crate::data) fn json(value: &Json) -> String {
    let mut out = String::new();
    Style::default().write(&mut out, value, 0);
    out
}

impl Style {
    fn write(&self, out: &mut String, value: &Json, depth: usize) {
        match value {
            Json::Null => out.push_str("null"),
            Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Json::Number(number) => match number.as_f64() {
                Some(value) if number.is_f64() => out.push_str(&float(value)),
                _ => out.push_str(&number.to_string()),
            },
            Json::String(text) => self.string(out, text),
            Json::Array(items) => {
                self.enclosed(out, ['[', ']'], depth, items, |out, item| self.write(out, item, depth + 1));
            }
            Json::Object(object) => {
                let mut entries: Vec<_> = object.iter().collect();
                if self.sorted {
                    entries.sort_by_key(|(key, _)| *key);
                }
                let separator = self.separators.as_ref().map_or(": ", |(_, key)| key);
                self.enclosed(out, ['{', '}'], depth, &entries, |out, (key, value)| {
                    self.string(out, key);
                    out.push_str(separator);
                    self.write(out, value, depth + 1);
                });
            }
        }
    }

    fn enclosed<T>(
        &self,
        out: &mut String,
        [open, close]: [char; 2],
        depth: usize,
        items: &[T],
        write: impl Fn(&mut String, &T),
    ) {
        out.push(open);
        let separator = match &self.separators {
            Some((item, _)) => item,
            None if self.indent.is_some() => ",",
            None => ", ",
        };
        let line = |depth: usize| match self.indent {
            Some(indent) if !items.is_empty() => format!("\n{}", " ".repeat(indent * depth)),
            _ => String::new(),
        };
        for (at, item) in items.iter().enumerate() {
            out.push_str(if at == 0 { "" } else { separator });
            out.push_str(&line(depth + 1));
            write(out, item);
        }
        out.push_str(&line(depth));
        out.push(close);
    }

    fn string(&self, out: &mut String, text: &str) {
        out.push('"');
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if u32::from(c) < 0x20 || (self.ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_those_of_python() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (1.25e-5, "1.25e-05"),
            (f64::INFINITY, "inf"),
        ];
        for (number, expected) in cases {
            assert_eq!(float(number), expected);
        }
    }

    #[test]
    fn values_are_printed_as_python_prints_them() {
        let value = serde_json::json!({"a": [1, 2.0, true, null, "it's", "\"x'\n\u{1}"], "b": {}});
        let mut out = String::new();
        print(&mut out, &Value::from_serialize(&value)).unwrap();
        assert_eq!(out, r#"{'a': [1, 2.0, True, None, "it's", '"x\'\n\x01'], 'b': {}}"#);
        out.clear();
        print(&mut out, &Value::UNDEFINED).unwrap();
        print(&mut out, &Value::from("as it is")).unwrap();
        assert_eq!(out, "as it is");
    }
}
