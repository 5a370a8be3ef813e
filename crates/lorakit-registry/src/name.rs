//! Names: `sql:v1`, `team/sql:v1`, `host:5000/team/sql:v1`, `sql@sha256:...`, and `sql:v1@{1}`.
//!
//! Names and tags have the grammar of the OCI distribution specification 1.1, so whatever is added can be pushed under
//! the name it has.

use std::fmt;

use crate::Digest;
use crate::problem::Problem;
use lorakit::Result;

/// Most characters of a name, of a tag, and fewest digits of a digest that is cut short.
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;
const FEWEST_DIGITS: usize = 6;

/// What an artifact is called, without tag or digest: `sql`, `team/sql`, `host:5000/team/sql`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// A name with a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// The name.
    pub name: Name,
    /// The tag.
    pub tag: String,
}

/// Which of the artifacts of a name is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// What the tag points to.
    Tag(Tag),
    /// What the tag pointed to, so many moves ago.
    Before(Tag, usize),
    /// The one whose digest begins with these digits.
    Digest(Name, String),
}

impl Name {
    /// The name that `text` is.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, path) = match text.split_once('/') {
            Some((host, path)) if is_host(host) => (Some(host), path),
            _ => (None, text),
        };
        let fits = text.len() <= LONGEST_NAME && path.split('/').all(is_component);
        (fits && host != Some("")).then(|| Name(text.to_string()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The machine that it names, if it names one: `host:5000`.
    pub fn host(&self) -> Option<&str> {
        self.0.split_once('/').map(|(host, _)| host).filter(|host| is_host(host))
    }

    /// The part after the last slash.
    pub fn short(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl Tag {
    /// The name and the tag that `text` is: `team/sql:v1`.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, tag) = text.rsplit_once(':')?;
        let fits = is_tag(tag) && !is_drive(name);
        Some(Tag { name: Name::parse(name).filter(|_| fits)?, tag: tag.to_string() })
    }
}

impl Reference {
    /// The reference that `text` is.
    ///
    /// # Errors
    /// `Usage` if it is not one, saying what it lacks.
    pub fn parse(text: &str) -> Result<Self> {
        Self::of(text).ok_or_else(|| {
            let is_drive = text.split_once(':').is_some_and(|(name, _)| is_drive(name));
            let text = lorakit_tensor::problem::excerpt(text).escape_debug().to_string();
            match Name::parse(&text) {
                Some(_) => Problem::NoTag { text },
                None if is_drive => Problem::Drive { text },
                None => Problem::NoName { text },
            }
            .into()
        })
    }

    /// The reference that `text` is, if it has the form of one. A single letter before a colon is a drive.
    pub fn of(text: &str) -> Option<Self> {
        if let Some((tag, moves)) = text.strip_suffix('}').and_then(|text| text.split_once("@{")) {
            let moves = moves.parse().ok().filter(|_| moves.bytes().all(|b| b.is_ascii_digit()))?;
            return Some(Reference::Before(Tag::parse(tag)?, moves));
        }
        if let Some((name, digest)) = text.split_once('@') {
            // `name:tag@digest` is how other programs pin a tag: the digest decides.
            let name = Name::parse(name).or_else(|| Tag::parse(name).map(|tag| tag.name))?;
            let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
            let is_hex = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            let fits = is_hex && (FEWEST_DIGITS..=64).contains(&digits.len());
            return fits.then(|| Reference::Digest(name, digits.to_string()));
        }
        Tag::parse(text).map(Reference::Tag)
    }

    /// The name.
    pub fn name(&self) -> &Name {
        match self {
            Reference::Tag(tag) | Reference::Before(tag, _) => &tag.name,
            Reference::Digest(name, _) => name,
        }
    }

    /// The tag, unless a digest takes its place.
    pub fn tag(&self) -> Option<&Tag> {
        match self {
            Reference::Tag(tag) | Reference::Before(tag, _) => Some(tag),
            Reference::Digest(..) => None,
        }
    }

    /// Whether `digest` is one that this may mean, if it names a digest.
    pub(crate) fn fits(&self, digest: &Digest) -> bool {
        matches!(self, Reference::Digest(_, digits) if digest.hex().starts_with(digits))
    }
}

/// Whether the first part of a name is a machine rather than a part of the path, by the rule of other programs.
fn is_host(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let is_named = host == "localhost" || host.contains('.') || port.is_some();
    let has_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    is_named && has_port && host.starts_with(|c: char| c.is_ascii_alphanumeric()) && host.chars().all(letters)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut rest = text;
    loop {
        let word = rest.trim_start_matches(is_word);
        if word.len() == rest.len() {
            return false;
        }
        if word.is_empty() {
            return true;
        }
        let dashes = word.trim_start_matches('-');
        rest = match word.strip_prefix("__").or_else(|| word.strip_prefix(['.', '_'])) {
            Some(next) => next,
            None if dashes.len() < word.len() => dashes,
            None => return false,
        };
    }
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= LONGEST_TAG
        && text.starts_with(is_word)
        && text.chars().all(|c| is_word(c) || matches!(c, '.' | '-'))
}

fn is_drive(text: &str) -> bool {
    text.len() == 1 && text.chars().all(|c| c.is_ascii_alphabetic())
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Tag(tag) => tag.fmt(f),
            Reference::Before(tag, moves) => write!(f, "{tag}@{{{moves}}}"),
            Reference::Digest(name, digits) => write!(f, "{name}@sha256:{digits}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for text in [
            "sql:v1",
            "team/sql-lora:1.0_b",
            "a__b.c---d:_x",
            "localhost:5000/team/sql:v1",
            "registry.example/sql:v1",
            "sql:v1@{1}",
        ] {
            assert_eq!(Reference::of(text).map(|found| found.to_string()).as_deref(), Some(text));
        }
        let digest = Digest::of(b"x");
        for text in [format!("sql@{digest}"), format!("sql:v1@{digest}"), format!("sql@{}", digest.short())] {
            let found = Reference::of(&text).expect("it is a reference");
            assert!(found.fits(&digest) && found.name().as_str() == "sql", "{text}");
        }
    }

    #[test]
    fn what_is_not_a_reference() {
        let long = format!("{}:v1", "a".repeat(256));
        let tag = format!("sql:{}", "a".repeat(129));
        for text in [
            "",
            "sql",
            "c:v1",
            "C:v1",
            "SQL:v1",
            "sql:",
            ":v1",
            "sql:v 1",
            "-a:v1",
            "a-:v1",
            "a..b:v1",
            "a/../b:v1",
            "/a:v1",
            "a//b:v1",
            "./sql:v1",
            "sql:-x",
            "sql@12345",
            "sql@sha256:XYZ",
            "sql:v1@{}",
            "sql:v1@{-1}",
            "sql:v1@{+1}",
            "sql@{1}",
            "a___b:v1",
            "localhost:99999/x:v1",
            &long,
            &tag,
        ] {
            assert_eq!(Reference::of(text), None, "{text}");
        }
    }

    #[test]
    fn machines_are_told_from_paths() {
        let host = |text: &str| Name::parse(text).and_then(|name| name.host().map(str::to_string));
        assert_eq!(host("localhost/sql").as_deref(), Some("localhost"));
        assert_eq!(host("host:80/sql").as_deref(), Some("host:80"));
        assert_eq!(host("a.example/b/c").as_deref(), Some("a.example"));
        assert_eq!(host("team/sql"), None);
    }
}
