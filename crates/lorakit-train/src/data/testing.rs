//! What tests of this room share: the goldens of transformers, tokenizers, rows.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value};
use tokenizers::{AddedToken, Tokenizer};

use super::format::Conversation;
use super::mask::Masker;
use super::template::{Day, Template};
use super::text::Text;

pub(super) fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// What transformers makes of conversations.
pub(super) struct Golden(Value);

/// A conversation, a template, and what transformers makes of them.
pub(super) struct Case<'a> {
    pub(super) template: &'a str,
    pub(super) name: &'a str,
    conversation: &'a Value,
    pub(super) expected: &'a Value,
}

impl Golden {
    pub(super) fn read() -> Self {
        let text = std::fs::read_to_string(fixtures().join("golden/templates.json")).unwrap();
        Self(serde_json::from_str(&text).unwrap())
    }

    pub(super) fn cases(&self) -> impl Iterator<Item = Case<'_>> {
        self.0["cases"].as_array().unwrap().iter().map(|expected| {
            let name = expected["conversation"].as_str().unwrap();
            let conversation = &self.0["conversations"][name];
            Case { template: expected["template"].as_str().unwrap(), name, conversation, expected }
        })
    }

    pub(super) fn templates(&self) -> impl Iterator<Item = &str> {
        self.0["templates"].as_object().unwrap().keys().map(String::as_str)
    }

    /// Whether tags of the template enclose what the prompt gives.
    pub(super) fn within_tags(&self, template: &str) -> bool {
        let text = self.text(template, Map::new());
        Masker::new(&text).unwrap().manner.prompt_within_tags
    }

    /// The tokenizer that the goldens were made with, and a template.
    pub(super) fn text(&self, template: &str, variables: Map<String, Value>) -> Text {
        let source = std::fs::read_to_string(fixtures().join(format!("templates/{template}.jinja"))).unwrap();
        let bounds = self.0["templates"][template].as_object().unwrap();
        let list = |key: &str| -> Vec<String> { serde_json::from_value(self.0[key].clone()).unwrap() };
        let mut tokenizer = Tokenizer::from_file(fixtures().join("tiny-orders/tokenizer.json")).unwrap();
        let special = bounds.values().map(|token| token.as_str().unwrap().to_string()).chain(list("special"));
        tokenizer.add_special_tokens(special.map(|token| AddedToken::from(token, true))).unwrap();
        tokenizer.add_tokens(list("added").into_iter().map(|token| AddedToken::from(token, false))).unwrap();
        let mut template = Template::new(&source).unwrap();
        template.set_day(Day::new(self.0["day"].as_str().unwrap()).unwrap());
        let mut text = Text::new(tokenizer, Some(template), bounds, Vec::new()).unwrap();
        text.variables.extend(variables);
        text
    }
}

impl Case<'_> {
    pub(super) fn messages(&self) -> Vec<Value> {
        self.conversation["messages"].as_array().unwrap().clone()
    }

    pub(super) fn tools(&self) -> Option<Value> {
        self.conversation.get("tools").cloned()
    }

    pub(super) fn variables(&self) -> Map<String, Value> {
        self.conversation["variables"].as_object().cloned().unwrap_or_default()
    }

    pub(super) fn prompt(&self) -> bool {
        self.conversation["prompt"] == true
    }

    pub(super) fn conversation(&self) -> Conversation {
        let messages = self.messages();
        let weights = vec![None; messages.len()];
        Conversation { messages, weights, tools: self.tools(), ..Conversation::default() }
    }

    pub(super) fn trained(&self) -> Option<Vec<(usize, usize)>> {
        serde_json::from_value(self.expected.get("trained")?.clone()).unwrap()
    }
}

impl fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.template, self.name)
    }
}

/// Runs of tokens that are trained.
pub(super) fn ranges(weights: &[f32]) -> Vec<(usize, usize)> {
    let mut end = 0;
    let runs = weights.chunk_by(|a, b| (*a > 0.0) == (*b > 0.0)).map(|run| {
        end += run.len();
        (run[0] > 0.0, (end - run.len(), end))
    });
    runs.filter(|(trained, _)| *trained).map(|(_, range)| range).collect()
}
