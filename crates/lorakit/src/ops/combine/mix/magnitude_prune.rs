//! Weighted sums of the largest entries.

use super::super::entries::{Thinned, Walk};
use super::super::recipe::{Recipe, Rule};
use super::linear::sums;

/// The weighted sum of the entries that are among the largest of their tensor.
pub(super) const RULE: Rule = Rule {
    name: "magnitude_prune",
    about: "the sum of the largest entries of the factors",
    of_deltas: Some(("magnitude_prune_svd", "the sum of the largest entries of the deltas")),
    thin: Some(largest),
    is_random: false,
    elects_signs: false,
    mix: sums,
};

/// Keeps the largest entries of a tensor.
pub(super) fn largest(recipe: &Recipe, len: usize, _: u64, walk: Walk<'_>) -> Thinned {
    Thinned::largest((recipe.density * len as f64) as usize, walk)
}
