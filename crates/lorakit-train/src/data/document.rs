//! A row as tokens, each with how much it counts.

use serde_json::Value;

use super::container::Row;
use super::format::{self, Conversation, Example, Format};
use super::mask::{Masked, Masker, Method, Span};
use super::problem::Problem;
use super::report::{Place, Thinking};
use super::template::THOUGHTS;
use super::text::{Encoded, Text};
use super::{Document, Options, TooLong, TrainOn};
use crate::Result;

/// Makes documents of rows.
#[derive(Debug)]
pub(super) struct Maker<'a> {
    pub(super) text: &'a Text,
    pub(super) options: &'a Options,
    masker: Option<Masker<'a>>,
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Built {
    /// How many are left of it.
    pub(super) documents: usize,
    pub(super) place: Place,
    /// Tokens of the whole row.
    pub(super) length: usize,
    /// They are more than a document may have.
    pub(super) too_long: bool,
    /// Therefore nothing is left of it.
    pub(super) dropped: bool,
    pub(super) method: Method,
    /// The row, or all that would be trained of it, has the weight 0.
    pub(super) weightless: bool,
    pub(super) end: End,
    /// Whether the text begins with the token that begins texts.
    pub(super) bos: bool,
    pub(super) empty_answer: bool,
    /// A token stands half in the prompt and half in the answer.
    pub(super) straddles: bool,
    /// The row offers tools, and the template does not write them.
    pub(super) unwritten_tools: bool,
    /// The template asked for the date.
    pub(super) dated: bool,
    pub(super) thinking: Thinking,
}

/// Whether what ends the answers of a row is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Trained,
    /// The text has an end of turn after the answer, outside of what is trained.
    Unmasked,
    /// Nothing ends an answer.
    Missing,
}

/// Tokens with weights, before anything is cut off.
struct Weighed {
    tokens: Vec<(u32, f32)>,
    built: Built,
}

impl<'a> Maker<'a> {
    pub(super) fn new(text: &'a Text, options: &'a Options) -> Self {
        Self { text, options, masker: None }
    }

    /// Gets ready for rows of `format`.
    ///
    /// # Errors
    ///
    /// They are conversations, and there is no template.
    pub(super) fn prepare(&mut self, format: Format) -> Result<()> {
        let chats = matches!(format, Format::Messages | Format::ShareGpt | Format::Alpaca);
        if self.masker.is_none() && (chats || self.text.template.is_some()) {
            self.masker = Some(Masker::new(self.text)?);
        }
        Ok(())
    }

    pub(super) fn masker(&self) -> Option<&Masker<'a>> {
        self.masker.as_ref()
    }

    pub(super) fn make(&self, format: Format, source: usize, row: &Row) -> Result<(Built, Vec<Document>)> {
        let (example, weight) = format::example(format, &row.fields)?;
        let place = Place { source, line: row.line };
        let Weighed { mut tokens, mut built } = match &example {
            Example::Chat(conversation) => self.chat(conversation, place)?,
            Example::Completion { prompt, completion } => self.completion(prompt, completion, place)?,
            Example::Text(text) => self.completion("", text, place)?,
            Example::Tokens(tokens) => {
                Weighed { tokens: tokens.clone(), built: Built::new(place, Method::Given) }
            }
        };
        for (token, own) in &mut tokens {
            if *token as usize >= self.text.vocabulary {
                return Err(Problem::Beyond { token: *token, vocabulary: self.text.vocabulary }.into());
            }
            *own *= weight;
            if !own.is_finite() {
                return Err(Problem::Weight { field: "weight".into(), found: weight.to_string() }.into());
            }
        }
        built.weightless |= weight == 0.0;
        built.length = tokens.len();
        built.too_long = built.length > self.options.seq_len;
        built.dropped = built.too_long && self.options.too_long == TooLong::Drop;
        let windows = self.cut(format, &tokens)?;
        let document = |window: &[(u32, f32)]| {
            let (tokens, mut weights): (Vec<u32>, Vec<f32>) = window.iter().copied().unzip();
            if let Some(first) = weights.first_mut() {
                *first = 0.0;
            }
            Document { tokens, weights, source, line: row.line }
        };
        let trained = |document: &Document| document.weights.iter().any(|weight| *weight > 0.0);
        let documents: Vec<Document> = windows.into_iter().map(document).filter(trained).collect();
        built.documents = documents.len();
        Ok((built, documents))
    }

    fn chat(&self, conversation: &Conversation, place: Place) -> Result<Weighed> {
        let masker = self.masker.as_ref().ok_or(Problem::NoTemplate)?;
        let Masked { text, spans, method, dated } = masker.mask(conversation, self.options.train_on)?;
        let encoded = self.text.encode(&text)?;
        self.text.check_front(&encoded.tokens)?;
        let mut built = Built { dated, ..Built::new(place, method) };
        let weights = weights(&encoded, &spans);
        built.bos = self.text.bos.as_ref().is_some_and(|(bos, _)| encoded.tokens.first() == Some(bos));
        built.straddles = straddles(&encoded, &spans);
        built.thinking = Thinking::of(&text, &spans);
        let thoughts = conversation.messages.iter().filter(is_answer).filter_map(thoughts);
        built.thinking.dropped = thoughts.filter(|thoughts| !text.contains(thoughts)).count();
        let tools = conversation.tools.as_ref().and_then(Value::as_array).into_iter().flatten();
        let mut names = tools.filter_map(|tool| tool["function"]["name"].as_str().or(tool["name"].as_str()));
        built.unwritten_tools = names.any(|name| !text.contains(name));
        built.empty_answer = conversation.messages.iter().filter(is_answer).any(|message| {
            message["content"].as_str().is_none_or(|content| content.trim().is_empty())
                && message["content"].as_array().is_none_or(Vec::is_empty)
                && message.get("tool_calls").is_none()
        });
        let assistant = conversation.messages.iter().zip(&conversation.weights);
        let mut assistant = assistant.filter(|(message, _)| is_answer(message)).peekable();
        built.weightless = assistant.peek().is_some() && assistant.all(|(_, weight)| *weight == Some(0.0));
        if method != Method::Whole {
            let ends = spans.iter().map(|span| self.end(masker, &text, &encoded, span));
            built.end = ends.max().unwrap_or(End::Trained);
        }
        Ok(Weighed { tokens: encoded.tokens.into_iter().zip(weights).collect(), built })
    }

    /// Whether the end of the answer `span` is trained.
    fn end(&self, masker: &Masker<'_>, text: &str, encoded: &Encoded, span: &Span) -> End {
        let after = text[span.range.end..].trim_start();
        let follows = masker.ends.iter().any(|end| after.starts_with(end.as_str()));
        let within = |(start, end): (usize, usize)| start < span.range.end && end > span.range.start;
        let last = encoded.places.iter().rposition(|place| {
            within(*place) && text.get(place.0..place.1).is_none_or(|own| !own.trim().is_empty())
        });
        let last = last.map(|at| encoded.tokens[at]);
        let added = self.text.tokenizer.get_added_vocabulary();
        let stops = |id: u32| {
            self.text.ends.contains(&id)
                || added
                    .simple_id_to_token(id)
                    .is_some_and(|token| !follows || masker.ends.iter().any(|end| end.ends_with(&token)))
        };
        match (last.is_some_and(stops), follows) {
            (true, _) => End::Trained,
            (false, true) => End::Unmasked,
            (false, false) => End::Missing,
        }
    }

    /// Texts without a template. They are tokenised together, so that words that meet are written as they are in texts;
    /// the token that ends texts is added.
    fn completion(&self, prompt: &str, completion: &str, place: Place) -> Result<Weighed> {
        let text = format!("{prompt}{completion}");
        let mut encoded = self.text.encode_plain(&text)?;
        self.text.check_front(&encoded.tokens)?;
        let whole = self.options.train_on == TrainOn::All || prompt.is_empty();
        let start = if whole { 0 } else { prompt.len() };
        let span = Span { range: start..text.len(), weight: 1.0 };
        let mut built = Built::new(place, if whole { Method::Whole } else { Method::Given });
        built.straddles = !whole && straddles(&encoded, std::slice::from_ref(&span));
        built.bos = self.text.bos.as_ref().is_some_and(|(bos, _)| encoded.tokens.first() == Some(bos));
        built.empty_answer = completion.trim().is_empty();
        built.thinking = Thinking::of(&text, std::slice::from_ref(&span));
        let mut weights = weights(&encoded, &[span]);
        match self.text.eos {
            Some(eos) if encoded.tokens.last().is_none_or(|last| !self.text.ends.contains(last)) => {
                encoded.tokens.push(eos);
                weights.push(1.0);
            }
            Some(_) => {}
            None => built.end = End::Missing,
        }
        Ok(Weighed { tokens: encoded.tokens.into_iter().zip(weights).collect(), built })
    }

    /// The parts of a row that are trained at once.
    fn cut<'t>(&self, format: Format, tokens: &'t [(u32, f32)]) -> Result<Vec<&'t [(u32, f32)]>> {
        let limit = self.options.seq_len;
        if tokens.len() <= limit {
            return Ok(vec![tokens]);
        }
        match self.options.too_long {
            TooLong::Error => Err(Problem::TooLong { tokens: tokens.len(), limit }.into()),
            TooLong::Drop => Ok(Vec::new()),
            TooLong::Truncate if format != Format::Text => Ok(vec![&tokens[..limit]]),
            TooLong::Truncate | TooLong::Split => {
                let starts = (0..tokens.len() - 1).step_by(limit - 1);
                Ok(starts.map(|start| &tokens[start..tokens.len().min(start + limit)]).collect())
            }
        }
    }
}

impl Built {
    fn new(place: Place, method: Method) -> Self {
        Self {
            documents: 0,
            place,
            length: 0,
            too_long: false,
            dropped: false,
            method,
            weightless: false,
            end: End::Trained,
            bos: false,
            empty_answer: false,
            straddles: false,
            unwritten_tools: false,
            dated: false,
            thinking: Thinking::default(),
        }
    }
}

fn is_answer(message: &&Value) -> bool {
    message["role"] == "assistant"
}

/// What a message thinks, in a field of its own or in a block of its content.
fn thoughts(message: &Value) -> Option<&str> {
    let field = THOUGHTS.iter().find_map(|name| message[*name].as_str());
    let block = || message["content"].as_str()?.split_once("<think>")?.1.split_once("</think>");
    field.or_else(|| Some(block()?.0)).map(str::trim).filter(|thoughts| !thoughts.is_empty())
}

/// The weight of each token: that of the span with which it shares a byte, as transformers decides it.
pub(super) fn weights(encoded: &Encoded, spans: &[Span]) -> Vec<f32> {
    let weight = |(start, end): &(usize, usize)| {
        // Spans are in order, and few.
        let span = spans.iter().find(|span| *start < span.range.end && *end > span.range.start);
        span.map_or(0.0, |span| span.weight)
    };
    encoded.places.iter().map(weight).collect()
}

/// Whether a token begins before a span and ends within it.
fn straddles(encoded: &Encoded, spans: &[Span]) -> bool {
    let mut starts = spans.iter().map(|span| span.range.start);
    starts.any(|at| encoded.places.iter().any(|(start, end)| *start < at && at < *end))
}
