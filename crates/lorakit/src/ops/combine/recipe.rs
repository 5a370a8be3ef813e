//! What is asked of a mixture, what a way to mix says of itself, and the mixture.

use std::fmt;

use super::entries::{Thinned, Walk};
use crate::choice::choices;

/// The options of a mixture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recipe {
    pub(super) mix: Mix,
    pub(super) density: f64,
    pub(super) majority: MajoritySign,
    pub(super) style: Style,
    pub(super) seed: u64,
}

/// How the majority sign is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MajoritySign {
    /// The sign of the sum of the values.
    #[default]
    Total,
    /// The sign that more of the values have.
    Frequency,
}

/// Whose definitions apply where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// PEFT's definitions without its mistake about rsLoRA.
    #[default]
    Fixed,
    /// What PEFT 0.21 writes: results are larger by the square root of the new rank if the first adapter is rsLoRA.
    Peft,
    /// mergekit's definitions: signs are elected on weighted deltas, TIES divides by the weights that agree, DARE keeps
    /// the L1 norm. Deltas are combined, never factors.
    Mergekit,
}

choices! { MajoritySign {
    Total = "total", "that of the sum of the values";
    Frequency = "frequency", "that of more of the values";
} }

choices! { Style {
    Fixed = "fixed", "PEFT's definitions, with the scale of rsLoRA corrected";
    Peft = "peft", "PEFT's definitions exactly";
    Mergekit = "mergekit", "mergekit's definitions, on deltas";
} }

/// A way to mix entries in one place, of adapters' factors or of their deltas.
#[derive(Clone, Copy)]
pub struct Mix(pub(super) &'static Rule);

/// Chooses entries, given the length and the number of a tensor, and a walk over it.
type Thin = fn(&Recipe, usize, u64, Walk<'_>) -> Thinned;

/// Mixes a run of entries, given the weight of each tensor, and its entries.
type MixRun = fn(&Recipe, &[f64], &[Vec<f64>]) -> Vec<f64>;

/// What a module says about its way.
pub(super) struct Rule {
    /// Its name where factors are mixed.
    pub(super) name: &'static str,
    /// What becomes of the entries, in one line.
    pub(super) about: &'static str,
    /// Its name where deltas are mixed, if that is a method of its own, and what that does, in one line.
    pub(super) of_deltas: Option<(&'static str, &'static str)>,
    /// Chooses the entries to keep, for ways that keep a share.
    pub(super) thin: Option<Thin>,
    /// Whether the choice is random.
    pub(super) is_random: bool,
    /// Whether the sign of the majority is elected for each entry.
    pub(super) elects_signs: bool,
    /// Mixes what is left of a run of entries.
    pub(super) mix: MixRun,
}

impl Mix {
    /// Its name where factors are mixed.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    pub(super) fn about(self) -> &'static str {
        self.0.about
    }

    /// Name of the method that mixes deltas, and what it does.
    pub(super) fn of_deltas(self) -> Option<(&'static str, &'static str)> {
        self.0.of_deltas
    }

    pub(super) fn is_random(self) -> bool {
        self.0.is_random
    }

    pub(super) fn elects_signs(self) -> bool {
        self.0.elects_signs
    }

    /// Whether a share of the entries is kept.
    pub(super) fn thins(self) -> bool {
        self.0.thin.is_some()
    }

    /// The entries of a tensor that are kept, if not all are.
    pub(super) fn thin(self, recipe: &Recipe, len: usize, stream: u64, walk: Walk<'_>) -> Option<Thinned> {
        self.0.thin.map(|thin| thin(recipe, len, stream, walk))
    }

    /// Mixes one run of what is kept of each tensor.
    pub(super) fn mix(self, recipe: &Recipe, weights: &[f64], tensors: &[Vec<f64>]) -> Vec<f64> {
        (self.0.mix)(recipe, weights, tensors)
    }
}

impl fmt::Debug for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for Mix {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Mix {}

/// A mixture whose tensors have been examined.
#[derive(Debug)]
pub(super) struct Mixture {
    recipe: Recipe,
    weights: Vec<f64>,
    thinned: Vec<Thinned>,
}

impl Mixture {
    /// Examines tensors of `len` entries; `stream` tells the random numbers of one tensor from those of others.
    pub(super) fn new(recipe: Recipe, weights: Vec<f64>, len: usize, tensors: &[(u64, Walk<'_>)]) -> Self {
        let thin = |(stream, walk): &(u64, Walk<'_>)| thin(&recipe, len, *stream, *walk);
        let thinned = tensors.iter().map(thin).collect();
        Mixture { recipe, weights, thinned }
    }

    /// The mixture of one run of entries, which begins at `first` in each of `tensors`.
    pub(super) fn of(&self, first: usize, tensors: &mut [Vec<f64>]) -> Vec<f64> {
        for (thinned, values) in self.thinned.iter().zip(tensors.iter_mut()) {
            thinned.apply(first, values);
        }
        self.recipe.mix.mix(&self.recipe, &self.weights, tensors)
    }
}

/// The entries of one tensor that take part.
fn thin(recipe: &Recipe, len: usize, stream: u64, walk: Walk<'_>) -> Thinned {
    let chosen = if recipe.density < 1.0 { recipe.mix.thin(recipe, len, stream, walk) } else { None };
    chosen.unwrap_or_else(Thinned::all)
}
