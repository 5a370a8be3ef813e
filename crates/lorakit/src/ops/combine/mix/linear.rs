//! Weighted sums.

use super::super::recipe::{Recipe, Rule};

/// The weighted sum of all entries. For deltas, this is the method `svd`.
pub(super) const RULE: Rule = Rule {
    name: "linear",
    about: "PEFT's sum of factors: `B` of one adapter meets `A` of the other",
    of_deltas: None,
    thin: None,
    is_random: false,
    elects_signs: false,
    mix: sums,
};

/// The weighted sum in each place.
pub(super) fn sums(_: &Recipe, weights: &[f64], tensors: &[Vec<f64>]) -> Vec<f64> {
    let len = tensors.first().map_or(0, Vec::len);
    // The zero, of either sign, that sums start from.
    let none: f64 = std::iter::empty::<f64>().sum();
    let mut sums = vec![none; len];
    for (tensor, weight) in tensors.iter().zip(weights) {
        sums.iter_mut().zip(tensor).for_each(|(sum, value)| *sum += weight * value);
    }
    sums
}
