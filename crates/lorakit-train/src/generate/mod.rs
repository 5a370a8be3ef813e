//! Answers: a prompt in, tokens out, one after another.
//!
//! ```text
//!   open      base and adapters from their files
//!   sampling  how the next token is chosen
//!   stream    tokens become text as they come, texts that stop
//! ```
//!
//! A prompt is read as training reads rows, many tokens at a time; each token after it reads the weights once. Adapters
//! are added to the products of the base, which stays as it is.

mod open;
mod problem;
mod sampling;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::ControlFlow;

pub use open::{Open, Opened};
pub use sampling::Sampling;

use self::problem::Problem;
use self::sampling::Sampler;
use self::stream::Stream;
use crate::data::Text;
use crate::error::{Error, Result};
use crate::kernel::Products;
use crate::model::{Adapter, Cache, Decoder, Model};

/// Answers that are generated together: the weights are read once for all of them.
const TOGETHER: usize = 8;

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The model said so, with this token.
    End(u32),
    /// It came to this one of the texts that stop it.
    Text(String),
    /// It has as many tokens as it may have.
    Length,
    /// The model sees no more tokens than prompt and answer have.
    Context,
    /// Whoever listened had enough.
    Listener,
}

impl Stop {
    /// What it is called in files and reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::End(_) => "end",
            Self::Text(_) => "text",
            Self::Length => "length",
            Self::Context => "context",
            Self::Listener => "interrupted",
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Its tokens, without the one with which the model ended it; those of a text that stopped it are among them.
    pub tokens: Vec<u32>,
    /// Its text, without special tokens, and without the text that stopped it.
    pub text: String,
    /// The logarithm of each token's probability, as the model gives it: before anything of [`Sampling`].
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub stop: Stop,
}

/// What is heard of answers. Each comes with the place of its prompt.
#[derive(Debug)]
pub enum Heard<'a> {
    /// The prompt was read.
    Begins(usize),
    /// A token came, with as much text as is certain: whole characters, and nothing that may be the beginning of a text
    /// that stops the answer.
    Text(usize, &'a str),
    /// The answer is complete.
    Done(usize, Generated),
}

/// A model with an adapter, which answers prompts.
#[derive(Clone, Copy)]
pub struct Generator<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its adapter; [`Adapter::none`] for the base alone.
    pub adapter: &'a Adapter<f32>,
    /// Tokenizer, template, and where a turn ends.
    pub text: &'a Text,
    /// Tokens that the model sees at most, if that is known: prompt and answer.
    pub context: Option<usize>,
    /// Types of operands for prompts, and threads.
    pub products: Products,
}

impl<'a> Generator<'a> {
    /// What follows `prompt`, which [`Text::prompt`] makes of messages. `listen` gets the text as it comes, and may stop
    /// it.
    ///
    /// # Errors
    /// The prompt is empty, has a token that the model does not know, or fills its context; a number of `sampling` is
    /// none; logits are not finite.
    pub fn generate(
        &self,
        prompt: &[u32],
        sampling: &Sampling,
        listen: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generated> {
        let mut found = None;
        self.generate_each(&[prompt], sampling, &mut |heard| {
            match heard {
                Heard::Begins(_) | Heard::Text(_, "") => {}
                Heard::Text(_, text) => return listen(text),
                Heard::Done(_, generated) => found = Some(generated),
            }
            ControlFlow::Continue(())
        })?;
        found.ok_or_else(|| Problem::NoPrompt.into())
    }

    /// What follows each of `prompts`: what [`Self::generate`] makes of it alone.
    ///
    /// # Errors
    /// As [`Self::generate`], for the first prompt that has one.
    pub fn generate_all(&self, prompts: &[Vec<u32>], sampling: &Sampling) -> Result<Vec<Generated>> {
        let mut found: Vec<Option<Generated>> = prompts.iter().map(|_| None).collect();
        self.generate_each(prompts, sampling, &mut |heard| {
            if let Heard::Done(at, generated) = heard {
                found[at] = Some(generated);
            }
            ControlFlow::Continue(())
        })?;
        Ok(found.into_iter().flatten().collect())
    }

    /// As [`Self::generate_all`]; `listen` hears of each answer as it comes, several at a time. If it breaks off, all
    /// answers that are under way are done, and the others do not begin.
    ///
    /// # Errors
    /// As [`Self::generate_all`].
    pub fn generate_each<P: AsRef<[u32]>>(
        &self,
        prompts: &[P],
        sampling: &Sampling,
        listen: &mut dyn FnMut(Heard) -> ControlFlow<()>,
    ) -> Result<()> {
        sampling.check()?;
        for prompt in prompts {
            self.check(prompt.as_ref())?;
        }
        let ends = self.text.turn_ends()?;
        let decoder = Decoder::new(self.model, self.adapter, self.products);
        let mut waiting: VecDeque<usize> = (0..prompts.len()).collect();
        let mut going: Vec<Going<'_>> = Vec::new();
        let mut stopped = false;
        while !stopped {
            while going.len() < TOGETHER
                && !stopped
                && let Some(at) = waiting.pop_front()
            {
                let prompt = prompts[at].as_ref();
                let mut one = Going::new(self, sampling, at, prompt, decoder.cache());
                let logits = decoder.extend(&mut one.cache, prompt);
                stopped |= listen(Heard::Begins(at)).is_break();
                stopped |= one.settle(&logits, &ends, &mut going, listen)?;
            }
            if going.is_empty() || stopped {
                break;
            }
            let tokens: Vec<u32> = going.iter().map(|one| one.last).collect();
            let mut caches: Vec<&mut Cache> = going.iter_mut().map(|one| &mut one.cache).collect();
            let logits = decoder.step(&mut caches, &tokens);
            let rows = logits.chunks_exact(self.model.shape.vocabulary);
            for (one, logits) in std::mem::take(&mut going).into_iter().zip(rows) {
                stopped |= one.settle(logits, &ends, &mut going, listen)?;
            }
        }
        for one in going {
            one.done(Stop::Listener, listen)?;
        }
        Ok(())
    }

    /// Whether a prompt can be answered.
    ///
    /// # Errors
    /// It is empty, has a token that the model does not know, or fills its context.
    pub fn check(&self, prompt: &[u32]) -> Result<()> {
        let vocabulary = self.model.shape.vocabulary;
        if prompt.is_empty() {
            return Err(Problem::NoPrompt.into());
        }
        if let Some(token) = prompt.iter().find(|token| **token as usize >= vocabulary) {
            return Err(Problem::Token { token: *token, vocabulary }.into());
        }
        match self.context {
            Some(context) if prompt.len() >= context => {
                Err(Problem::TooLong { tokens: prompt.len(), context }.into())
            }
            _ => Ok(()),
        }
    }
}

/// An answer that is under way.
struct Going<'a> {
    at: usize,
    prompt: usize,
    cache: Cache,
    sampler: Sampler<'a>,
    stream: Stream<'a>,
    logprobs: Vec<f32>,
    /// The most tokens that it may have, and why no more.
    most: (usize, Stop),
    /// The token that was chosen last.
    last: u32,
}

impl<'a> Going<'a> {
    fn new(
        generator: &Generator<'a>,
        sampling: &'a Sampling,
        at: usize,
        prompt: &[u32],
        cache: Cache,
    ) -> Going<'a> {
        let room = generator.context.map_or(usize::MAX, |context| context - prompt.len());
        let most = match sampling.max_tokens <= room {
            true => (sampling.max_tokens, Stop::Length),
            false => (room, Stop::Context),
        };
        Going {
            at,
            prompt: prompt.len(),
            cache,
            sampler: Sampler::new(sampling, prompt, generator.model.shape.vocabulary),
            stream: Stream::new(&generator.text.tokenizer, &sampling.stop),
            logprobs: Vec::new(),
            most,
            last: 0,
        }
    }

    /// Takes the next token, and goes on with the others, or is done. Whether the listener has had enough.
    fn settle(
        mut self,
        logits: &[f32],
        ends: &[u32],
        going: &mut Vec<Going<'a>>,
        listen: &mut dyn FnMut(Heard) -> ControlFlow<()>,
    ) -> Result<bool> {
        if let Some(stop) = self.choose(logits, ends)? {
            return self.done(stop, listen);
        }
        let stopped = listen(Heard::Text(self.at, self.stream.take(false))).is_break();
        going.push(self);
        Ok(stopped)
    }

    /// Chooses a token; the answer may end with it.
    fn choose(&mut self, logits: &[f32], ends: &[u32]) -> Result<Option<Stop>> {
        let full = |tokens: usize| (tokens >= self.most.0).then(|| self.most.1.clone());
        if let Some(stop) = full(self.logprobs.len()) {
            return Ok(Some(stop));
        }
        let position = self.prompt + self.logprobs.len();
        let (token, logprob) =
            self.sampler.choose(logits).ok_or_else(|| Error::from(Problem::NonFinite { position }))?;
        if ends.contains(&token) {
            return Ok(Some(Stop::End(token)));
        }
        self.last = token;
        self.logprobs.push(logprob);
        let stop = self.stream.push(token)?.map(|text| Stop::Text(text.to_string()));
        Ok(stop.or_else(|| full(self.logprobs.len())))
    }

    fn done(mut self, mut stop: Stop, listen: &mut dyn FnMut(Heard) -> ControlFlow<()>) -> Result<bool> {
        if !matches!(stop, Stop::Text(_))
            && let Some(text) = self.stream.finish()?
        {
            stop = Stop::Text(text.to_string());
        }
        let stopped = listen(Heard::Text(self.at, self.stream.take(true))).is_break();
        let (tokens, text) = self.stream.into_parts();
        let done = Generated { prompt: self.prompt, tokens, text, logprobs: self.logprobs, stop };
        Ok(stopped | listen(Heard::Done(self.at, done)).is_break())
    }
}
