//! The part of the front matter of `README.md` that GGUF files repeat.
//!
//! It is YAML, of which model cards use only a little: scalars, and lists of scalars in lines or in brackets. Only
//! those are read; members of any other form are skipped.

use super::files::Files;
use crate::Result;

/// The contents of a model card.
#[derive(Debug, Default)]
pub(in crate::model) struct Card(Vec<(String, Member)>);

#[derive(Debug, PartialEq, Eq)]
enum Member {
    Scalar(String),
    List(Vec<String>),
    /// Anything else, or nothing.
    Other,
}

impl Card {
    pub(in crate::model) fn read(files: Files<'_>) -> Result<Self> {
        Ok(files.text("README.md")?.map(|text| Self::parse(&text)).unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let mut members: Vec<(String, Member)> = Vec::new();
        if lines.next() != Some("---") {
            return Card(members);
        }
        for line in lines.take_while(|line| *line != "---") {
            let content = line.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            if let Some(item) =
                content.strip_prefix('-').filter(|rest| rest.is_empty() || rest.starts_with(' '))
            {
                let Some((_, member)) = members.last_mut() else { continue };
                match (member, scalar(item)) {
                    (Member::List(items), Some(item)) => items.push(item),
                    // A list of something other than scalars.
                    (member, _) => *member = Member::Other,
                }
            } else if let (false, Some((key, value))) =
                (line.starts_with(char::is_whitespace), content.split_once(':'))
            {
                members.push((key.trim().to_string(), member(value.trim())));
            } else if let Some((_, member)) = members.last_mut() {
                // A nested map, or a text of several lines.
                *member = Member::Other;
            }
        }
        Card(members)
    }

    fn get(&self, key: &str) -> Option<&Member> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, member)| member)
    }

    /// The text of the first of `keys` that is present.
    pub(in crate::model) fn text(&self, keys: &[&str]) -> Option<String> {
        match self.get(keys.iter().find(|key| self.get(key).is_some())?)? {
            Member::Scalar(text) => Some(text.clone()),
            Member::List(items) if !items.is_empty() => Some(items.join(",")),
            _ => None,
        }
    }

    /// The items of the first of `keys` that is present; a scalar counts as a list of one.
    pub(in crate::model) fn list(&self, keys: &[&str]) -> Option<Vec<String>> {
        match self.get(keys.iter().find(|key| self.get(key).is_some())?)? {
            Member::Scalar(text) => Some(vec![text.clone()]),
            Member::List(items) => Some(items.clone()),
            Member::Other => None,
        }
    }

    /// The items of all `keys` together.
    pub(in crate::model) fn joined(&self, keys: &[&str]) -> Option<Vec<String>> {
        let lists: Vec<_> = keys.iter().filter_map(|key| self.list(&[key])).collect();
        (!lists.is_empty()).then(|| lists.concat())
    }
}

/// The value after a colon; if there is none, a list may follow.
fn member(value: &str) -> Member {
    match value.strip_prefix('[') {
        _ if value.is_empty() => Member::List(Vec::new()),
        Some(items) => match items.strip_suffix(']').map(|items| items.split(',').map(scalar).collect()) {
            Some(Some(items)) => Member::List(items),
            _ => Member::Other,
        },
        None => scalar(value).map_or(Member::Other, Member::Scalar),
    }
}

/// A scalar without its quotes and without a trailing comment; `None` for values of another form.
fn scalar(text: &str) -> Option<String> {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(rest) = text.strip_prefix(quote) {
            return rest
                .strip_suffix(quote)
                .filter(|inner| !inner.contains(['\\', quote]))
                .map(str::to_string);
        }
    }
    let text = text.split_once(" #").map_or(text, |(text, _)| text.trim_end());
    let other = text.starts_with(['{', '[', '&', '*', '|', '>', '!', '%', '@', '`']) || text.contains(": ");
    (!text.is_empty() && !other && !text.ends_with(':') && !["null", "~"].contains(&text))
        .then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_every_form() {
        let card = Card::parse(
            "---\nlicense: apache-2.0 # free\nlanguage:\n- en\n- \"no\"\ntags: [chat, 'small']\n\
             base_model: org/model\nmodel-index:\n- name: x\n  results: []\nwidget:\n  text: hi\nempty:\n---\nlicense: none\n",
        );
        assert_eq!(card.text(&["license"]).unwrap(), "apache-2.0");
        assert_eq!(card.list(&["language"]).unwrap(), ["en", "no"]);
        assert_eq!(card.joined(&["tags", "base_model", "absent"]).unwrap(), ["chat", "small", "org/model"]);
        assert_eq!(card.list(&["empty"]).unwrap(), [""; 0]);
        for other in ["model-index", "widget", "absent"] {
            assert!(card.list(&[other]).is_none(), "{other}");
        }
        assert!(Card::parse("# Title\n---\nlicense: mit\n---\n").text(&["license"]).is_none());
    }
}
