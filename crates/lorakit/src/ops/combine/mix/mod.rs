//! What becomes of the entries of several adapters in one place: one module for each way, which is one line of
//! [`MIXES`].

mod dare;
#[cfg(test)]
mod dummy;
mod linear;
mod magnitude_prune;
mod ties;

use std::fmt;

use super::entries::{Recipe, Thinned, Walk};

/// A way to mix entries in one place, of adapters' factors or of their deltas.
#[derive(Clone, Copy)]
pub struct Mix(&'static Rule);

/// What a module says about its way.
pub(super) struct Rule {
    /// Its name where factors are mixed.
    name: &'static str,
    /// What becomes of the entries, in one line.
    about: &'static str,
    /// Its name where deltas are mixed, if that is a method of its own, and what that does, in one line.
    of_deltas: Option<(&'static str, &'static str)>,
    /// Chooses the entries to keep, for ways that keep a share: given the length and the number of a tensor, and a walk
    /// over it.
    thin: Option<fn(&Recipe, usize, u64, Walk<'_>) -> Thinned>,
    /// Whether the choice is random.
    is_random: bool,
    /// Mixes what is left of a run of entries, given the weight of each tensor.
    mix: fn(&Recipe, &[f64], &[Vec<f64>]) -> Vec<f64>,
}

/// Every way.
pub(super) const MIXES: &[Mix] = &[
    Mix::LINEAR,
    Mix::TIES,
    Mix::DARE_LINEAR,
    Mix::DARE_TIES,
    Mix::MAGNITUDE_PRUNE,
    #[cfg(test)]
    Mix(&dummy::RULE),
];

impl Mix {
    /// The weighted sum.
    pub const LINEAR: Mix = Mix(&linear::RULE);
    /// The weighted mean of those among the largest of their tensor that have the sign of the majority (TIES: Yadav et
    /// al. 2023).
    pub const TIES: Mix = Mix(&ties::RULE);
    /// The weighted sum of a random choice, scaled up (DARE: Yu et al. 2024).
    pub const DARE_LINEAR: Mix = Mix(&dare::LINEAR);
    /// The weighted mean of those in a random choice that have the sign of the majority.
    pub const DARE_TIES: Mix = Mix(&dare::TIES);
    /// The weighted sum of those that are among the largest of their tensor.
    pub const MAGNITUDE_PRUNE: Mix = Mix(&magnitude_prune::RULE);

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
