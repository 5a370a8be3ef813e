//! How the next token is chosen.

use lorakit_linalg::random::philox4x32;

use super::problem::Problem;
use crate::Result;
use crate::kernel::math::{exp, exp_of_differences, ln, max};

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
    /// Only so many of the likeliest tokens, and those that are as likely as the last of them; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together have this probability; 1 for all.
    pub top_p: f64,
    /// Only tokens that have this share of the likeliest one's probability; 0 for all.
    pub min_p: f64,
    /// Divides positive logits, and multiplies negative ones, of tokens that the prompt or the answer has; 1 for none.
    pub repetition_penalty: f64,
    /// Decides what is drawn. An answer depends on its prompt and on this, not on other answers.
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

impl Sampling {
    /// Whether the numbers are what they must be.
    ///
    /// # Errors
    /// `Usage` for the first that is not.
    pub fn check(&self) -> Result<()> {
        let penalty = self.repetition_penalty;
        for (name, found, good, expected) in [
            (
                "temperature",
                self.temperature,
                (0.0..f64::INFINITY).contains(&self.temperature),
                "a number from 0 on",
            ),
            ("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0, and 1 at most"),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "between 0 and 1"),
            ("repetition_penalty", penalty, penalty > 0.0 && penalty.is_finite(), "a number above 0"),
        ] {
            if !good {
                return Err(Problem::Sampling { name, found, expected }.into());
            }
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Problem::EmptyStop.into());
        }
        Ok(())
    }
}

/// Chooses the tokens of one answer.
pub(super) struct Sampler<'a> {
    sampling: &'a Sampling,
    /// Which tokens the text has.
    seen: Vec<bool>,
    /// Tokens of the answer.
    chosen: u64,
}

impl<'a> Sampler<'a> {
    pub(super) fn new(sampling: &'a Sampling, prompt: &[u32], vocabulary: usize) -> Self {
        let mut seen = vec![false; vocabulary];
        prompt.iter().for_each(|token| seen[*token as usize] = true);
        Self { sampling, seen, chosen: 0 }
    }

    /// The next token, and the logarithm of its probability by `logits` as they are. None if those are not finite.
    pub(super) fn choose(&mut self, logits: &[f32]) -> Option<(u32, f32)> {
        let top = max(logits);
        let mut powers = logits.to_vec();
        let total = exp_of_differences(&mut powers, top);
        if !total.is_finite() {
            return None;
        }
        let token = self.pick(logits, powers);
        self.seen[token] = true;
        self.chosen += 1;
        let logprob = f64::from(logits[token]) - f64::from(top) - ln(f64::from(total));
        Some((token as u32, logprob as f32))
    }

    fn pick(&self, logits: &[f32], mut scores: Vec<f32>) -> usize {
        let how = self.sampling;
        scores.copy_from_slice(logits);
        if how.repetition_penalty != 1.0 {
            let penalty = how.repetition_penalty as f32;
            for (score, _) in scores.iter_mut().zip(&self.seen).filter(|(_, seen)| **seen) {
                *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
            }
        }
        if how.temperature == 0.0 {
            return likeliest(&scores);
        }
        let top = scores[likeliest(&scores)];
        // A temperature that is almost zero is no reason for an infinite logit.
        let powers: Vec<f32> =
            scores.iter().map(|score| exp(((score - top) as f64 / how.temperature) as f32)).collect();
        let mut left: Vec<usize> = (0..scores.len()).collect();
        if how.top_k > 0 && how.top_k < left.len() {
            let mut sorted = scores.clone();
            let (_, last, _) = sorted.select_nth_unstable_by(how.top_k - 1, |a, b| b.total_cmp(a));
            left.retain(|token| scores[*token] >= *last);
        }
        if how.top_p < 1.0 {
            left = nucleus(&powers, left, how.top_p);
        }
        if how.min_p > 0.0 {
            left.retain(|token| f64::from(powers[*token]) >= how.min_p);
        }
        draw(&powers, &left, self.uniform())
    }

    /// A number from 0 up to 1.
    fn uniform(&self) -> f64 {
        let seed = self.sampling.seed;
        let place = [self.chosen as u32, (self.chosen >> 32) as u32, 0, 0x7465_7874];
        let words = philox4x32(place, [seed as u32, (seed >> 32) as u32]);
        let bits = u64::from(words[0]) << 21 ^ u64::from(words[1]) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }
}

/// The token with the highest score, and of several the lowest.
fn likeliest(scores: &[f32]) -> usize {
    (1..scores.len()).fold(0, |best, at| if scores[at] > scores[best] { at } else { best })
}

/// The likeliest of the tokens `left` that together have the probability `share`, in the order of their ids.
fn nucleus(powers: &[f32], left: Vec<usize>, share: f64) -> Vec<usize> {
    let power = |token: &usize| f64::from(powers[*token]);
    let total: f64 = left.iter().map(power).sum();
    // Tokens below this have, all together, less than what is left out.
    let least = (1.0 - share) * total / left.len() as f64;
    let mut likely: Vec<usize> = left.into_iter().filter(|token| power(token) > least).collect();
    likely.sort_by(|a, b| power(b).total_cmp(&power(a)).then(a.cmp(b)));
    let mut before = 0.0;
    let inside = likely.iter().take_while(|token| {
        let inside = before < share * total;
        before += power(token);
        inside
    });
    let mut kept: Vec<usize> = inside.copied().collect();
    kept.sort_unstable();
    kept
}

/// The token at which the probabilities of `left`, added in order, exceed `uniform`.
fn draw(powers: &[f32], left: &[usize], uniform: f64) -> usize {
    let total: f64 = left.iter().map(|token| f64::from(powers[*token])).sum();
    let mut sum = 0.0;
    for token in left {
        sum += f64::from(powers[*token]);
        if sum > uniform * total {
            return *token;
        }
    }
    left.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling() -> Sampling {
        Sampling { temperature: 1.0, ..Sampling::default() }
    }

    /// Which tokens are drawn of these probabilities, and how often of 4000.
    fn drawn(sampling: &Sampling, probabilities: &[f64]) -> Vec<usize> {
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln() as f32).collect();
        let mut counts = vec![0; logits.len()];
        for seed in 0..4000 {
            let sampling = Sampling { seed, ..sampling.clone() };
            let (token, logprob) = Sampler::new(&sampling, &[], logits.len()).choose(&logits).unwrap();
            assert!((f64::from(logprob) - probabilities[token as usize].ln()).abs() < 1e-5);
            counts[token as usize] += 1;
        }
        counts
    }

    const SOME: [f64; 5] = [0.1, 0.4, 0.05, 0.15, 0.3];

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let near = |found: &[usize], expected: &[f64]| {
            for (found, expected) in found.iter().zip(expected) {
                let expected = expected * 4000.0;
                assert!((*found as f64 - expected).abs() <= 3.5 * expected.sqrt(), "{found} for {expected}");
            }
        };
        near(&drawn(&sampling(), &SOME), &SOME);
        let hot = Sampling { temperature: 2.0, ..sampling() };
        let roots: Vec<f64> = SOME.iter().map(|p| p.sqrt()).collect();
        let total: f64 = roots.iter().sum();
        near(&drawn(&hot, &SOME), &roots.iter().map(|p| p / total).collect::<Vec<_>>());
        let two = [0.0, 4.0 / 7.0, 0.0, 0.0, 3.0 / 7.0];
        near(&drawn(&Sampling { top_k: 2, ..sampling() }, &SOME), &two);
        near(&drawn(&Sampling { top_p: 0.69, ..sampling() }, &SOME), &two);
        near(&drawn(&Sampling { min_p: 0.7, ..sampling() }, &SOME), &two);
        // What `top_k` leaves is what `top_p` shares: 4/7 is more than a half.
        near(&drawn(&Sampling { top_k: 2, top_p: 0.5, ..sampling() }, &SOME), &[0.0, 1.0, 0.0, 0.0, 0.0]);
        near(&drawn(&Sampling { top_k: 1, ..sampling() }, &[0.3, 0.3, 0.4]), &[0.0, 0.0, 1.0]);
        near(&drawn(&Sampling { top_k: 1, ..sampling() }, &[0.2, 0.4, 0.4]), &[0.0, 0.5, 0.5]);
        near(&drawn(&Sampling { top_p: 1e-9, ..sampling() }, &[0.2, 0.4, 0.4]), &[0.0, 1.0, 0.0]);
        near(&drawn(&Sampling { temperature: 1e-30, ..sampling() }, &SOME), &[0.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn the_likeliest_token_is_the_lowest_of_several() {
        let greedy = Sampling::default();
        let mut sampler = Sampler::new(&greedy, &[], 4);
        assert_eq!(sampler.choose(&[1.0, 3.0, 3.0, 2.0]).unwrap().0, 1);
        assert_eq!(sampler.choose(&[-1.0, -3.0, -3.0, -2.0]).unwrap().0, 0);
        assert!(sampler.choose(&[1.0, f32::NAN, 0.0, 0.0]).is_none());
        assert!(sampler.choose(&[1.0, f32::INFINITY, 0.0, 0.0]).is_none());
        assert_eq!(sampler.choose(&[1.0, f32::NEG_INFINITY, 0.0, 2.0]).unwrap().0, 3);
    }

    /// As `RepetitionPenaltyLogitsProcessor` does: what the prompt has, and what was chosen, once each.
    #[test]
    fn what_was_said_is_less_likely() {
        let penalty = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        let mut sampler = Sampler::new(&penalty, &[1, 1], 4);
        let logits = [1.5, 2.5, 1.0, -1.0];
        let chosen: Vec<u32> = (0..3).map(|_| sampler.choose(&logits).unwrap().0).collect();
        assert_eq!(chosen, [0, 1, 1]);
        let negative = [-3.0, -1.0, -2.5, -4.0];
        assert_eq!(Sampler::new(&penalty, &[1], 4).choose(&negative).unwrap().0, 1);
        assert_eq!(Sampler::new(&penalty, &[1, 2], 4).choose(&[-3.0, -2.0, -2.5, -4.0]).unwrap().0, 0);
        // The probability is that of the model.
        let (_, logprob) = Sampler::new(&penalty, &[1], 2).choose(&[0.0, 0.0]).unwrap();
        assert!((logprob + 2f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        let refused = |sampling: Sampling| sampling.check().unwrap_err().to_string();
        let all = [
            refused(Sampling { temperature: -1.0, ..sampling() }),
            refused(Sampling { temperature: f64::NAN, ..sampling() }),
            refused(Sampling { top_p: 0.0, ..sampling() }),
            refused(Sampling { min_p: 1.5, ..sampling() }),
            refused(Sampling { repetition_penalty: 0.0, ..sampling() }),
            refused(Sampling { stop: vec![String::new()], ..sampling() }),
        ];
        insta::assert_snapshot!(all.join("\n"), @"
        `temperature` is -1; it must be a number from 0 on
        `temperature` is NaN; it must be a number from 0 on
        `top_p` is 0; it must be above 0, and 1 at most
        `min_p` is 1.5; it must be between 0 and 1
        `repetition_penalty` is 0; it must be a number above 0
        a text that stops answers is empty
        ");
        assert!(sampling().check().is_ok());
    }
}
