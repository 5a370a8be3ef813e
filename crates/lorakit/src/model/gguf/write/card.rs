//! The part of a model card's metadata that GGUF files repeat.

use super::files::Files;
use crate::Result;
use crate::card::{self, CARD_FILE, Value};

/// The metadata of a model card. Only texts and lists of texts are read; values of any other form are skipped.
#[derive(Debug, Default)]
pub(in crate::model) struct Card(card::Card);

impl Card {
    pub(in crate::model) fn read(files: Files<'_>) -> Result<Self> {
        let bytes = files.bytes(CARD_FILE)?;
        Ok(bytes.map(|bytes| Card(card::Card::parse(&bytes))).unwrap_or_default())
    }

    /// The value of the first of `keys` that is present.
    fn first(&self, keys: &[&str]) -> Option<&Value> {
        keys.iter().find_map(|key| self.0.get(key))
    }

    /// The text of the first of `keys` that is present.
    pub(in crate::model) fn text(&self, keys: &[&str]) -> Option<String> {
        match self.first(keys)? {
            Value::Text(text) => Some(text.clone()),
            Value::List(items) if !items.is_empty() => Some(items.join(",")),
            _ => None,
        }
    }

    /// The items of the first of `keys` that is present; a text counts as a list of one.
    pub(in crate::model) fn list(&self, keys: &[&str]) -> Option<Vec<String>> {
        match self.first(keys)? {
            Value::Text(text) => Some(vec![text.clone()]),
            Value::List(items) => Some(items.clone()),
            Value::Empty => Some(Vec::new()),
            Value::Other => None,
        }
    }

    /// The items of all `keys` together.
    pub(in crate::model) fn joined(&self, keys: &[&str]) -> Option<Vec<String>> {
        let lists: Vec<_> = keys.iter().filter_map(|key| self.list(&[key])).collect();
        (!lists.is_empty()).then(|| lists.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_form() {
        let of = |text: &str| Card(card::Card::parse(text.as_bytes()));
        let card = of("---\nlicense: apache-2.0 # free\nlanguage:\n- en\n- \"no\"\ntags: [chat, 'small']\n\
             base_model: org/model\nmodel-index:\n- name: x\n  results: []\nwidget:\n  text: hi\nempty:\n---\nlicense: none\n");
        assert_eq!(card.text(&["license"]).unwrap(), "apache-2.0");
        assert_eq!(card.list(&["language"]).unwrap(), ["en", "no"]);
        assert_eq!(card.joined(&["tags", "base_model", "absent"]).unwrap(), ["chat", "small", "org/model"]);
        assert_eq!(card.list(&["empty"]).unwrap(), [""; 0]);
        for other in ["model-index", "widget", "absent"] {
            assert!(card.list(&[other]).is_none(), "{other}");
        }
        assert!(of("# Title\n---\nlicense: mit\n---\n").text(&["license"]).is_none());
    }
}
