//! A rule that is in the table only in tests: what adding one takes, in one file.

use super::super::recipe::{Recipe, Rule};

/// The weighted sum, doubled.
pub(super) const RULE: Rule = Rule {
    name: "dummy",
    about: "twice the sum of the entries of the factors",
    of_deltas: Some(("dummy_svd", "twice the sum of the entries of the deltas")),
    thin: None,
    is_random: false,
    elects_signs: false,
    mix: doubled,
};

fn doubled(recipe: &Recipe, weights: &[f64], tensors: &[Vec<f64>]) -> Vec<f64> {
    super::linear::sums(recipe, weights, tensors).into_iter().map(|sum| 2.0 * sum).collect()
}
