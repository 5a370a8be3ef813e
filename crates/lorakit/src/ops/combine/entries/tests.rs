#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::super::recipe::{MajoritySign, Mix, Mixture, Recipe, Style};
use super::*;

fn recipe(mix: Mix, density: f64, style: Style) -> Recipe {
    Recipe { mix, density, majority: MajoritySign::Total, style, seed: 7 }
}

/// The mixture of whole tensors, examined and made in runs of `run` entries.
fn mixed_in_runs(recipe: Recipe, weights: &[f64], tensors: &[&[f64]], run: usize) -> Vec<f64> {
    let walks: Vec<_> = tensors
        .iter()
        .map(|values| {
            move |each: &mut dyn FnMut(usize, &[f64])| {
                values.chunks(run).enumerate().for_each(|(i, piece)| each(i * run, piece));
            }
        })
        .collect();
    let looked: Vec<(u64, Walk<'_>)> =
        walks.iter().enumerate().map(|(i, walk)| (i as u64, walk as Walk<'_>)).collect();
    let len = tensors[0].len();
    let mixture = Mixture::new(recipe, weights.to_vec(), len, &looked);
    let pieces = (0..len).step_by(run).flat_map(|first| {
        let end = (first + run).min(len);
        let mut pieces: Vec<Vec<f64>> = tensors.iter().map(|values| values[first..end].to_vec()).collect();
        mixture.of(first, &mut pieces)
    });
    pieces.collect()
}

fn mixed(recipe: Recipe, weights: &[f64], tensors: &[&[f64]]) -> Vec<f64> {
    mixed_in_runs(recipe, weights, tensors, usize::MAX >> 1)
}

#[test]
fn the_largest_entries_are_kept_and_of_equal_ones_the_first() {
    let values = [1.0, -3.0, 2.0, 2.0, -2.0, 0.5, 0.0, 2.0];
    for (density, kept) in [
        (1.0 / 8.0, [0.0, -3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        (3.0 / 8.0, [0.0, -3.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0]),
        (4.9 / 8.0, [0.0, -3.0, 2.0, 2.0, -2.0, 0.0, 0.0, 0.0]),
        (5.0 / 8.0, [0.0, -3.0, 2.0, 2.0, -2.0, 0.0, 0.0, 2.0]),
        (0.1, [0.0; 8]), // no entry at all, as PEFT truncates
        (1.0, values),
    ] {
        for run in [1, 3, 8] {
            let got =
                mixed_in_runs(recipe(Mix::MAGNITUDE_PRUNE, density, Style::Fixed), &[1.0], &[&values], run);
            assert_eq!(got, kept, "{density} {run}");
        }
    }
}

#[test]
fn peft_elects_signs_without_weights_and_divides_by_those_that_agree() {
    let (x, y) = ([4.0, 1.0, -2.0, 1.0, 0.0], [2.0, -3.0, -4.0, -1.0, 0.0]);
    let got = mixed(recipe(Mix::TIES, 1.0, Style::Fixed), &[1.0, 0.5], &[&x, &y]);
    // Sums 6, -2, -6, 0 and 0, which count as positive.
    assert_eq!(got, [(4.0 + 1.0) / 2.0, -1.5, (-2.0 - 2.0) / 2.0, 1.0, 0.0]);
    // An adapter of weight 0 still counts.
    assert_eq!(mixed(recipe(Mix::TIES, 1.0, Style::Fixed), &[1.0, 0.0], &[&x, &x])[0], 2.0);
}

#[test]
fn frequency_counts_heads() {
    let tensors: [&[f64]; 3] = [&[9.0], &[-1.0], &[-2.0]];
    let mut recipe = recipe(Mix::TIES, 1.0, Style::Fixed);
    assert_eq!(mixed(recipe, &[1.0; 3], &tensors), [9.0]);
    recipe.majority = MajoritySign::Frequency;
    assert_eq!(mixed(recipe, &[1.0; 3], &tensors), [-1.5]);
}

#[test]
fn mergekit_lets_weights_vote_and_divides_by_them() {
    let (x, y) = ([4.0, 1.0, -2.0], [2.0, -3.0, -4.0]);
    let got = mixed(recipe(Mix::TIES, 1.0, Style::Mergekit), &[1.0, 0.25], &[&x, &y]);
    // Weighted 4 and 0.5; 1 and -0.75; -2 and -1.
    assert_eq!(got, [4.5 / 1.25, 1.0, -3.0 / 1.25]);
    let got = mixed(recipe(Mix::DARE_TIES, 1.0, Style::Mergekit), &[1.0, 0.25], &[&x, &y]);
    assert_eq!(got, [4.5, 1.0, -3.0]);
    // A negative weight turns the vote of its tensor: weighted 4 and -1; 1 and 1.5; -2 and 2, which is a tie.
    let got = mixed(recipe(Mix::TIES, 1.0, Style::Mergekit), &[1.0, -0.5], &[&x, &y]);
    assert_eq!(got, [4.0, 2.5 / 0.5, 2.0 / -0.5]);
    let got = mixed(recipe(Mix::DARE_TIES, 1.0, Style::Mergekit), &[1.0, -0.5], &[&x, &y]);
    assert_eq!(got, [4.0, 2.5, 2.0]);
    // PEFT's votes have no weights, and so keep their signs: 6, -2, -6.
    let got = mixed(recipe(Mix::TIES, 1.0, Style::Fixed), &[1.0, -0.5], &[&x, &y]);
    assert_eq!(got, [(4.0 - 1.0) / 2.0, 1.5, (-2.0 + 2.0) / 2.0]);
}

#[test]
fn dare_keeps_its_share_and_the_expectation() {
    let values: Vec<f64> = (0..20_000).map(|i| f64::from(i % 7) - 3.5).collect();
    let mut sum = vec![0.0; values.len()];
    for seed in 0..40 {
        let recipe = Recipe { seed, ..recipe(Mix::DARE_LINEAR, 0.3, Style::Fixed) };
        let got = mixed(recipe, &[1.0], &[&values]);
        let kept = got.iter().filter(|v| **v != 0.0).count() as f64 / values.len() as f64;
        // Five standard deviations of a binomial share.
        assert!((kept - 0.3).abs() < 5.0 * (0.21f64 / 20_000.0).sqrt(), "{kept}");
        for (got, value) in got.iter().zip(&values) {
            assert!(*got == 0.0 || (got - value / 0.3).abs() < 1e-12);
        }
        sum.iter_mut().zip(&got).for_each(|(sum, got)| *sum += got / 40.0);
    }
    // The mean of 40 draws has the variance v² (1/d - 1) / 40 in each entry.
    let off: f64 = sum.iter().zip(&values).map(|(mean, value)| (mean - value).powi(2)).sum();
    let expected: f64 = values.iter().map(|v| v * v * (1.0 / 0.3 - 1.0) / 40.0).sum();
    assert!((off / expected - 1.0).abs() < 0.1, "{off} {expected}");
}

#[test]
fn mergekits_dare_keeps_the_l1_norm() {
    let values: Vec<f64> = (0..1000).map(|i| f64::from(i % 11) - 5.0).collect();
    let got = mixed(recipe(Mix::DARE_LINEAR, 0.4, Style::Mergekit), &[1.0], &[&values]);
    let norm = |values: &[f64]| values.iter().map(|v| v.abs()).sum::<f64>();
    assert!((norm(&got) / norm(&values) - 1.0).abs() < 1e-12);
    assert!(got.contains(&0.0) && got.iter().any(|v| *v != 0.0));
}

#[test]
fn random_choices_are_the_same_everywhere() {
    let ones = [1.0; 24];
    let got = mixed(recipe(Mix::DARE_LINEAR, 0.5, Style::Fixed), &[1.0], &[&ones]);
    let kept: String = got.iter().map(|v| if *v == 0.0 { '0' } else { '1' }).collect();
    // From Philox4x32-10 with the key (7, 0) and the counters (block, 0, 0, 0), words below 2³¹ kept.
    let expected: String = (0..6)
        .flat_map(|block| philox4x32([block, 0, 0, 0], [7, 0]))
        .map(|word| if word < 1 << 31 { '1' } else { '0' })
        .collect();
    assert_eq!(kept, expected);
}

proptest! {
    /// The length of runs affects memory only, to the last bit, which decides the sign of what cancels.
    #[test]
    fn runs_do_not_matter(
        x in prop::collection::vec(-4i8..4, 1..60), run in 1usize..20, density in 0.05f64..1.0, which in 0usize..5,
        mergekit: bool,
    ) {
        let x: Vec<f64> = x.into_iter().map(f64::from).collect();
        let y: Vec<f64> = x.iter().rev().map(|v| v * 0.7).collect();
        let mix = [Mix::LINEAR, Mix::MAGNITUDE_PRUNE, Mix::TIES, Mix::DARE_LINEAR, Mix::DARE_TIES][which];
        let style = if mergekit { Style::Mergekit } else { Style::Fixed };
        let recipe = recipe(mix, density, style);
        // At the first weights no sum of small integers cancels, at the others many do.
        for weights in [[0.618_033_9, 0.3], [0.7, 1.0], [0.7, -1.0]] {
            let (whole, pieces) =
                (mixed(recipe, &weights, &[&x, &y]), mixed_in_runs(recipe, &weights, &[&x, &y], run));
            prop_assert_eq!(whole, pieces);
        }
    }

    /// As many entries as the density says, and none of those left out is larger.
    #[test]
    fn the_number_kept_is_exact(x in prop::collection::vec(1i16..9, 1..200), density in 0.0f64..1.0) {
        let x: Vec<f64> = x.into_iter().map(f64::from).collect();
        let got = mixed(recipe(Mix::MAGNITUDE_PRUNE, density, Style::Fixed), &[1.0], &[&x]);
        let kept = got.iter().filter(|v| **v != 0.0).count();
        prop_assert_eq!(kept, (density * x.len() as f64) as usize);
        let least = got.iter().copied().filter(|v| *v != 0.0).fold(f64::INFINITY, f64::min);
        prop_assert!(x.iter().zip(&got).all(|(x, got)| *got != 0.0 || *x <= least));
    }
}
