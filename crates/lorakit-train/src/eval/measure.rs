//! What a model with an adapter does: losses on held-out rows and on general text, and answers.

use std::ops::ControlFlow;

use rayon::prelude::*;

use super::check::Answer;
use super::general::Paragraph;
use super::problem::Problem;
use super::rows::Row;
use crate::Result;
use crate::data::Text;
use crate::generate::{Generator, Heard, Sampling, Stop};
use crate::kernel::Products;
use crate::kernel::math::ln;
use crate::model::{Adapter, Batch, Model, Real};

/// Tokens of general text that are predicted in one pass: the logits of all of them exist at once, of two models.
pub(super) const WINDOW: usize = 128;

/// A loss: of a row, or of a paragraph.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Loss {
    /// The weighted sum over tokens.
    pub(super) nats: f64,
    /// The sum of the weights.
    pub(super) weight: f64,
    /// How many tokens count.
    pub(super) tokens: usize,
    /// Bytes of the text that they stand for.
    pub(super) bytes: usize,
    /// The divergence of the model from the base, summed over tokens.
    pub(super) divergence: Option<f64>,
}

impl Loss {
    /// Adds what follows in the same text.
    pub(super) fn add(&mut self, other: &Loss) {
        let first = self.tokens == 0;
        self.nats += other.nats;
        self.weight += other.weight;
        self.tokens += other.tokens;
        self.bytes += other.bytes;
        self.divergence = match (first, self.divergence, other.divergence) {
            (true, _, own) => own,
            (false, before, own) => before.zip(own).map(|(before, own)| before + own),
        };
    }

    /// The sum of losses.
    pub(super) fn sum<'l>(losses: impl IntoIterator<Item = &'l Loss>) -> Loss {
        let mut sum = Loss::default();
        losses.into_iter().for_each(|loss| sum.add(loss));
        sum
    }

    /// Nats per token.
    pub(super) fn mean(&self) -> f64 {
        if self.weight > 0.0 { self.nats / self.weight } else { 0.0 }
    }

    /// Bits.
    pub(super) fn bits(&self) -> f64 {
        self.nats / std::f64::consts::LN_2
    }

    /// Bits per byte, if there are any.
    pub(super) fn bits_per_byte(&self) -> Option<f64> {
        (self.bytes > 0).then(|| self.bits() / self.bytes as f64)
    }

    /// Nats per token between a model and the base.
    pub(super) fn mean_divergence(&self) -> Option<f64> {
        self.divergence.filter(|_| self.weight > 0.0).map(|divergence| divergence / self.weight)
    }
}

/// What happens to a prompt.
pub(super) enum Moment {
    /// It was read.
    Asked(usize),
    /// It was answered.
    Answered(usize),
}

/// A model that is judged.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) model: &'a Model,
    pub(super) adapter: &'a Adapter<f32>,
    pub(super) products: Products,
}

impl Subject<'_> {
    /// The loss of predicting what counts in a row.
    ///
    /// # Errors
    /// `NonFinite`.
    pub(super) fn loss(&self, row: &Row) -> Result<Loss> {
        let document = &row.document;
        let lengths = [document.tokens.len()];
        let batch = Batch { tokens: &document.tokens, lengths: &lengths, weights: &document.weights };
        let mut nats = 0.0;
        self.model.loss(self.adapter, &batch, self.products, &mut nats);
        if !nats.is_finite() {
            return Err(Problem::Loss { line: document.line }.into());
        }
        let weight = batch.weight();
        Ok(Loss { nats, weight, tokens: row.supervised, bytes: row.bytes, divergence: None })
    }

    /// The logits after each token of a paragraph but the last.
    pub(super) fn logits(&self, paragraph: &Paragraph) -> Vec<f32> {
        let tokens = &paragraph.tokens;
        self.model.logits(self.adapter, tokens, 0..tokens.len() - 1, self.products)
    }
}

/// The loss of a paragraph, given its logits; with those of a base, how far the distributions are from the base's.
///
/// # Errors
/// `NonFinite`.
pub(super) fn general(paragraph: &Paragraph, own: &[f32], base: Option<&[f32]>) -> Result<Loss> {
    let targets = &paragraph.tokens[1..];
    let vocabulary = own.len() / targets.len();
    let predicted = |(at, target): (usize, &u32)| {
        let row = at * vocabulary..(at + 1) * vocabulary;
        let model = Distribution::of(&own[row.clone()]);
        let divergence = base.map(|base| Distribution::of(&base[row]).divergence(&model));
        (model.surprise(*target as usize), divergence)
    };
    let each: Vec<(f64, Option<f64>)> = targets.par_iter().enumerate().map(predicted).collect();
    let nats: f64 = each.iter().map(|(surprise, _)| surprise).sum();
    let divergence = base.map(|_| each.iter().filter_map(|(_, divergence)| *divergence).sum());
    if !nats.is_finite() {
        return Err(Problem::GeneralLoss { paragraph: paragraph.number }.into());
    }
    let tokens = targets.len();
    Ok(Loss { nats, weight: tokens as f64, tokens, bytes: paragraph.bytes, divergence })
}

/// The probabilities of the next token.
struct Distribution<'a> {
    logits: &'a [f32],
    /// The logarithm of the sum of their exponentials.
    whole: f64,
}

impl<'a> Distribution<'a> {
    fn of(logits: &'a [f32]) -> Self {
        let top = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = logits.iter().map(|logit| Real::exp(f64::from(*logit) - top)).sum();
        Distribution { logits, whole: top + ln(sum) }
    }

    /// The logarithm of a token's probability.
    fn ln(&self, token: usize) -> f64 {
        f64::from(self.logits[token]) - self.whole
    }

    fn surprise(&self, token: usize) -> f64 {
        -self.ln(token)
    }

    /// `Σ p (ln p - ln q)`, where `p` is this one (Kullback and Leibler 1951).
    fn divergence(&self, other: &Distribution<'_>) -> f64 {
        let term = |token: usize| {
            let own = self.ln(token);
            Real::exp(own) * (own - other.ln(token))
        };
        let sum: f64 = (0..self.logits.len()).map(term).sum();
        // Rounding may leave less than nothing of equal ones.
        f64::max(sum, 0.0)
    }
}

/// The answers to `prompts`, in which each token is the likeliest, at most `most` of them. `tell` hears of each
/// prompt, and may end them.
///
/// # Errors
/// As [`Generator::generate_each`]; what `tell` returns.
pub(super) fn answers(
    subject: &Subject<'_>,
    text: &Text,
    prompts: &[&[u32]],
    most: usize,
    context: Option<usize>,
    tell: &mut dyn FnMut(Moment) -> Result<()>,
) -> Result<Vec<Answer>> {
    let Subject { model, adapter, products } = *subject;
    let generator = Generator { model, adapter, text, context, products };
    let sampling = Sampling { max_tokens: most, ..Sampling::default() };
    let mut found: Vec<Option<Answer>> = prompts.iter().map(|_| None).collect();
    let mut ended = Ok(());
    generator.generate_each(prompts, &sampling, &mut |heard| {
        ended = match heard {
            Heard::Begins(at) => tell(Moment::Asked(at)),
            Heard::Text(..) => return ControlFlow::Continue(()),
            Heard::Done(at, made) => {
                let stopped = matches!(made.stop, Stop::End(_));
                found[at] = Some(Answer { text: made.text, tokens: made.tokens.len(), stopped });
                tell(Moment::Answered(at))
            }
        };
        if ended.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    ended?;
    Ok(found.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_divergences_are_those_of_the_definition() {
        let paragraph = Paragraph { number: 1, tokens: vec![0, 2, 1], bytes: 5 };
        let base = [0.0f32, 1.0, 2.0, 0.5, 0.5, 0.5];
        let own = [1.0f32, 1.0, 1.0, 0.0, 2.0, 0.0];
        let softmax = |logits: &[f32]| -> Vec<f64> {
            let each: Vec<f64> = logits.iter().map(|x| f64::from(*x).exp()).collect();
            let sum: f64 = each.iter().sum();
            each.iter().map(|x| x / sum).collect()
        };
        let (p, q) = (base.chunks(3).map(softmax), own.chunks(3).map(softmax));
        let (p, q): (Vec<_>, Vec<_>) = (p.collect(), q.collect());
        let nats = -q[0][2].ln() - q[1][1].ln();
        let divergence: f64 = p.iter().flatten().zip(q.iter().flatten()).map(|(p, q)| p * (p / q).ln()).sum();
        let found = general(&paragraph, &own, Some(&base)).unwrap();
        assert!((found.nats - nats).abs() < 1e-12 && (found.divergence.unwrap() - divergence).abs() < 1e-12);
        assert_eq!((found.weight, found.tokens, found.bytes), (2.0, 2, 5));
        assert_eq!(general(&paragraph, &own, Some(&own)).unwrap().divergence, Some(0.0));
        let far = [1000.0f32, -1000.0, 0.0, 0.0, 0.0, 0.0];
        assert!((general(&paragraph, &far, None).unwrap().nats - 1000.0 - 3f64.ln()).abs() < 1e-9);
        assert!(general(&paragraph, &[f32::NAN; 6], None).is_err());
    }
}
