//! Which entries are shown and judged: `format=peft`, `rank=16..`, `findings=warning`.

use super::codes::code;
use super::entry::Entry;
use super::glob::Glob;
use super::problem::Problem;
use crate::units::parse_size;
use crate::{Error, Result, Severity};

/// A condition that entries must meet: `KEY=VALUE`, or `KEY!=VALUE` for its opposite.
///
/// | keys | values |
/// |---|---|
/// | `path`, `kind`, `format`, `base`, `license` | a pattern; `*` stands for any text |
/// | `rank` | a number, or a range such as `8..32`, `16..`, `..64`, which must hold every rank |
/// | `size` | a range of sizes, such as `100MB..` |
/// | `findings` | `note`, `warning`, `error`: one of that severity or a graver one; the name of a finding; `none` |
///
/// ```
/// use lorakit::ops::audit::Filter;
///
/// assert!(Filter::parse("base=meta-llama/*").is_ok());
/// let error = Filter::parse("colour=red").unwrap_err();
/// assert!(error.to_string().starts_with("`colour` is not a key; the keys are path, kind"));
/// ```
#[derive(Debug, Clone)]
pub struct Filter {
    test: Test,
    /// Whether entries that pass the test are left out instead.
    negated: bool,
}

#[derive(Debug, Clone)]
enum Test {
    Text(Key, Glob),
    Rank(Bounds),
    Size(Bounds),
    /// A finding of this severity or a graver one.
    Severity(Severity),
    /// A finding of this name.
    Finding(&'static str),
    /// No finding.
    Clean,
}

#[derive(Debug, Clone, Copy)]
enum Key {
    Path,
    Kind,
    Format,
    Base,
    License,
}

/// Numbers from one to another, both included.
#[derive(Debug, Clone, Copy)]
struct Bounds(u64, u64);

const TEXTS: &[(&str, Key)] = &[
    ("path", Key::Path),
    ("kind", Key::Kind),
    ("format", Key::Format),
    ("base", Key::Base),
    ("license", Key::License),
];
const OTHERS: [&str; 3] = ["rank", "size", "findings"];

impl Filter {
    /// Reads a condition.
    ///
    /// # Errors
    /// `ErrorKind::Usage` for an unknown key, which names the known ones, and for a value that the key cannot have.
    pub fn parse(text: &str) -> Result<Self> {
        let Some((key, value)) = text.split_once('=') else {
            return Err(Problem::FilterShape { text: text.into() }.into());
        };
        let negated = key.ends_with('!');
        let test = test(key.trim_end_matches('!').trim(), value.trim())?;
        Ok(Filter { test, negated })
    }

    /// Whether an entry meets the condition.
    pub fn accepts(&self, entry: &Entry) -> bool {
        self.test.holds(entry) != self.negated
    }
}

fn test(key: &str, value: &str) -> Result<Test> {
    let wrong = |key, reason| Error::from(Problem::FilterValue { key, value: value.into(), reason });
    let not = |key, what: String| wrong(key, format!("`{value}` {what}"));
    if let Some((name, key)) =
        TEXTS.iter().find(|(name, _)| *name == key || (*name == "license" && key == "licence"))
    {
        return Glob::new(value).map(|glob| Test::Text(*key, glob)).map_err(|what| not(name, what));
    }
    match key {
        "rank" => Bounds::parse(value, |text| {
            text.parse().map_err(|_| "ranks look like 16, 8..32 or 16..".to_string())
        })
        .map(Test::Rank)
        .map_err(|reason| wrong("rank", reason)),
        "size" => Bounds::parse(value, parse_size).map(Test::Size).map_err(|reason| wrong("size", reason)),
        "findings" => match value {
            "none" => Ok(Test::Clean),
            _ => match severity(value) {
                Some(severity) => Ok(Test::Severity(severity)),
                None => code(value).map(Test::Finding).map_err(|what| not("findings", what)),
            },
        },
        _ => {
            let known = TEXTS.iter().map(|(name, _)| *name).chain(OTHERS).collect();
            Err(Problem::FilterKey { key: key.into(), known }.into())
        }
    }
}

/// The severity called `name`.
pub(super) fn severity(name: &str) -> Option<Severity> {
    [Severity::Note, Severity::Warning, Severity::Error]
        .into_iter()
        .find(|severity| severity.to_string() == name)
}

impl Bounds {
    /// `5`, `5..9`, `5..`, `..9`.
    fn parse(
        text: &str,
        number: impl Fn(&str) -> std::result::Result<u64, String>,
    ) -> std::result::Result<Self, String> {
        let Some((low, high)) = text.split_once("..") else {
            let exact = number(text)?;
            return Ok(Bounds(exact, exact));
        };
        let bound = |text: &str, open| if text.is_empty() { Ok(open) } else { number(text) };
        let bounds = Bounds(bound(low, 0)?, bound(high, u64::MAX)?);
        if bounds.0 > bounds.1 { Err("there is nothing between these bounds".into()) } else { Ok(bounds) }
    }

    fn hold(self, low: u64, high: u64) -> bool {
        self.0 <= low && high <= self.1
    }
}

impl Test {
    fn holds(&self, entry: &Entry) -> bool {
        match self {
            Test::Text(key, glob) => key.texts(entry).iter().any(|text| glob.matches(text)),
            Test::Rank(bounds) => {
                entry.rank.is_some_and(|rank| bounds.hold(rank.min as u64, rank.max as u64))
            }
            Test::Size(bounds) => bounds.hold(entry.bytes, entry.bytes),
            Test::Severity(severity) => entry.gravest().is_some_and(|gravest| gravest >= *severity),
            Test::Finding(code) => entry.findings.iter().any(|finding| finding.code == *code),
            Test::Clean => entry.findings.is_empty(),
        }
    }
}

impl Key {
    fn texts(self, entry: &Entry) -> Vec<String> {
        match self {
            Key::Path => std::iter::once(entry.path.display().to_string())
                .chain(entry.hub.as_ref().map(|hub| hub.id.clone()))
                .collect(),
            Key::Kind => vec![entry.kind.name().to_string()],
            Key::Format => entry.format.iter().cloned().collect(),
            Key::Base => entry.base.iter().cloned().collect(),
            Key::License => entry.licenses.clone(),
        }
    }
}
