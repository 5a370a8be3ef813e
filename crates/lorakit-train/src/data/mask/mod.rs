//! Which part of a conversation's text the model writes, and so is trained.
//!
//! The first method that applies is used: generation tags of the template; else the text after the prompt of each
//! answer, where the prompt is a prefix of the conversation; else the places of the answers in the text. If none does,
//! the conversation is refused: training on everything, or on nothing, is never what was meant.

mod manner;
mod prefix;
mod probe;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use serde_json::{Map, Value};

pub(super) use self::manner::Manner;
use super::format::Conversation;
use super::problem::Problem;
use super::template::{Context, Rendered, Template, json};
use super::text::Text;
use super::{TrainOn, template};
use crate::Result;

/// How it was found what is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Generation tags of the chat template.
    Tags,
    /// What the template adds to the prompt of each answer.
    Prefix,
    /// The places of the answers in the text.
    Probe,
    /// Everything is trained.
    Whole,
    /// The row says so: a completion, labels.
    Given,
}

impl Method {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tags => "generation tags",
            Self::Prefix => "prefix rendering",
            Self::Probe => "sentinel probe",
            Self::Whole => "everything",
            Self::Given => "given by the row",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A part of a text that is trained.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span {
    /// Bytes of the text.
    pub(super) range: Range<usize>,
    pub(super) weight: f32,
}

/// The text of a conversation, and what of it is trained.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Masked {
    pub(super) text: String,
    /// In order, without overlaps.
    pub(super) spans: Vec<Span>,
    pub(super) method: Method,
    /// Whether the template asked for the date.
    pub(super) dated: bool,
}

/// A template with all that is known of it.
#[derive(Debug)]
pub(super) struct Masker<'a> {
    text: &'a Text,
    template: &'a Template,
    pub(super) manner: Manner,
    /// Texts of special tokens, long ones first.
    special: Vec<String>,
    /// Texts at which the model stops: the template's own, and those of the configuration.
    pub(super) ends: Vec<String>,
}

/// A conversation on its way through the template.
struct Scene<'a> {
    masker: &'a Masker<'a>,
    messages: Vec<Value>,
    tools: Option<&'a Value>,
    variables: Map<String, Value>,
}

impl<'a> Masker<'a> {
    /// # Errors
    ///
    /// There is no template.
    pub(super) fn new(text: &'a Text) -> Result<Self> {
        let template = text.template.as_ref().ok_or(Problem::NoTemplate)?;
        let special = text.special_texts();
        let manner = Manner::of(template, &text.variables, &special);
        let mut ends = manner.ends.clone();
        ends.extend(text.ends.iter().filter_map(|id| text.tokenizer.id_to_token(*id)));
        Ok(Self { text, template, manner, special, ends })
    }

    pub(super) fn mask(&self, conversation: &Conversation, train_on: TrainOn) -> Result<Masked> {
        if conversation.messages.iter().any(marked) {
            return Err(Problem::PrivateUse.into());
        }
        let weights = weights(conversation, train_on)?;
        let scene = self.scene(conversation);
        let rendered = scene.render(&scene.messages, false)?;
        if calls(&scene.messages).any(|name| !rendered.text.contains(name)) {
            return Err(Problem::NoCalls.into());
        }
        if train_on == TrainOn::All {
            let range = 0..rendered.text.len();
            let spans = vec![Span { range, weight: 1.0 }];
            return Ok(Masked { text: rendered.text, spans, method: Method::Whole, dated: rendered.dated });
        }
        let text = &rendered.text;
        let found = scene
            .tags(&rendered, &weights)
            .map(|spans| (spans, Method::Tags))
            .or_else(|| Some((scene.prefix(text, &weights)?, Method::Prefix)))
            .or_else(|| Some((scene.probe(text, &weights)?, Method::Probe)));
        let Some((mut spans, method)) = found else { return Err(Problem::NoMask.into()) };
        spans.retain(|span| !span.range.is_empty() && span.weight > 0.0);
        if spans.windows(2).any(|pair| pair[0].range.end > pair[1].range.start) {
            return Err(Problem::NoMask.into());
        }
        Ok(Masked { text: rendered.text, spans, method, dated: rendered.dated })
    }

    /// The text with which the model is asked after so many messages.
    pub(super) fn prompt(&self, conversation: &Conversation, messages: usize) -> Result<String> {
        let scene = self.scene(conversation);
        Ok(scene.render(&scene.messages[..messages], true)?.text)
    }

    fn scene<'c>(&'c self, conversation: &'c Conversation) -> Scene<'c> {
        let mut variables = self.text.variables.clone();
        variables.extend(conversation.variables.clone());
        let messages = match self.manner.arguments_as_text {
            true => conversation.messages.iter().map(manner::arguments_as_text).collect(),
            false => conversation.messages.clone(),
        };
        Scene { masker: self, messages, tools: conversation.tools.as_ref(), variables }
    }

    /// What is left of `text` after the special token that it begins with.
    fn after_special<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.special.iter().find_map(|special| text.strip_prefix(special))
    }

    /// What is left of `text` before the special token that it ends with.
    fn before_special<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.special.iter().find_map(|special| text.strip_suffix(special))
    }

    /// Whether `text` holds only special tokens and white space.
    fn is_special(&self, text: &str) -> bool {
        let mut rest = text.trim_start();
        while let Some(after) = self.after_special(rest) {
            rest = after.trim_start();
        }
        rest.is_empty()
    }
}

impl Scene<'_> {
    fn render(&self, messages: &[Value], prompt: bool) -> Result<Rendered> {
        let context = Context { messages, tools: self.tools, prompt, variables: &self.variables };
        self.masker.template.render(context)
    }

    /// The places of the assistant's messages.
    fn turns(&self) -> impl Iterator<Item = usize> {
        let turns = self.messages.iter().enumerate().filter(|(_, message)| message["role"] == "assistant");
        turns.map(|(at, _)| at)
    }

    /// The text with which the model is asked for message `turn`.
    fn prompt(&self, turn: usize) -> Option<String> {
        Some(self.render(&self.messages[..turn], true).ok()?.text)
    }

    /// What generation tags enclose. None if there are no tags, or if it is not known which message each belongs to,
    /// and that matters.
    fn tags(&self, rendered: &Rendered, weights: &[f32]) -> Option<Vec<Span>> {
        let turns: Vec<usize> = self.turns().collect();
        if rendered.generated.is_empty() && !turns.is_empty() {
            return None;
        }
        let weights: Vec<f32> = turns.iter().map(|turn| weights[*turn]).collect();
        let each = if rendered.generated.len() == turns.len() {
            weights
        } else {
            let first = weights.first().copied().unwrap_or(0.0);
            if weights.iter().any(|weight| *weight != first) {
                return None;
            }
            vec![first; rendered.generated.len()]
        };
        let span = |(range, weight): (&Range<usize>, f32)| Span { range: range.clone(), weight };
        let mut spans: Vec<Span> = rendered.generated.iter().zip(each).map(span).collect();
        for span in &mut spans {
            span.range.start += self.masker.manner.header_length(&rendered.text[span.range.clone()]);
        }
        if self.masker.manner.prompt_within_tags {
            self.leave_out_prompts(&rendered.text, &turns, &mut spans);
        }
        Some(spans)
    }

    /// What the prompt gives, such as an empty think block, the model does not write, although tags enclose it.
    fn leave_out_prompts(&self, text: &str, turns: &[usize], spans: &mut [Span]) {
        for prompt in turns.iter().filter_map(|turn| self.prompt(*turn)) {
            if text.starts_with(&prompt) {
                for span in spans.iter_mut().filter(|span| span.range.contains(&prompt.len())) {
                    span.range.start = prompt.len();
                }
            }
        }
    }
}

/// Whether the last token of `end` is one at which the model stops.
pub(super) fn stops(end: &str, text: &Text) -> bool {
    let encoded = text.encode(end).unwrap_or_default();
    encoded.tokens.last().is_some_and(|last| text.ends.contains(last))
}

/// How much each message counts.
fn weights(conversation: &Conversation, train_on: TrainOn) -> Result<Vec<f32>> {
    let messages = conversation.messages.iter().zip(&conversation.weights).enumerate();
    let mut weights: Vec<f32> = messages
        .map(|(at, (message, weight))| match message["role"] == "assistant" && at >= conversation.prompt {
            true => weight.unwrap_or(1.0),
            false => 0.0,
        })
        .collect();
    match train_on {
        TrainOn::Auto => {}
        TrainOn::LastTurn => {
            let last = conversation.messages.iter().rposition(|message| message["role"] == "assistant");
            for (at, weight) in weights.iter_mut().enumerate() {
                if Some(at) != last {
                    *weight = 0.0;
                }
            }
        }
        TrainOn::All => {
            if conversation.weights.iter().flatten().any(|weight| *weight != 1.0) {
                return Err(Problem::MaskedMessage.into());
            }
        }
    }
    Ok(weights)
}

/// The names of the functions that the assistant calls.
fn calls(messages: &[Value]) -> impl Iterator<Item = &str> {
    let assistant = messages.iter().filter(|message| message["role"] == "assistant");
    let calls = assistant.flat_map(|message| message["tool_calls"].as_array().into_iter().flatten());
    calls.filter_map(|call| call["function"]["name"].as_str().or(call["name"].as_str()))
}

/// Whether a text in `value` has characters that mark places here.
fn marked(value: &Value) -> bool {
    let ours = |text: &str| text.contains(template::MARKS) || text.contains(probe::MARKS);
    match value {
        Value::String(text) => ours(text),
        Value::Array(items) => items.iter().any(marked),
        Value::Object(object) => object.iter().any(|(key, value)| ours(key) || marked(value)),
        _ => false,
    }
}
