//! The rules of a policy, read from TOML.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::codes::{CODES, code, nearest};
use super::filter::severity;
use super::glob::Glob;
use super::problem::Problem;
use crate::adapter::format::FORMATS;
use crate::units::parse_size;
use crate::{Error, Result, Severity};

/// What a policy says; rules that it leaves out are `None` or empty.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    pub(super) bases: Option<Vec<Glob>>,
    pub(super) formats: Option<Vec<String>>,
    pub(super) licenses: Option<Vec<Glob>>,
    pub(super) max_size: Option<u64>,
    pub(super) rank_min: Option<usize>,
    pub(super) rank_max: Option<usize>,
    pub(super) forbidden: Vec<Forbidden>,
    /// Names of findings that a severity does not forbid.
    pub(super) allowed: Vec<&'static str>,
}

/// Findings that are forbidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forbidden {
    /// Those of a severity, and graver ones.
    Severity(Severity),
    /// Those of a name.
    Name(&'static str),
}

/// Formats of models; those of adapters have their own table.
const MODEL_FORMATS: [&str; 3] = ["safetensors", "gguf", "torch"];
const RULES: &[&str] = &["bases", "formats", "licenses", "max-size", "rank", "findings"];
const RANK: &[&str] = &["min", "max"];
const FINDINGS: &[&str] = &["forbid", "allow"];

/// Reads the text of a policy.
///
/// # Errors
/// See [`super::policy::Policy::parse`].
pub(super) fn parse(text: &str) -> Result<Rules> {
    let source = Source(text);
    let table = DeTable::parse(text).map_err(|error| {
        let line = source.line(error.span().unwrap_or_default());
        Problem::Toml { line, reason: error.message().replace('\n', "; ") }
    })?;
    let mut rules = Rules::default();
    for (name, value) in in_order(table.get_ref()) {
        let field = Field { source, key: name.get_ref().to_string(), value };
        match field.key.as_str() {
            "bases" => rules.bases = Some(field.list(Glob::new)?),
            "formats" => rules.formats = Some(field.list(format)?),
            // The hub's spelling, and the English one.
            "licenses" | "licences" => rules.licenses = Some(field.list(Glob::new)?),
            "max-size" => rules.max_size = Some(field.size()?),
            "rank" => {
                for field in field.table(RANK)? {
                    let bound =
                        if field.key == "rank.min" { &mut rules.rank_min } else { &mut rules.rank_max };
                    *bound = Some(field.rank()?);
                }
            }
            "findings" => {
                for field in field.table(FINDINGS)? {
                    if field.key == "findings.allow" {
                        rules.allowed = field.list(code)?;
                    } else {
                        rules.forbidden = field.list(forbidden)?;
                    }
                }
            }
            _ => return Err(source.unknown(name, "", RULES)),
        }
    }
    check(&rules)?;
    Ok(rules)
}

/// Refuses rules that contradict each other.
fn check(rules: &Rules) -> Result<()> {
    if let (Some(min), Some(max)) = (rules.rank_min, rules.rank_max)
        && min > max
    {
        return Err(Problem::RankBounds { min, max }.into());
    }
    let both = rules.allowed.iter().find(|code| rules.forbidden.contains(&Forbidden::Name(code)));
    both.map_or(Ok(()), |code| Err(Problem::ForbiddenAndAllowed { code: (*code).into() }.into()))
}

fn format(text: &str) -> std::result::Result<String, String> {
    let known = || FORMATS.iter().map(|format| format.name()).chain(MODEL_FORMATS);
    if known().any(|name| name == text) {
        return Ok(text.to_string());
    }
    Err(format!("is not a format; the nearest is `{}`", nearest(text, known()).unwrap_or_default()))
}

fn forbidden(text: &str) -> std::result::Result<Forbidden, String> {
    if let Some(severity) = severity(text) {
        return Ok(Forbidden::Severity(severity));
    }
    code(text).map(Forbidden::Name).map_err(|_| {
        let severities = ["note", "warning", "error"];
        let names = CODES.iter().map(|(name, _)| *name).chain(severities);
        let nearest = nearest(text, names).unwrap_or_default();
        format!("is neither a severity nor the name of a finding; the nearest is `{nearest}`")
    })
}

type Name<'i> = Spanned<Cow<'i, str>>;

/// Keys in the order of the file, so that the first mistake is the one that is told.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Name<'i>, &'t Spanned<DeValue<'i>>)> {
    let mut fields: Vec<_> = table.iter().collect();
    fields.sort_by_key(|(name, _)| name.span().start);
    fields
}

/// The text, for the lines of what is in it.
#[derive(Clone, Copy)]
struct Source<'s>(&'s str);

impl Source<'_> {
    fn line(self, span: Range<usize>) -> usize {
        self.0.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
    }

    fn unknown(self, name: &Name<'_>, prefix: &str, known: &[&'static str]) -> Error {
        let key = format!("{prefix}{}", name.get_ref());
        let nearest = nearest(name.get_ref(), known.iter().copied()).unwrap_or_default();
        Problem::UnknownRule { line: self.line(name.span()), key, nearest: format!("{prefix}{nearest}") }
            .into()
    }
}

/// A value, and the full name of its key.
struct Field<'s, 't, 'i> {
    source: Source<'s>,
    key: String,
    value: &'t Spanned<DeValue<'i>>,
}

impl<'s, 't, 'i> Field<'s, 't, 'i> {
    fn line(&self) -> usize {
        self.source.line(self.value.span())
    }

    fn wrong(&self, needed: &'static str) -> Error {
        let found = shown(self.value.get_ref());
        Problem::RuleValue { line: self.line(), key: self.key.clone(), found, needed }.into()
    }

    /// A list of texts, each of which `read` understands.
    fn list<T, E: Into<String>>(&self, read: impl Fn(&str) -> std::result::Result<T, E>) -> Result<Vec<T>> {
        let needed = "a list of texts, such as [\"a\", \"b\"]";
        let items = self.value.get_ref().as_array().ok_or_else(|| self.wrong(needed))?;
        if items.is_empty() && !self.key.starts_with("findings.") {
            return Err(Problem::NothingAllowed { line: self.line(), key: self.key.clone() }.into());
        }
        let item = |item: &Spanned<DeValue<'_>>| {
            let line = self.source.line(item.span());
            let wrong = |text: String, reason: String| {
                Error::from(Problem::RuleItem { line, key: self.key.clone(), item: text, reason })
            };
            match item.get_ref().as_str() {
                Some(text) => read(text).map_err(|reason| wrong(text.into(), reason.into())),
                None => Err(wrong(shown(item.get_ref()), "is not text".into())),
            }
        };
        items.iter().map(item).collect()
    }

    fn size(&self) -> Result<u64> {
        let needed = "a size, such as \"500MB\" or a number of bytes";
        let size = match self.value.get_ref() {
            DeValue::String(text) => parse_size(text).ok(),
            DeValue::Integer(number) => number.to_string().parse().ok().filter(|bytes| *bytes > 0),
            _ => None,
        };
        size.ok_or_else(|| self.wrong(needed))
    }

    fn rank(&self) -> Result<usize> {
        let number = self.value.get_ref().as_integer().and_then(|number| number.to_string().parse().ok());
        let rank = number.filter(|rank| (1..=65536).contains(rank));
        rank.ok_or_else(|| self.wrong("a whole number from 1 to 65536"))
    }

    /// The fields of a table that has no others than `known`.
    fn table(&self, known: &[&'static str]) -> Result<Vec<Field<'s, 't, 'i>>> {
        let table = self.value.get_ref().as_table().ok_or_else(|| self.wrong("a table"))?;
        let prefix = format!("{}.", self.key);
        let field = |(name, value): (&'t Name<'i>, &'t Spanned<DeValue<'i>>)| {
            if known.iter().any(|known| known == name.get_ref()) {
                Ok(Field { source: self.source, key: format!("{prefix}{}", name.get_ref()), value })
            } else {
                Err(self.source.unknown(name, &prefix, known))
            }
        };
        in_order(table).into_iter().map(field).collect()
    }
}

/// A value, for messages.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("`{text}`"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        other => format!("of the type {}", other.type_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_with_every_rule() {
        let rules = parse(
            "bases = ['meta-llama/*']\nformats = ['peft', 'safetensors']\nlicences = ['mit']\nmax-size = '2GiB'\n\
             [rank]\nmin = 4\nmax = 64\n[findings]\nforbid = ['warning', 'rslora']\nallow = ['local-path']",
        )
        .unwrap();
        assert_eq!((rules.rank_min, rules.rank_max, rules.max_size), (Some(4), Some(64), Some(2 << 30)));
        assert_eq!(rules.forbidden, [Forbidden::Severity(Severity::Warning), Forbidden::Name("rslora")]);
        assert_eq!(rules.allowed, ["local-path"]);
        assert!(
            rules.licenses.unwrap()[0].matches("MIT")
                && rules.bases.unwrap()[0].matches("meta-llama/Llama-3.2-1B")
        );
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let mistakes = [
            "bases = [",
            "formats = ['peft']\nformats = ['gguf']",
            "\nmax_size = '5GB'",
            "[rank]\nmaximum = 3",
            "findings.forbidden = ['error']",
            "bases = 'meta-llama/*'",
            "bases = ['a',\n 3]",
            "bases = []",
            "bases = ['a[']",
            "formats = ['pfet']",
            "max-size = '5XB'",
            "max-size = 0",
            "max-size = 1.5",
            "rank = 8",
            "[rank]\nmax = 0",
            "[rank]\nmax = '8'",
            "[rank]\nmin = 9\nmax = 8",
            "[findings]\nforbid = ['warnings']",
            "[findings]\nallow = ['warning']",
            "[findings]\nforbid = ['local-path']\nallow = ['local-path']",
        ];
        let told =
            mistakes.map(|text| format!("{}\n    {}", text.replace('\n', "\\n"), parse(text).unwrap_err()));
        insta::assert_snapshot!(told.join("\n"), @r#"
        bases = [
            line 1: is not TOML: unclosed array, expected `]`
        formats = ['peft']\nformats = ['gguf']
            line 2: is not TOML: duplicate key
        \nmax_size = '5GB'
            line 2: `max_size` is not a rule; the nearest is `max-size`
        [rank]\nmaximum = 3
            line 2: `rank.maximum` is not a rule; the nearest is `rank.max`
        findings.forbidden = ['error']
            line 1: `findings.forbidden` is not a rule; the nearest is `findings.forbid`
        bases = 'meta-llama/*'
            line 1: `bases` is `meta-llama/*`; it must be a list of texts, such as ["a", "b"]
        bases = ['a',\n 3]
            line 2: `bases` holds `3`, which is not text
        bases = []
            line 1: `bases` is empty, so nothing would be allowed; leave it out to allow everything
        bases = ['a[']
            line 1: `bases` holds `a[`, which is not a pattern: invalid range pattern
        formats = ['pfet']
            line 1: `formats` holds `pfet`, which is not a format; the nearest is `peft`
        max-size = '5XB'
            line 1: `max-size` is `5XB`; it must be a size, such as "500MB" or a number of bytes
        max-size = 0
            line 1: `max-size` is 0; it must be a size, such as "500MB" or a number of bytes
        max-size = 1.5
            line 1: `max-size` is 1.5; it must be a size, such as "500MB" or a number of bytes
        rank = 8
            line 1: `rank` is 8; it must be a table
        [rank]\nmax = 0
            line 2: `rank.max` is 0; it must be a whole number from 1 to 65536
        [rank]\nmax = '8'
            line 2: `rank.max` is `8`; it must be a whole number from 1 to 65536
        [rank]\nmin = 9\nmax = 8
            `rank.min` is 9 and `rank.max` is 8, so no rank would be allowed
        [findings]\nforbid = ['warnings']
            line 2: `findings.forbid` holds `warnings`, which is neither a severity nor the name of a finding; the nearest is `warning`
        [findings]\nallow = ['warning']
            line 2: `findings.allow` holds `warning`, which is not the name of a finding; the nearest is `rank-missing`
        [findings]\nforbid = ['local-path']\nallow = ['local-path']
            `findings.forbid` and `findings.allow` both name `local-path`
        "#);
    }
}
