//! TIES (Yadav et al. 2023): signs are elected, and entries of the other sign are left out.

use super::super::recipe::{MajoritySign, Recipe, Rule, Style};
use super::magnitude_prune::largest;

/// The weighted mean of those of the largest entries that have the sign of the majority.
pub(super) const RULE: Rule = Rule {
    name: "ties",
    about: "of the largest entries of the factors, the mean of those with the sign of the majority",
    of_deltas: Some((
        "ties_svd",
        "of the largest entries of the deltas, the mean of those with the sign of the majority",
    )),
    thin: Some(largest),
    is_random: false,
    elects_signs: true,
    mix: means,
};

fn means(recipe: &Recipe, weights: &[f64], tensors: &[Vec<f64>]) -> Vec<f64> {
    elected(recipe, weights, tensors, |sum, agreeing| sum / if agreeing == 0.0 { 1.0 } else { agreeing })
}

/// The value, in each place, of the entries that have the sign of the majority, as the style defines it. For mergekit,
/// `mergekit` makes it from their weighted sum and the sum of their weights; PEFT takes the mean.
pub(super) fn elected(
    recipe: &Recipe,
    weights: &[f64],
    tensors: &[Vec<f64>],
    mergekit: fn(f64, f64) -> f64,
) -> Vec<f64> {
    let votes_weigh = recipe.style == Style::Mergekit;
    let len = tensors.first().map_or(0, Vec::len);
    let of_place = |i: usize| {
        let entries = || tensors.iter().zip(weights).map(|(tensor, weight)| (tensor[i], *weight));
        // mergekit weighs the votes, PEFT does not.
        let ballots = || entries().map(|(value, weight)| if votes_weigh { weight * value } else { value });
        let votes: f64 = match recipe.majority {
            MajoritySign::Total => ballots().sum(),
            MajoritySign::Frequency => ballots().map(sign).sum(),
        };
        let elected = if votes >= 0.0 { 1.0 } else { -1.0 };
        let mut sum = 0.0;
        let mut count = 0.0;
        let mut agreeing = 0.0;
        for ((value, weight), ballot) in entries().zip(ballots()) {
            if sign(ballot) == elected {
                sum += weight * value;
                count += 1.0;
                agreeing += weight;
            }
        }
        if votes_weigh { mergekit(sum, agreeing) } else { sum / f64::max(count, 1.0) }
    };
    (0..len).map(of_place).collect()
}

/// -1, 0 or 1.
fn sign(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value.signum() }
}
