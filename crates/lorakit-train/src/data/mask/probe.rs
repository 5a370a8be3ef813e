//! Where the answers stand in the text: their words are replaced by marks, and the template shows where they go.

use std::ops::Range;

use serde_json::Value;

use super::{Scene, Span, json};
use crate::data::template::THOUGHTS;

/// What encloses the number of a mark: private-use characters.
pub(super) const MARKS: [char; 2] = ['\u{F0002}', '\u{F0003}'];

/// What the marks stand for, in order.
#[derive(Default)]
struct Marks(Vec<String>);

impl Scene<'_> {
    /// The places of answers in `text`. None if they are not all found, or if the template writes something else once
    /// their words are others.
    pub(super) fn probe(&self, text: &str, weights: &[f32]) -> Option<Vec<Span>> {
        let mut marks = Marks::default();
        let mut of_message: Vec<Range<usize>> = Vec::new();
        let mut messages = Vec::new();
        for message in &self.messages {
            let before = marks.0.len();
            messages.push(marks.message(message));
            of_message.push(before..marks.0.len());
        }
        let places = marks.places(&self.render(&messages, false).ok()?.text, text)?;
        let found = |message: usize| places[of_message[message].clone()].iter().flatten();
        let trained = self.turns().filter(|turn| weights[*turn] > 0.0);
        let span = |turn: usize| {
            let first = found(turn).map(|place| place.start).min()?;
            let last = found(turn).map(|place| place.end).max()?;
            let before = (0..turn).flat_map(found).map(|place| place.end).max().unwrap_or(0);
            let after = turn + 1..self.messages.len();
            let after = after.flat_map(found).map(|place| place.start).min().unwrap_or(text.len());
            if before > first || after < last {
                return None;
            }
            let start = match self.after_header(&text[before..first]) {
                Some(after) => first - after.len(),
                None if is_plain(&self.messages[turn]) => first,
                None => return None,
            };
            let mut end = last + self.up_to_end(&text[last..after]).len();
            if turn + 1 == self.messages.len() && self.masker.is_special(&text[end..]) {
                end = text.len();
            }
            Some(Span { range: start..end, weight: weights[turn] })
        };
        trained.map(span).collect()
    }

    /// What follows the header of the answer in `text`, which ends where its words begin. A header may end with an empty
    /// think block, which the template leaves out where there are thoughts. None if there is no header.
    fn after_header<'t>(&self, text: &'t str) -> Option<&'t str> {
        let ends = self.masker.manner.headers();
        let ends = ends.filter_map(|header| text.rfind(header).map(|at| at + header.len()));
        ends.max().map(|end| &text[end..])
    }

    /// What precedes the end of the answer in `text`, with that and the white space after it; nothing if the answer has
    /// no end there.
    fn up_to_end<'t>(&self, text: &'t str) -> &'t str {
        let ends = self.masker.ends.iter().filter_map(|end| text.find(end.as_str()).map(|at| at + end.len()));
        let end = ends.min().unwrap_or(0);
        let space = text[end..].len() - text[end..].trim_start().len();
        &text[..if end == 0 { 0 } else { end + space }]
    }
}

/// Whether a message has nothing but words, before which the template writes nothing that belongs to them.
fn is_plain(message: &Value) -> bool {
    let thinks = |name| message.get(name).is_some();
    let words = message["content"].as_str().is_some_and(|content| !content.contains("<think>"));
    words && message.get("tool_calls").is_none() && !THOUGHTS.into_iter().any(thinks)
}

impl Marks {
    /// `text` with a mark for its words.
    fn words(&mut self, text: &str) -> String {
        let words = text.trim();
        if words.is_empty() {
            return text.to_string();
        }
        let at = text.len() - text.trim_start().len();
        let (before, after) = (&text[..at], &text[at + words.len()..]);
        let [open, close] = MARKS;
        self.0.push(words.to_string());
        format!("{before}{open}{}{close}{after}", self.0.len() - 1)
    }

    /// `text` with marks for its thoughts and for its answer, which templates may take apart.
    fn thoughts(&mut self, text: &str) -> String {
        let (open, close) = ("<think>", "</think>");
        let thoughts =
            text.split_once(open).and_then(|(before, rest)| Some((before, rest.split_once(close)?)));
        match thoughts {
            Some((before, (thoughts, answer))) => {
                let (before, thoughts) = (self.words(before), self.words(thoughts));
                format!("{before}{open}{thoughts}{close}{}", self.words(answer))
            }
            None => self.words(text),
        }
    }

    fn field(&mut self, object: &mut Value, name: &str) {
        if let Some(Value::String(text)) = object.get(name) {
            object[name] = self.thoughts(text).into();
        }
    }

    /// `message` with marks.
    fn message(&mut self, message: &Value) -> Value {
        let mut message = message.clone();
        for name in THOUGHTS {
            self.field(&mut message, name);
        }
        self.field(&mut message, "content");
        for part in message.get_mut("content").and_then(Value::as_array_mut).into_iter().flatten() {
            self.field(part, "text");
        }
        for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            let inner = call.get("function").is_some();
            self.field(if inner { &mut call["function"] } else { call }, "name");
        }
        message
    }

    /// The place in `text` of what each mark stands for, if `marked` becomes `text` by putting all of it back. What the
    /// template left out has no place.
    fn places(&self, marked: &str, text: &str) -> Option<Vec<Option<Range<usize>>>> {
        let mut places = vec![None; self.0.len()];
        let (before, mut rest) = marked.split_once(MARKS[0]).unwrap_or((marked, ""));
        if !text.starts_with(before) {
            return None;
        }
        let mut at = before.len();
        while !rest.is_empty() {
            let (number, after) = rest.split_once(MARKS[1])?;
            let (follows, next) = after.split_once(MARKS[0]).unwrap_or((after, ""));
            let number: usize = number.parse().ok()?;
            let words = self.0.get(number)?;
            // A template may write a result as JSON.
            let escaped = json(&words.as_str().into());
            let forms = [words.as_str(), &escaped[1..escaped.len() - 1]];
            let form = forms
                .into_iter()
                .find(|form| text[at..].strip_prefix(form).is_some_and(|rest| rest.starts_with(follows)))?;
            if places[number].replace(at..at + form.len()).is_some() {
                return None;
            }
            at += form.len() + follows.len();
            rest = next;
        }
        (at == text.len()).then_some(places)
    }
}
