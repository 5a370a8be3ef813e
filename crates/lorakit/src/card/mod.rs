//! Model cards: `README.md` with a front matter of YAML, as the Hugging Face hub reads it.
//!
//! A card is edited line by line: keys that are not touched keep their bytes, their order and their comments, and so
//! does the text. A front matter that cannot be read is kept as it is.
//!
//! ```
//! use lorakit::card::{Card, Value};
//! # fn main() -> lorakit::Result<()> {
//! let mut card = Card::parse(b"---\nlicense: mit # free\n---\n# Mine\n");
//! assert_eq!(card.text("license"), Some("mit"));
//! card.complete("license", &Value::text("apache-2.0"))?; // is there already
//! card.set("base_model", &Value::text("org/model"))?;
//! assert_eq!(card.bytes(), b"---\nlicense: mit # free\nbase_model: org/model\n---\n# Mine\n");
//! # Ok(())
//! # }
//! ```

mod loading;
mod problem;
mod section;
mod template;
mod yaml;

use std::path::Path;

use lorakit_tensor::Reader;

pub use loading::Loading;
pub(crate) use problem::Problem;
use yaml::Map;
pub use yaml::Value;
#[doc(hidden)]
pub use yaml::quoted;

use crate::{Error, Finding, Result, Severity};

/// The file name of a model card.
pub const CARD_FILE: &str = "README.md";

/// The largest card that is read, in bytes.
pub(crate) const MAX_CARD_BYTES: u64 = 4 << 20;

/// A model card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card(Content);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    /// Not UTF-8.
    Binary(Vec<u8>),
    Text(Parts),
}

/// A card in parts, which one after the other are its text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    /// A byte order mark, which hides the front matter from its readers; it is left out of what is edited.
    mark: &'static str,
    /// Empty lines and `---`.
    open: String,
    yaml: String,
    /// `---`.
    close: String,
    body: String,
    /// How its lines end.
    eol: &'static str,
    /// What the front matter holds, or why it cannot be read.
    map: std::result::Result<Map, String>,
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Value::Text(text.into())
    }

    /// A list of texts.
    pub fn list<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Self {
        Value::List(items.into_iter().map(Into::into).collect())
    }
}

impl Default for Card {
    fn default() -> Self {
        Self::parse(b"")
    }
}

impl Card {
    /// Takes a card apart. Nothing is refused: see [`Self::fault`].
    pub fn parse(bytes: &[u8]) -> Self {
        Card(match std::str::from_utf8(bytes) {
            Ok(text) => Content::Text(Parts::of(text)),
            Err(_) => Content::Binary(bytes.to_vec()),
        })
    }

    /// The card in `folder`. If there is none, or it cannot be read, which is noted, `None`.
    pub fn read(folder: &Path, reader: &Reader, notes: &mut Vec<Finding>) -> Option<Self> {
        let path = folder.join(CARD_FILE);
        let bytes = match reader.has(&path) {
            Ok(false) => return None,
            Ok(true) => reader.bytes(&path, MAX_CARD_BYTES),
            Err(error) => Err(error),
        };
        let note = |message: String| Finding::new(Severity::Note, "card", CARD_FILE, message);
        match bytes {
            Err(error) => {
                notes.push(note(format!("the model card is not read: {error}")));
                None
            }
            Ok(bytes) => {
                let card = Self::parse(&bytes);
                notes.extend(
                    card.fault().map(|fault| note(format!("the model card is kept as it is: {fault}"))),
                );
                Some(card)
            }
        }
    }

    /// Why the front matter cannot be read or edited, if it cannot.
    pub fn fault(&self) -> Option<String> {
        match &self.0 {
            Content::Binary(_) => Some("it is not UTF-8".into()),
            Content::Text(parts) => parts.map.as_ref().err().map(|fault| format!("its front matter {fault}")),
        }
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.0 {
            Content::Binary(bytes) => bytes.clone(),
            Content::Text(parts) => parts.text().into_bytes(),
        }
    }

    /// The text after the front matter; `None` if the file is not text.
    pub fn body(&self) -> Option<&str> {
        self.parts().map(|parts| parts.body.as_str())
    }

    /// The keys of the front matter, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.map().into_iter().flat_map(|map| &map.members).map(|member| member.key.as_str())
    }

    /// The value of `key`; of the last, if it is repeated.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.map()?.members.iter().rfind(|member| member.key == key).map(|member| &member.value)
    }

    /// The value of `key`, if it is a text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items of `key`; a text is a list of one.
    pub fn list(&self, key: &str) -> Vec<&str> {
        match self.get(key) {
            Some(Value::Text(text)) => vec![text],
            Some(Value::List(items)) => items.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// The licence.
    pub fn license(&self) -> Option<&str> {
        self.text("license")
    }

    /// The tags.
    pub fn tags(&self) -> Vec<&str> {
        self.list("tags")
    }

    /// The models that this one was made of.
    pub fn base_models(&self) -> Vec<&str> {
        self.list("base_model")
    }

    /// The library that loads it.
    pub fn library(&self) -> Option<&str> {
        self.text("library_name")
    }

    /// Gives `key` a value: in the place of the old one, else at the end. Returns whether anything changed.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the front matter cannot be edited; the card is as it was.
    pub fn set(&mut self, key: &str, value: &Value) -> Result<bool> {
        if self.get(key) == Some(value) {
            return Ok(false);
        }
        self.edit(key, Some(value))
    }

    /// Gives `key` a value if it has none. Returns whether it had none.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn complete(&mut self, key: &str, value: &Value) -> Result<bool> {
        if self.get(key).is_some_and(|known| *known != Value::Empty) {
            return Ok(false);
        }
        self.edit(key, Some(value))
    }

    /// Removes `key`. Returns whether it was there.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn remove(&mut self, key: &str) -> Result<bool> {
        if self.get(key).is_none() {
            return Ok(false);
        }
        self.edit(key, None)
    }

    /// Puts `text` (Markdown) between lorakit's markers: in the place of what is there, else above the text. A card that
    /// is not text stays as it is.
    pub fn set_section(&mut self, text: &str) {
        if let Content::Text(parts) = &mut self.0 {
            parts.mark = "";
            parts.body = section::placed(&parts.body, text, parts.eol);
        }
    }

    /// Whether lorakit wrote a part of it.
    pub fn has_section(&self) -> bool {
        self.body().is_some_and(|body| section::find(body).is_some())
    }

    /// Whether there is text besides lorakit's own.
    pub fn has_text(&self) -> bool {
        match &self.0 {
            Content::Binary(_) => true,
            Content::Text(parts) => !section::without(&parts.body).trim().is_empty(),
        }
    }

    /// Whether the text is the hub's template, as libraries write it, and nobody has filled it in.
    pub fn is_template(&self) -> bool {
        self.body().is_some_and(|body| template::is_unfilled(&section::without(body)))
    }

    /// Replaces all text after the front matter.
    pub fn set_body(&mut self, text: &str) {
        if let Content::Text(parts) = &mut self.0 {
            parts.mark = "";
            parts.body = text.to_string();
        }
    }

    fn parts(&self) -> Option<&Parts> {
        match &self.0 {
            Content::Binary(_) => None,
            Content::Text(parts) => Some(parts),
        }
    }

    fn map(&self) -> Option<&Map> {
        self.parts()?.map.as_ref().ok()
    }

    fn edit(&mut self, key: &str, value: Option<&Value>) -> Result<bool> {
        if let Some(message) = self.fault() {
            return Err(Error::from(Problem::FrontMatter { message }));
        }
        let Content::Text(parts) = &mut self.0 else { return Ok(false) };
        parts.edit(key, value)?;
        Ok(true)
    }
}

impl Parts {
    fn of(text: &str) -> Self {
        let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mark = if rest.len() < text.len() { "\u{feff}" } else { "" };
        let eol = match rest.find('\n') {
            Some(at) if rest[..at].ends_with('\r') => "\r\n",
            _ => "\n",
        };
        let found = front_matter(rest);
        let (open, yaml, close, body) = found.unwrap_or(("", "", "", rest));
        Parts {
            mark,
            open: open.to_string(),
            yaml: yaml.to_string(),
            close: close.to_string(),
            body: body.to_string(),
            eol,
            map: yaml::read(yaml),
        }
    }

    fn text(&self) -> String {
        [self.mark, &self.open, &self.yaml, &self.close, &self.body].concat()
    }

    fn edit(&mut self, key: &str, value: Option<&Value>) -> Result<()> {
        let Ok(map) = &self.map else { return Ok(()) };
        let new = value.map(|value| yaml::written(key, value, &map.indent, self.eol)).unwrap_or_default();
        let old = map.members.iter().rfind(|member| member.key == key);
        let mut yaml = self.yaml.clone();
        match old {
            Some(member) => yaml.replace_range(member.lines.clone(), &new),
            None => {
                if !yaml.is_empty() && !yaml.ends_with(['\n', '\r']) {
                    yaml.push_str(self.eol);
                }
                yaml.push_str(&new);
            }
        }
        let entangled = || Error::from(Problem::Entangled { key: key.to_string() });
        let edited = yaml::read(&yaml).map_err(|_| entangled())?;
        let others = |map: &Map| -> Vec<(String, Value)> {
            let others = map.members.iter().filter(|member| member.key != key);
            others.map(|member| (member.key.clone(), member.value.clone())).collect()
        };
        let found = edited.members.iter().rfind(|member| member.key == key).map(|member| &member.value);
        if others(map) != others(&edited) || value.is_some_and(|value| found != Some(value)) {
            return Err(entangled());
        }
        self.mark = "";
        self.yaml = yaml;
        self.map = Ok(edited);
        if self.close.is_empty() {
            let line = format!("---{}", self.eol);
            self.open.clone_from(&line);
            self.close = line;
            if !self.body.is_empty() && !self.body.starts_with(['\n', '\r']) {
                self.body.insert_str(0, self.eol);
            }
        }
        Ok(())
    }
}

/// `text` in four: up to the opening `---`, up to the closing one, that line, and the rest. A `---` that is never closed
/// is a line of the text.
fn front_matter(text: &str) -> Option<(&str, &str, &str, &str)> {
    let blank = text.len() - text.trim_start().len();
    let rest = text[blank..].strip_prefix("---")?;
    let start = text.len() - rest.len() + eol_at_start(rest)?;
    let mut line = start;
    loop {
        let end = text[line..].find('\n').map_or(text.len(), |at| line + at + 1);
        if text[line..end].trim_end_matches([' ', '\t', '\n', '\r']) == "---" {
            return Some((&text[..start], &text[start..line], &text[line..end], &text[end..]));
        }
        if end == text.len() {
            return None;
        }
        line = end;
    }
}

/// The bytes of the line ending with which `text` begins.
fn eol_at_start(text: &str) -> Option<usize> {
    let ending = ["\r\n", "\n"].into_iter().find(|eol| text.starts_with(eol))?;
    Some(ending.len())
}

#[cfg(test)]
mod tests;
