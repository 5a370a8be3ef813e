//! Answers and their speed, as objects and for people.

use lorakit_train::data::Asked;
use lorakit_train::generate::{Generated, Stop};
use serde::Serialize;

use crate::ui::{self, Ui};
use crate::units;

/// One answer.
#[derive(Serialize)]
pub(super) struct Answer<'a> {
    line: u64,
    text: &'a str,
    expected: Option<&'a str>,
    stop: &'static str,
    stop_text: Option<&'a str>,
    prompt_tokens: usize,
    tokens: Vec<Token>,
}

#[derive(Serialize)]
struct Token {
    id: u32,
    logprob: f32,
}

/// Why an answer ended, in a word.
pub(crate) fn stop_word(stop: &Stop) -> &'static str {
    match stop {
        Stop::End(_) => "end",
        Stop::Text(_) => "text",
        Stop::Length => "length",
        Stop::Context => "context",
        Stop::Listener => "interrupted",
    }
}

impl<'a> Answer<'a> {
    pub(super) fn new(asked: &'a Asked, generated: &'a Generated) -> Self {
        let tokens = generated.tokens.iter().zip(&generated.logprobs);
        let stop_text = match &generated.stop {
            Stop::Text(text) => Some(text.as_str()),
            _ => None,
        };
        Answer {
            line: asked.line,
            text: &generated.text,
            expected: asked.expected.as_deref(),
            stop: stop_word(&generated.stop),
            stop_text,
            prompt_tokens: generated.prompt,
            tokens: tokens.map(|(id, logprob)| Token { id: *id, logprob: *logprob }).collect(),
        }
    }
}

/// How fast it went.
#[derive(Default, Serialize)]
pub(super) struct Speed {
    pub(super) prompt_tokens: usize,
    /// Until the prompt was read; none for several, which are read in between.
    pub(super) prompt_seconds: Option<f64>,
    pub(super) tokens: usize,
    /// In all.
    pub(super) seconds: f64,
}

impl Speed {
    /// Says it on stderr.
    pub(super) fn say(&self, ui: &Ui) {
        if ui.quiet || ui.json {
            return;
        }
        let rate = |tokens: usize, seconds: f64| tokens as f64 / seconds.max(1e-9);
        let answer = self.seconds - self.prompt_seconds.unwrap_or_default();
        let prompt = match self.prompt_seconds {
            Some(seconds) => format!("prompt {:.0} tokens/s, ", rate(self.prompt_tokens, seconds)),
            None => String::new(),
        };
        ui::note(&format!(
            "{prompt}{} in {answer:.1} s, {:.1} tokens/s",
            units::plural(self.tokens, "token"),
            rate(self.tokens, answer)
        ));
    }
}
