//! The rules of a policy, read from TOML key by key: a misspelt key is an error with its line.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use glob::Pattern;
use lorakit_tensor::Reader;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::PublicKey;
use super::policy::{MAX_BYTES, Policy, Rule};
use super::problem::Problem;
use crate::{Error, Result};

const POLICY: &[&str] = &["require", "rule"];
const RULE: &[&str] = &["names", "keys", "require"];

/// Reads the text of a policy.
///
/// # Errors
/// See [`Policy::parse`].
pub(super) fn parse(text: &str, folder: &Path, reader: &Reader) -> Result<Policy> {
    let source = Source { text, folder, reader };
    let table = DeTable::parse(text).map_err(|error| {
        let line = source.line(error.span().unwrap_or_default());
        Problem::Toml { line, reason: error.message().replace('\n', "; ") }
    })?;
    let mut policy = Policy { require: true, rules: Vec::new() };
    for (name, value) in in_order(table.get_ref()) {
        match name.get_ref().as_ref() {
            "require" => policy.require = source.truth("require", value)?,
            "rule" => {
                let wrong = || source.wrong("rule", value, "tables, each under `[[rule]]`");
                for rule in value.get_ref().as_array().ok_or_else(wrong)?.iter() {
                    policy.rules.push(source.rule(rule)?);
                }
            }
            _ => return Err(source.unknown(name, "", POLICY)),
        }
    }
    Ok(policy)
}

type Name<'i> = Spanned<Cow<'i, str>>;
type Value<'i> = Spanned<DeValue<'i>>;

/// Keys in the order of the file, so that the first mistake is the one that is told.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Name<'i>, &'t Value<'i>)> {
    let mut fields: Vec<_> = table.iter().collect();
    fields.sort_by_key(|(name, _)| name.span().start);
    fields
}

/// The text, for the lines of what is in it, and where the files are that it names.
#[derive(Clone, Copy)]
struct Source<'s> {
    text: &'s str,
    folder: &'s Path,
    reader: &'s Reader,
}

impl Source<'_> {
    fn line(self, span: Range<usize>) -> usize {
        self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
    }

    fn unknown(self, name: &Name<'_>, prefix: &str, known: &[&str]) -> Error {
        let key = format!("{prefix}{}", name.get_ref());
        let known = known.iter().map(|known| format!("`{prefix}{known}`")).collect();
        Problem::UnknownKey { line: self.line(name.span()), key, known }.into()
    }

    fn wrong(self, key: &str, value: &Value<'_>, needed: &'static str) -> Error {
        let found = match value.get_ref() {
            DeValue::Array(items) if items.is_empty() => "empty".into(),
            other => format!("of the type {}", other.type_str()),
        };
        Problem::Value { line: self.line(value.span()), key: key.into(), found, needed }.into()
    }

    fn truth(self, key: &str, value: &Value<'_>) -> Result<bool> {
        value.get_ref().as_bool().ok_or_else(|| self.wrong(key, value, "`true` or `false`"))
    }

    fn rule(self, value: &Value<'_>) -> Result<Rule> {
        let table = value.get_ref().as_table().ok_or_else(|| self.wrong("rule", value, "a table"))?;
        let mut rule = Rule { names: Vec::new(), keys: Vec::new(), require: true };
        for (name, value) in in_order(table) {
            match name.get_ref().as_ref() {
                "names" => {
                    rule.names = self.list("rule.names", value, |text| pattern(text).map(|p| vec![p]))?
                }
                "keys" => rule.keys = self.list("rule.keys", value, |text| self.keys(text))?,
                "require" => rule.require = self.truth("rule.require", value)?,
                _ => return Err(self.unknown(name, "rule.", RULE)),
            }
        }
        let line = self.line(value.span());
        if rule.names.is_empty() {
            return Err(Problem::Lacks { line, key: "names" }.into());
        }
        if rule.keys.is_empty() && rule.require {
            return Err(Problem::Lacks { line, key: "keys" }.into());
        }
        Ok(rule)
    }

    /// What `read` makes of each text of a list that is not empty.
    fn list<T>(
        self,
        key: &str,
        value: &Value<'_>,
        read: impl Fn(&str) -> std::result::Result<Vec<T>, String>,
    ) -> Result<Vec<T>> {
        let wrong = || self.wrong(key, value, "a list of texts, such as [\"a\", \"b\"]");
        let items = value.get_ref().as_array().filter(|items| !items.is_empty()).ok_or_else(wrong)?;
        let mut all = Vec::new();
        for item in items.iter() {
            let told = |item_text: &str, reason| Problem::Item {
                line: self.line(item.span()),
                key: key.into(),
                item: item_text.into(),
                reason,
            };
            let Some(text) = item.get_ref().as_str() else {
                return Err(told(item.get_ref().type_str(), "is not text".into()).into());
            };
            // The first line of a key is enough to find it.
            let first = text.lines().next().unwrap_or_default();
            all.extend(read(text).map_err(|reason| told(first, reason))?);
        }
        Ok(all)
    }

    /// Keys from PEM, or from a file of it.
    fn keys(self, text: &str) -> std::result::Result<Vec<PublicKey>, String> {
        let read = if text.contains("-----BEGIN ") {
            PublicKey::from_pem(text)
        } else {
            let bytes = self.reader.bytes(&self.folder.join(text), MAX_BYTES);
            bytes.map_err(Error::from).and_then(|bytes| PublicKey::from_pem(&String::from_utf8_lossy(&bytes)))
        };
        read.map_err(|error| error.to_string())
    }
}

fn pattern(text: &str) -> std::result::Result<Pattern, String> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    Pattern::new(text).map_err(|error| format!("is not a pattern: {}", error.msg))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("no.pem"), "hunter2").unwrap();
        let mistakes = [
            "[[rule]",
            "require = 'yes'",
            "\nrequires = true",
            "rule = 1",
            "[rule]\nnames = ['a']",
            "rule = [1]",
            "[[rule]]\nnames = ['a']\nkey = ['a.pem']",
            "[[rule]]\nnames = 'a'",
            "[[rule]]\nnames = []",
            "[[rule]]\nnames = ['a',\n1]",
            "[[rule]]\nnames = ['a', '']",
            "[[rule]]\nnames = ['a',\n'b[']",
            "\n[[rule]]\nkeys = []",
            "\n[[rule]]\nrequire = false",
            "\n[[rule]]\nnames = ['a']",
            "[[rule]]\nnames = ['a']\nkeys = [\n'absent.pem']",
            "[[rule]]\nnames = ['a']\nkeys = [\n'no.pem']",
            "[[rule]]\nnames = ['a']\nkeys = [\n'''-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----''']",
        ];
        let told = mistakes.map(|text| {
            let error = parse(text, folder.path(), &Reader::default()).unwrap_err().to_string();
            format!("{}\n    {error}", text.replace('\n', "\\n"))
                .replace(&*folder.path().to_string_lossy(), ".")
        });
        insta::assert_snapshot!(told.join("\n"), @r#"
        [[rule]
            line 1: is not TOML: unclosed array table, expected `]`
        require = 'yes'
            line 1: `require` is of the type string; it must be `true` or `false`
        \nrequires = true
            line 2: `requires` must be one of `require`, `rule`
        rule = 1
            line 1: `rule` is of the type integer; it must be tables, each under `[[rule]]`
        [rule]\nnames = ['a']
            line 1: `rule` is of the type table; it must be tables, each under `[[rule]]`
        rule = [1]
            line 1: `rule` is of the type integer; it must be a table
        [[rule]]\nnames = ['a']\nkey = ['a.pem']
            line 3: `rule.key` must be one of `rule.names`, `rule.keys`, `rule.require`
        [[rule]]\nnames = 'a'
            line 2: `rule.names` is of the type string; it must be a list of texts, such as ["a", "b"]
        [[rule]]\nnames = []
            line 2: `rule.names` is empty; it must be a list of texts, such as ["a", "b"]
        [[rule]]\nnames = ['a',\n1]
            line 3: `rule.names` holds `integer`: is not text
        [[rule]]\nnames = ['a', '']
            line 2: `rule.names` holds ``: is empty
        [[rule]]\nnames = ['a',\n'b[']
            line 3: `rule.names` holds `b[`: is not a pattern: invalid range pattern
        \n[[rule]]\nkeys = []
            line 3: `rule.keys` is empty; it must be a list of texts, such as ["a", "b"]
        \n[[rule]]\nrequire = false
            line 2: the rule has no `names`
        \n[[rule]]\nnames = ['a']
            line 2: the rule has no `keys`
        [[rule]]\nnames = ['a']\nkeys = [\n'absent.pem']
            line 4: `rule.keys` holds `absent.pem`: `./absent.pem`: does not exist
        [[rule]]\nnames = ['a']\nkeys = [\n'no.pem']
            line 4: `rule.keys` holds `no.pem`: is not PEM; it must hold a public key
        [[rule]]\nnames = ['a']\nkeys = [\n'''-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----''']
            line 4: `rule.keys` holds `-----BEGIN PRIVATE KEY-----`: holds a PEM block `PRIVATE KEY`; it must hold a public key
        "#);
    }
}
