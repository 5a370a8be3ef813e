//! Values as they stand in a file, and as they are written again.

use lorakit::card::quoted;

/// A value as it stands in a file of settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Value {
    /// Nothing, `null` or `~`.
    #[default]
    Null,
    /// A text, a number or a truth value.
    Scalar {
        /// Without its quotes.
        text: String,
        /// Whether it has none, so that it may be a number or a truth value.
        plain: bool,
    },
    /// A list.
    List(Vec<Value>),
    /// A map, in its order.
    Map(Vec<(String, Value)>),
}

impl Value {
    pub(super) fn scalar(text: String, plain: bool) -> Self {
        if plain && ["", "~", "null", "Null", "NULL"].contains(&text.as_str()) {
            return Self::Null;
        }
        Self::Scalar { text, plain }
    }

    pub(super) fn plain(text: impl ToString) -> Self {
        Self::Scalar { text: text.to_string(), plain: true }
    }

    /// A text, whatever it looks like.
    pub(super) fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::Scalar { plain: is_plain(&text), text }
    }

    /// The text of a scalar.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The number that a scalar is: `1e-5` is one, although YAML 1.1 calls it a text.
    pub(super) fn as_number(&self) -> Option<f64> {
        let text = self.as_text()?;
        let digits = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        text.replace('_', "").parse().ok().filter(|number: &f64| digits && number.is_finite())
    }

    /// The whole number that a scalar is.
    pub(super) fn as_count(&self) -> Option<u64> {
        self.as_text()?.replace('_', "").parse().ok()
    }

    /// The truth value that a scalar is.
    pub(super) fn as_switch(&self) -> Option<bool> {
        match self.as_text()? {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        }
    }

    /// The value in one line, as YAML; JSON too, if nothing in it is a plain text.
    pub(super) fn flow(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Scalar { text, plain: true } => out.push_str(text),
            Self::Scalar { text, plain: false } => out.push_str(&quoted(text)),
            Self::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Map(members) => {
                out.push('{');
                for (at, (key, value)) in members.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    Self::text(key).write(out);
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// The value as JSON: what is plain and a number or a truth value is one.
    pub(crate) fn json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Scalar { text, plain } => {
                let typed = plain.then(|| {
                    let whole = self.as_count().map(serde_json::Value::from);
                    let number = || self.as_number().map(serde_json::Value::from);
                    self.as_switch().map(serde_json::Value::from).or(whole).or_else(number)
                });
                typed.flatten().unwrap_or_else(|| text.as_str().into())
            }
            Self::List(items) => items.iter().map(Self::json).collect(),
            Self::Map(members) => {
                let members = members.iter().map(|(key, value)| (key.clone(), value.json()));
                serde_json::Value::Object(members.collect())
            }
        }
    }
}

/// Whether a text is a text without quotes too, in a list and in every version of YAML.
fn is_plain(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || "-._/@+".contains(c);
    let reserved = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"]
        .contains(&text.to_ascii_lowercase().as_str());
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '.');
    let number = Value::Scalar { text: text.into(), plain: true }.as_number().is_some();
    first && text.chars().all(inside) && !reserved && !number && ![".inf", ".nan"].contains(&text)
}

/// A number as every version of YAML reads it: with a point before an exponent.
pub(super) fn number(value: f64) -> Value {
    let text = match format!("{value:e}").split_once('e') {
        Some((digits, exponent)) if value != 0.0 && !(1e-3..1e7).contains(&value.abs()) => {
            let point = if digits.contains('.') { "" } else { ".0" };
            let sign = if exponent.starts_with('-') { "" } else { "+" };
            format!("{digits}{point}e{sign}{exponent}")
        }
        _ => format!("{value}"),
    };
    Value::plain(text)
}
