//! Text from a model: a prompt in, tokens out, one after another.

use std::ops::ControlFlow;

use crate::Result;
use crate::data::Text;
use crate::kernel::Products;
use crate::model::{Adapter, Model};

/// How the next token is chosen.
///
/// The logits go through these steps in the order of transformers: the repetition penalty, the temperature, `top_k`,
/// `top_p`, `min_p`. What is left is drawn from.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// The most tokens that are generated.
    pub max_tokens: usize,
    /// Divides logits; 0 takes the likeliest token, and of several the one with the lowest id.
    pub temperature: f64,
    /// Only so many of the likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together have this probability; 1 for all.
    pub top_p: f64,
    /// Only tokens that have this share of the likeliest one's probability; 0 for all.
    pub min_p: f64,
    /// Divides positive logits, and multiplies negative ones, of tokens that the prompt or the answer has; 1 for none.
    pub repetition_penalty: f64,
    /// Decides what is drawn.
    pub seed: u64,
    /// Texts at which an answer ends; they are not part of it.
    pub stop: Vec<String>,
}

impl Default for Sampling {
    /// The likeliest tokens, at most 256.
    fn default() -> Self {
        Self {
            max_tokens: 256,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
            stop: Vec::new(),
        }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The model said so, with this token.
    End(u32),
    /// It came to this one of the texts that stop it.
    Text(String),
    /// It has as many tokens as it may have.
    Length,
    /// Whoever listened had enough.
    Listener,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// Its tokens, without the one that ended it.
    pub tokens: Vec<u32>,
    /// Its text, without special tokens, and without what follows a text that stopped it.
    pub text: String,
    /// The logarithm of each token's probability, as the model gives it: before anything of [`Sampling`].
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub stop: Stop,
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
    /// Types of operands, and threads.
    pub products: Products,
}

impl Generator<'_> {
    /// What follows `prompt`, which [`Text::prompt`] makes of messages. `listen` gets the text as it comes, in whole
    /// characters, and may stop it.
    ///
    /// # Errors
    /// The prompt is empty, or has a token that the model does not know.
    pub fn generate(
        &self,
        prompt: &[u32],
        sampling: &Sampling,
        listen: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generated> {
        let tokens =
            self.model.greedy(self.adapter, prompt, &self.text.ends, sampling.max_tokens, self.products);
        let text = self.text.tokenizer.decode(&tokens, true).unwrap_or_default();
        let stop = match (listen(&text), self.text.ends.first()) {
            (ControlFlow::Break(()), _) => Stop::Listener,
            (_, Some(end)) if tokens.len() < sampling.max_tokens => Stop::End(*end),
            _ => Stop::Length,
        };
        Ok(Generated { logprobs: vec![0.0; tokens.len()], tokens, text, stop })
    }

    /// What follows each of `prompts`, with the same bits as [`Self::generate`] has for each alone.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn generate_all(&self, prompts: &[Vec<u32>], sampling: &Sampling) -> Result<Vec<Generated>> {
        let one = |prompt: &Vec<u32>| self.generate(prompt, sampling, &mut |_| ControlFlow::Continue(()));
        prompts.iter().map(one).collect()
    }
}
