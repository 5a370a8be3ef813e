//! DARE (Yu et al. 2024): a random choice of the entries, scaled up to the size of all.

use super::super::entries::{Thinned, Walk};
use super::super::recipe::{Recipe, Rule, Style};
use super::linear::sums;
use super::ties::elected;

/// The weighted sum of a random choice.
pub(super) const LINEAR: Rule = Rule {
    name: "dare_linear",
    about: "the sum of a random choice of the entries of the factors, scaled up",
    of_deltas: Some((
        "dare_linear_svd",
        "the sum of a random choice of the entries of the deltas, scaled up",
    )),
    thin: Some(random),
    is_random: true,
    elects_signs: false,
    mix: sums,
};

/// The entries of a random choice that have the sign of the majority.
pub(super) const TIES: Rule = Rule {
    name: "dare_ties",
    about: "of a random choice of the entries of the factors, the mean of those with the sign of the majority",
    of_deltas: Some((
        "dare_ties_svd",
        "of a random choice of the entries of the deltas, the mean of those with the sign of the majority",
    )),
    thin: Some(random),
    is_random: true,
    elects_signs: true,
    mix: means,
};

fn means(recipe: &Recipe, weights: &[f64], tensors: &[Vec<f64>]) -> Vec<f64> {
    elected(recipe, weights, tensors, |sum, _| sum)
}

/// Keeps each entry with the same probability. Kept entries are divided by it; mergekit gives them the norm of all
/// entries.
fn random(recipe: &Recipe, _: usize, stream: u64, walk: Walk<'_>) -> Thinned {
    let thinned = Thinned::random(recipe.seed, stream, recipe.density);
    let times = if recipe.style == Style::Mergekit { thinned.l1_ratio(walk) } else { 1.0 / recipe.density };
    thinned.times(times)
}
