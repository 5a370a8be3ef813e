//! Rotary positions: entries `i` and `i + dim / 2` of a head are rotated by `position * frequency[i]`.

use std::f64::consts::PI;
use std::ops::Range;

use multiversion::multiversion;

use super::math::{ln, pow, sin_cos};
use super::parallel;
use super::real::Real;

/// The frequencies of rotary positions, as transformers defines them in `modeling_rope_utils.py`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// `rope_theta`.
    pub theta: f64,
    /// How they are stretched to longer texts.
    pub scaling: Scaling,
}

/// How frequencies are stretched.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All of them, by `factor`.
    Linear {
        /// Divides frequencies.
        factor: f64,
    },
    /// Documents longer than `longest` get a larger theta.
    Dynamic {
        /// How much further texts shall reach.
        factor: f64,
        /// `max_position_embeddings`.
        longest: usize,
    },
    /// Low frequencies only, with a smooth transition (Llama 3.1).
    Llama3 {
        /// Divides low frequencies.
        factor: f64,
        /// `low_freq_factor`.
        low: f64,
        /// `high_freq_factor`.
        high: f64,
        /// `original_max_position_embeddings`.
        original: f64,
    },
    /// By parts (YaRN), with a factor of sine and cosine.
    Yarn {
        /// Divides low frequencies.
        factor: f64,
        /// `beta_fast` and `beta_slow`.
        betas: (f64, f64),
        /// `original_max_position_embeddings`.
        original: f64,
        /// Whether the bounds between the parts are rounded to whole entries.
        truncate: bool,
        /// Multiplies sine and cosine.
        attention_factor: f64,
    },
}

impl Rope {
    /// The frequencies of a head of `dim` entries, in a document of `length` tokens.
    pub fn frequencies(&self, dim: usize, length: usize) -> Vec<f64> {
        let size = dim as f64;
        let mut theta = self.theta;
        if let Scaling::Dynamic { factor, longest } = self.scaling {
            let reach = length.max(longest) as f64 / longest as f64;
            theta *= pow(factor * reach - (factor - 1.0), size / (size - 2.0));
        }
        let plain = (0..dim / 2).map(|i| pow(theta, -2.0 * i as f64 / size));
        match self.scaling {
            Scaling::None | Scaling::Dynamic { .. } => plain.collect(),
            Scaling::Linear { factor } => plain.map(|w| w / factor).collect(),
            Scaling::Llama3 { factor, low, high, original } => {
                let scaled = |w: f64| {
                    let turns = original * w / (2.0 * PI);
                    let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - share) * w / factor + share * w
                };
                plain.map(scaled).collect()
            }
            Scaling::Yarn { factor, betas, original, truncate, .. } => {
                let entry = |turns: f64| size * ln(original / (turns * 2.0 * PI)) / (2.0 * ln(self.theta));
                let (mut low, mut high) = (entry(betas.0), entry(betas.1));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, mut high) = (low.max(0.0), high.min(size - 1.0));
                if low == high {
                    high += 0.001;
                }
                let ramp = |i: usize| ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                let scaled = |(i, w): (usize, f64)| w / factor * ramp(i) + w * (1.0 - ramp(i));
                plain.enumerate().map(scaled).collect()
            }
        }
    }

    fn factor(&self) -> f64 {
        match self.scaling {
            Scaling::Yarn { attention_factor, .. } => attention_factor,
            _ => 1.0,
        }
    }

    /// Cosines and sines of all tokens of `documents`, which all begin at position 0: rows of `dim`, cosines first.
    pub(super) fn table<R: Real>(&self, dim: usize, documents: &[Range<usize>]) -> Vec<R> {
        let mut table = Vec::with_capacity(documents.last().map_or(0, |last| last.end) * dim);
        for document in documents {
            table.extend(self.rows::<R>(dim, 0..document.len()));
        }
        table
    }

    /// Those of some positions, in a document that ends there.
    pub(super) fn rows<R: Real>(&self, dim: usize, positions: Range<usize>) -> Vec<R> {
        let frequencies = self.frequencies(dim, positions.end);
        let mut rows = Vec::with_capacity(positions.len() * dim);
        for position in positions {
            let turned: Vec<_> = frequencies.iter().map(|w| sin_cos(position as f64 * w)).collect();
            rows.extend(turned.iter().map(|(_, cos)| R::of(cos * self.factor())));
            rows.extend(turned.iter().map(|(sin, _)| R::of(sin * self.factor())));
        }
        rows
    }
}

/// Rotates all heads of all tokens of `x (tokens, heads, dim)`; in the other direction if `back`, which is what
/// gradients need.
pub(super) fn rotate<R: Real>(x: &mut [R], table: &[R], dim: usize, back: bool, threads: usize) {
    let tokens = table.len() / dim;
    let width = x.len() / tokens.max(1);
    parallel::rows(threads, x, width, |first, x| turn(x, &table[first * dim..], dim, width, back));
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn turn<R: Real>(x: &mut [R], table: &[R], dim: usize, width: usize, back: bool) {
    let half = dim / 2;
    for (x, row) in x.chunks_exact_mut(width).zip(table.chunks_exact(dim)) {
        let (cos, sin) = row.split_at(half);
        for head in x.chunks_exact_mut(dim) {
            let (a, b) = head.split_at_mut(half);
            for i in 0..half {
                let sin = if back { -sin[i] } else { sin[i] };
                (a[i], b[i]) = (a[i] * cos[i] - b[i] * sin, b[i] * cos[i] + a[i] * sin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::real::dot;
    use crate::model::testing::{agrees, noise};

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let scaling = Scaling::Yarn {
            factor: 4.0,
            betas: (32.0, 1.0),
            original: 16.0,
            truncate: true,
            attention_factor: 1.25,
        };
        let table = Rope { theta: 100.0, scaling }.table(6, &[0..3, 3..5]);
        let (x, d) = (noise(5 * 2 * 6, 1), noise(5 * 2 * 6, 2));
        let mut gradient = d.clone();
        rotate(&mut gradient, &table, 6, true, 1);
        agrees(&x, &gradient, |x| {
            let mut y = x.to_vec();
            rotate(&mut y, &table, 6, false, 1);
            dot(&y, &d)
        });
    }
}
