//! How many triplets to keep, from a spectrum: singular values in descending order, none negative.
//!
//! Every rule answers 0 for a spectrum of zeros, except [`kohya`], which answers what its scripts do.

/// The least rank that keeps `share` of the energy: `Σ_{i<k} sᵢ² ≥ share · Σ sᵢ²`.
///
/// As in PEFT's `convert_to_lora`. A share of 1 or more keeps every nonzero value, a share of 0 or less none.
pub fn for_energy(s: &[f64], share: f64) -> usize {
    let nonzero = nonzero(s);
    if share >= 1.0 {
        return nonzero;
    }
    let total: f64 = s.iter().map(|s| s * s).sum();
    least(s.iter().map(|s| s * s), share * total).min(nonzero)
}

/// The least rank whose relative error in the Frobenius norm is at most `error`: `Σ_{i≥k} sᵢ² ≤ error² · Σ sᵢ²`.
///
/// The tail is summed from its small end, so tiny error bounds are honoured too.
pub fn for_relative_error(s: &[f64], error: f64) -> usize {
    let total: f64 = s.iter().map(|s| s * s).sum();
    let allowed = error.max(0.0).powi(2) * total;
    let mut tail = 0.0;
    let dropped = s.iter().rev().take_while(|s| {
        tail += *s * *s;
        tail <= allowed
    });
    s.len() - dropped.count()
}

/// A rule of `--dynamic_method` in `resize_lora.py` of kohya's sd-scripts, with its `--dynamic_param`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KohyaRule {
    /// `sv_ratio`: the values above `s₀ / target`.
    Ratio(f64),
    /// `sv_cumulative`: the least rank with `Σ_{i<k} sᵢ ≥ target · Σ sᵢ`.
    Cumulative(f64),
    /// `sv_fro`: the least rank with `Σ_{i<k} sᵢ² ≥ target² · Σ sᵢ²`.
    Fro(f64),
}

/// Which edition of `resize_lora.py` to agree with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KohyaEdition {
    /// Before sd-scripts pull request 2194: one more than the rank that the rule asks for, and at least 2.
    Legacy,
    /// Since then: the rank that the rule asks for, and at least 1.
    Current,
}

/// The rank that kohya's script chooses for a module of shape `(m, n)` with this spectrum.
///
/// `full` is `min(m, n)`: the script's spectrum is that long, with a tail of zeros where ours ends at the old rank.
/// The result is in `1..=full`, and is 1 if the largest value is at most 1e-6; the caller applies the cap
/// `--new_rank`.
pub fn kohya(s: &[f64], full: usize, rule: KohyaRule, edition: KohyaEdition) -> usize {
    let Some(&first) = s.first().filter(|first| **first > 1e-6) else {
        return 1;
    };
    let full = full.max(s.len());
    // Position, from 0, of the last value that the rule keeps.
    let last = match rule {
        KohyaRule::Ratio(target) => {
            let above = s.iter().filter(|s| **s > first / target).count();
            return kohya_rank(above.checked_sub(1), full, edition);
        }
        KohyaRule::Cumulative(target) => reaching(s.iter().copied(), target),
        KohyaRule::Fro(target) => reaching(s.iter().map(|s| s * s), target * target),
    };
    kohya_rank(Some(last.unwrap_or(full)), full, edition)
}

fn kohya_rank(last: Option<usize>, full: usize, edition: KohyaEdition) -> usize {
    let rank = match edition {
        KohyaEdition::Legacy => last.map_or(0, |last| last + 1).min(full - 1).max(1) + 1,
        KohyaEdition::Current => last.unwrap_or(0).min(full - 1) + 1,
    };
    rank.min(full)
}

/// The first position at which the running share of the sum is `target` or more (`searchsorted` from the left).
fn reaching(values: impl Iterator<Item = f64> + Clone, target: f64) -> Option<usize> {
    let total: f64 = values.clone().sum();
    let mut sum = 0.0;
    values.into_iter().position(|value| {
        sum += value;
        sum / total >= target
    })
}

/// The least number of leading values whose sum is `target` or more; all of them if none is.
fn least(values: impl ExactSizeIterator<Item = f64>, target: f64) -> usize {
    let mut sum = 0.0;
    values
        .take_while(|value| {
            let short = sum < target;
            sum += value;
            short
        })
        .count()
}

fn nonzero(s: &[f64]) -> usize {
    s.iter().take_while(|s| **s > 0.0).count()
}

/// Effective rank: the exponential of the entropy of the singular values as a distribution (Roy and Vetterli, 2007).
///
/// Between 1 and the rank; 0 for a spectrum of zeros.
pub fn effective(s: &[f64]) -> f64 {
    let total: f64 = s.iter().sum();
    if total <= 0.0 {
        return 0.0;
    }
    let shares = s.iter().map(|s| s / total).filter(|share| *share > 0.0);
    shares.map(|share| -share * share.ln()).sum::<f64>().exp()
}

/// Stable rank `‖A‖_F² / ‖A‖₂²`: between 1 and the rank; 0 for a spectrum of zeros.
pub fn stable(s: &[f64]) -> f64 {
    match s.first() {
        Some(first) if *first > 0.0 => s.iter().map(|s| (s / first).powi(2)).sum(),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: [f64; 5] = [3.0, 2.0, 1.0, 0.5, 0.0];

    #[test]
    fn energy() {
        // Squares 9, 4, 1, 0.25 of 14.25.
        for (share, rank) in
            [(-1.0, 0), (0.0, 0), (0.6, 1), (9.0 / 14.25, 1), (0.7, 2), (0.98, 3), (0.99, 4), (1.0, 4)]
        {
            assert_eq!(for_energy(&S, share), rank, "{share}");
        }
        assert_eq!(for_energy(&[1.0, 1e-12], 1.0), 2);
        assert_eq!((for_energy(&[0.0; 3], 0.9), for_energy(&[0.0; 3], 1.0), for_energy(&[], 0.5)), (0, 0, 0));
    }

    #[test]
    fn relative_error() {
        // The tails are 0.25, 1.25, 5.25 and 14.25 of 14.25.
        for (error, rank) in [(0.0, 4), (0.1, 4), (0.14, 3), (0.3, 2), (0.61, 1), (1.0, 0), (f64::NAN, 4)] {
            assert_eq!(for_relative_error(&S, error), rank, "{error}");
        }
        assert_eq!(for_relative_error(&[1.0, 1e-12], 1e-13), 2);
        assert_eq!(for_relative_error(&[1.0, 1e-12], 1e-11), 1);
        assert_eq!((for_relative_error(&[0.0; 3], 0.0), for_relative_error(&[], 0.0)), (0, 0));
    }

    #[test]
    fn kohyas_rules() {
        use KohyaRule::{Cumulative, Fro, Ratio};
        // Sums 3, 5, 6, 6.5; shares 0.46, 0.77, 0.92, 1. Norm shares 0.79, 0.955, 0.991, 1.
        for (rule, current, legacy) in [
            (Ratio(1.4), 1, 2),
            (Ratio(1.5), 1, 2), // a value of exactly s₀ / target is not kept
            (Ratio(2.0), 2, 3),
            (Ratio(100.0), 4, 5),
            (Ratio(0.5), 1, 2), // nothing is above; one is kept
            (Cumulative(0.4), 1, 2),
            (Cumulative(0.5), 2, 3),
            (Cumulative(0.9), 3, 4),
            (Cumulative(1.0), 4, 5),
            (Cumulative(1.1), 8, 8), // never reached: all that the script's spectrum has
            (Fro(0.75), 1, 2),
            (Fro(0.9), 2, 3),
            (Fro(0.98), 3, 4),
            (Fro(0.999), 4, 5),
        ] {
            assert_eq!(kohya(&S, 8, rule, KohyaEdition::Current), current, "{rule:?}");
            assert_eq!(kohya(&S, 8, rule, KohyaEdition::Legacy), legacy, "{rule:?}");
        }
        for edition in [KohyaEdition::Current, KohyaEdition::Legacy] {
            assert_eq!(kohya(&[1e-6, 0.0], 8, Fro(1.0), edition), 1);
            assert_eq!(kohya(&[], 8, Fro(1.0), edition), 1);
            assert_eq!(kohya(&[2.0], 1, Fro(1.0), edition), 1);
        }
    }

    #[test]
    fn soft_ranks() {
        assert!((effective(&[2.0; 5]) - 5.0).abs() < 1e-12);
        assert_eq!((effective(&[2.0, 0.0]), stable(&[2.0, 0.0])), (1.0, 1.0));
        assert_eq!((effective(&[0.0]), stable(&[0.0]), effective(&[]), stable(&[])), (0.0, 0.0, 0.0, 0.0));
        assert!((stable(&S) - 14.25 / 9.0).abs() < 1e-12);
        // p = (2/3, 1/3): entropy ln 3 - (2/3) ln 2.
        assert!((effective(&[2.0, 1.0]) - 3.0 / 4f64.powf(1.0 / 3.0)).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn the_rank_suffices_and_one_less_does_not(mut s in prop::collection::vec(0.0..9.0, 1..20), share in 0.01..0.99) {
            s.sort_by(|x: &f64, y| y.total_cmp(x));
            let energy = |from: usize, to: usize| s[from..to].iter().map(|s| s * s).sum::<f64>();
            let total = energy(0, s.len());

            let rank = for_energy(&s, share);
            prop_assert!(energy(0, rank) >= share * total * (1.0 - 1e-12));
            prop_assert!(rank == 0 || energy(0, rank - 1) < share * total);

            let rank = for_relative_error(&s, share);
            prop_assert!(energy(rank, s.len()) <= share * share * total * (1.0 + 1e-12));
            prop_assert!(rank == 0 || energy(rank - 1, s.len()) > share * share * total * (1.0 - 1e-12));

            let kept = kohya(&s, s.len(), KohyaRule::Fro(share), KohyaEdition::Current);
            prop_assert!(energy(0, kept) >= share * share * total * (1.0 - 1e-12));
            prop_assert!(kept == 1 || energy(0, kept - 1) < share * share * total);
        }

        #[test]
        fn soft_ranks_are_between_one_and_the_rank_whatever_the_scale(s in prop::collection::vec(0.1..9.0, 1..20), scale in 0.1..9.0) {
            let mut s = s;
            s.sort_by(|x: &f64, y| y.total_cmp(x));
            let scaled: Vec<f64> = s.iter().map(|s| s * scale).collect();
            for soft in [effective, stable] {
                prop_assert!((1.0 - 1e-12..=s.len() as f64 + 1e-12).contains(&soft(&s)));
                prop_assert!((soft(&s) - soft(&scaled)).abs() < 1e-9);
            }
        }
    }
}
