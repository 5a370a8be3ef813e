//! How each type of setting is read and written.

use std::path::PathBuf;

use super::choice::Report;
use super::value::{self, Value};
use crate::adapter::Layers;
use crate::data::{Day, Format, Source};

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A path.
    Path,
    /// A text.
    Text,
    /// A whole number.
    Count,
    /// A number.
    Number,
    /// Two numbers in a list.
    Pair,
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of these words.
    Choices(&'static [&'static str]),
    /// Bytes, as in `300M`.
    Size,
    /// A text or a list of texts.
    Texts,
    /// A path, a list of paths, or a list of `{path, weight, format}`.
    Sources,
    /// A path, a list of paths, or a share.
    Held,
    /// `all`, `last:N`, `FIRST-LAST` or a list of numbers.
    Layers,
    /// A map.
    Map,
    /// A day, as in 2026-11-30.
    Day,
}

impl Kind {
    /// What a value must be, as the end of a sentence.
    pub(super) fn expected(self) -> String {
        match self {
            Self::Path => "a path".into(),
            Self::Text => "a text".into(),
            Self::Count => "a whole number".into(),
            Self::Number => "a number".into(),
            Self::Pair => "two numbers, as in `[0.9, 0.999]`".into(),
            Self::Switch => "true or false".into(),
            Self::Choice(names) => format!("one of {}", names.join(", ")),
            Self::Choices(names) => format!("a list of {}", names.join(", ")),
            Self::Size => "a size, as in 300M or 2G".into(),
            Self::Texts => "a name or a list of names".into(),
            Self::Sources => {
                "a path, a list of paths, or a list of `{path: FILE, weight: NUMBER, format: NAME}`".into()
            }
            Self::Held => "a path, a list of paths, or a share such as 0.05".into(),
            Self::Layers => "`all`, `last:8`, `4-11`, or a list of numbers of layers".into(),
            Self::Map => "a map, as in `{enable_thinking: false}`".into(),
            Self::Day => "a day, as in 2026-11-30".into(),
        }
    }
}

/// A type of setting.
pub(super) trait Field: Sized {
    const KIND: Kind;
    /// What stands for no value of this type, if not `null` alone.
    const NONE: Option<&'static str> = None;
    fn read(value: &Value) -> Option<Self>;
    fn write(&self) -> Value;
}

impl Field for PathBuf {
    const KIND: Kind = Kind::Path;

    fn read(value: &Value) -> Option<Self> {
        value.as_text().filter(|text| !text.is_empty()).map(Self::from)
    }

    fn write(&self) -> Value {
        if self.as_os_str().is_empty() { Value::Null } else { Value::text(self.to_string_lossy()) }
    }
}

impl Field for u64 {
    const KIND: Kind = Kind::Count;

    fn read(value: &Value) -> Option<Self> {
        value.as_count()
    }

    fn write(&self) -> Value {
        Value::plain(self)
    }
}

impl Field for usize {
    const KIND: Kind = Kind::Count;

    fn read(value: &Value) -> Option<Self> {
        value.as_count()?.try_into().ok()
    }

    fn write(&self) -> Value {
        Value::plain(self)
    }
}

impl Field for f64 {
    const KIND: Kind = Kind::Number;

    fn read(value: &Value) -> Option<Self> {
        value.as_number()
    }

    fn write(&self) -> Value {
        value::number(*self)
    }
}

impl Field for (f64, f64) {
    const KIND: Kind = Kind::Pair;

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::List(items) => match items.as_slice() {
                [first, second] => Some((first.as_number()?, second.as_number()?)),
                _ => None,
            },
            _ => None,
        }
    }

    fn write(&self) -> Value {
        Value::List(vec![value::number(self.0), value::number(self.1)])
    }
}

impl Field for bool {
    const KIND: Kind = Kind::Switch;

    fn read(value: &Value) -> Option<Self> {
        value.as_switch()
    }

    fn write(&self) -> Value {
        Value::plain(self)
    }
}

impl<T: Field> Field for Option<T> {
    const KIND: Kind = T::KIND;

    fn read(value: &Value) -> Option<Self> {
        let none = *value == Value::Null || T::NONE.is_some_and(|none| value.as_text() == Some(none));
        if none { Some(None) } else { T::read(value).map(Some) }
    }

    fn write(&self) -> Value {
        match self {
            Some(value) => value.write(),
            None => T::NONE.map_or(Value::Null, Value::plain),
        }
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes(pub u64);

impl Field for Bytes {
    const KIND: Kind = Kind::Size;

    fn read(value: &Value) -> Option<Self> {
        lorakit::units::parse_size(value.as_text()?).ok().map(Self)
    }

    fn write(&self) -> Value {
        Value::plain(self.0)
    }
}

impl Field for Vec<String> {
    const KIND: Kind = Kind::Texts;

    fn read(value: &Value) -> Option<Self> {
        let texts: Self = match value {
            Value::List(items) => {
                items.iter().map(|item| item.as_text().map(str::to_string)).collect::<Option<_>>()?
            }
            value => value.as_text()?.split(',').map(|text| text.trim().to_string()).collect(),
        };
        (!texts.is_empty() && texts.iter().all(|text| !text.is_empty())).then_some(texts)
    }

    fn write(&self) -> Value {
        match self.as_slice() {
            [text] if !text.contains(',') => Value::text(text),
            texts => Value::List(texts.iter().map(Value::text).collect()),
        }
    }
}

impl Field for Vec<Report> {
    const KIND: Kind = match Report::KIND {
        Kind::Choice(names) => Kind::Choices(names),
        other => other,
    };

    fn read(value: &Value) -> Option<Self> {
        let words = match value {
            Value::List(items) => items.clone(),
            value => value.as_text()?.split(',').map(|word| Value::plain(word.trim())).collect(),
        };
        let mut reports = Self::new();
        for word in &words {
            let report = Report::read(word)?;
            if !reports.contains(&report) {
                reports.push(report);
            }
        }
        Some(reports)
    }

    fn write(&self) -> Value {
        Value::List(self.iter().map(Field::write).collect())
    }
}

impl Field for Vec<Source> {
    const KIND: Kind = Kind::Sources;

    fn read(value: &Value) -> Option<Self> {
        let one = |value: &Value| match value {
            Value::Map(members) => {
                let (mut path, mut weight, mut format) = (None, 1.0, None);
                for (key, value) in members {
                    match key.as_str() {
                        "path" => path = PathBuf::read(value),
                        "weight" => weight = value.as_number().filter(|weight| *weight > 0.0)?,
                        "format" => format = Option::<Format>::read(value)?,
                        _ => return None,
                    }
                }
                path.map(|path| Source { path, weight, format })
            }
            value => PathBuf::read(value).map(Source::new),
        };
        match value {
            Value::List(items) if items.is_empty() => None,
            Value::List(items) => items.iter().map(one).collect(),
            value => one(value).map(|source| vec![source]),
        }
    }

    fn write(&self) -> Value {
        let is_plain = |source: &Source| source.weight == 1.0 && source.format.is_none();
        let one = |source: &Source| {
            if is_plain(source) {
                return source.path.write();
            }
            let mut members = vec![("path".to_string(), source.path.write())];
            if source.weight != 1.0 {
                members.push(("weight".into(), value::number(source.weight)));
            }
            members.extend(source.format.map(|format| ("format".into(), format.write())));
            Value::Map(members)
        };
        match self.as_slice() {
            [] => Value::Null,
            [source] if is_plain(source) => one(source),
            sources => Value::List(sources.iter().map(one).collect()),
        }
    }
}

/// Where rows for validation come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Held {
    /// Files of their own.
    Files(Vec<PathBuf>),
    /// A share of the rows of the data, which are not trained on.
    Share(f64),
}

impl Field for Held {
    const KIND: Kind = Kind::Held;

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::List(items) if !items.is_empty() => {
                items.iter().map(PathBuf::read).collect::<Option<_>>().map(Self::Files)
            }
            value => match value.as_number() {
                Some(share) => (share > 0.0 && share < 1.0).then_some(Self::Share(share)),
                None => PathBuf::read(value).map(|path| Self::Files(vec![path])),
            },
        }
    }

    fn write(&self) -> Value {
        match self {
            Self::Share(share) => value::number(*share),
            Self::Files(paths) => match paths.as_slice() {
                [path] => path.write(),
                paths => Value::List(paths.iter().map(Field::write).collect()),
            },
        }
    }
}

impl Field for Layers {
    const KIND: Kind = Kind::Layers;

    fn read(value: &Value) -> Option<Self> {
        if let Value::List(items) = value {
            let one = |item: &Value| usize::read(item).map(|layer| (layer, layer));
            let these = items.iter().map(one).collect::<Option<Vec<_>>>()?;
            return (!these.is_empty()).then_some(Self::Ranges(these));
        }
        Self::parse(value.as_text()?).ok().filter(|layers| *layers != Self::Last(0))
    }

    fn write(&self) -> Value {
        match self {
            // As a text this would be a number.
            Self::Ranges(ranges) if ranges.iter().all(|(first, last)| first == last) => {
                Value::List(ranges.iter().map(|(layer, _)| layer.write()).collect())
            }
            Self::Ranges(ranges) if ranges.len() > 1 => Value::text(self.to_string()),
            layers => Value::plain(layers),
        }
    }
}

/// The variables of a chat template, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Variables(pub Vec<(String, Value)>);

impl Field for Variables {
    const KIND: Kind = Kind::Map;

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Map(members) => Some(Self(members.clone())),
            Value::Null => Some(Self::default()),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        Value::Map(self.0.clone())
    }
}

impl Field for Day {
    const KIND: Kind = Kind::Day;

    fn read(value: &Value) -> Option<Self> {
        value.as_text().and_then(Self::new)
    }

    fn write(&self) -> Value {
        Value::plain(self)
    }
}

/// Where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// At the latest checkpoint of the output; at the beginning if there is none.
    Auto,
    /// At this checkpoint.
    From(PathBuf),
}

impl Field for Resume {
    const KIND: Kind = Kind::Text;

    fn read(value: &Value) -> Option<Self> {
        match value.as_text()? {
            "auto" => Some(Self::Auto),
            _ => PathBuf::read(value).map(Self::From),
        }
    }

    fn write(&self) -> Value {
        match self {
            Self::Auto => Value::text("auto"),
            Self::From(path) => path.write(),
        }
    }
}
