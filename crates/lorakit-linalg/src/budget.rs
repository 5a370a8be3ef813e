//! One budget of parameters over many spectra.

#[cfg(doc)]
use crate::ErrorKind;
use crate::error::Result;
use crate::problem::Problem;

/// A spectrum that takes part in [`water_filling`].
#[derive(Debug, Clone, Copy)]
pub struct Spectrum<'a> {
    /// Singular values of the module's delta, scale included, in descending order.
    pub s: &'a [f64],
    /// Parameters that one unit of rank takes: `m + n` for a module of shape `(m, n)`. Not 0.
    pub cost: u64,
}

/// What [`water_filling`] chose.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// A rank for each spectrum, in their order.
    pub ranks: Vec<usize>,
    /// Parameters that these ranks take, at most the budget.
    pub parameters: u64,
    /// The water level: energy per parameter, `s² / cost`, of the best unit that was left out; 0 if there is none.
    pub level: f64,
}

/// Chooses a rank for each spectrum so that the truncations keep as much energy `Σ s²` as `budget` parameters can.
///
/// Each spectrum that is not all zeros gets at least rank 1. The other units of rank are taken in order of their energy
/// per parameter, `s² / cost`, and equal ones in the order of the spectra. A unit that no longer fits ends its
/// spectrum; cheaper ones elsewhere may follow. Zeros are never taken.
///
/// Up to the first unit that does not fit, this is the optimum of the Lagrangian problem, to maximise
/// `Σ energy - λ · Σ parameters` with `λ` the level, so no ranks with as many parameters or fewer keep more energy. If
/// all costs are equal, that holds for the whole result. Otherwise the result is within one unit's energy of the
/// optimum under the budget, the knapsack problem.
///
/// # Errors
/// [`ErrorKind::Budget`] if rank 1 everywhere is beyond the budget, [`ErrorKind::Domain`] for a cost of 0,
/// [`ErrorKind::NonFinite`].
pub fn water_filling(spectra: &[Spectrum<'_>], budget: u64) -> Result<Allocation> {
    let mut units = Vec::new();
    let mut ranks = vec![0; spectra.len()];
    let mut needed = 0u64;
    for (i, Spectrum { s, cost }) in spectra.iter().enumerate() {
        if *cost == 0 {
            return Err(Problem::Free { index: i }.into());
        }
        if let Some(bad) = s.iter().find(|s| !s.is_finite()) {
            return Err(Problem::Spectrum { index: i, value: *bad }.into());
        }
        let positive = s.iter().take_while(|s| **s > 0.0);
        units.extend(positive.enumerate().map(|(j, s)| (s * s / *cost as f64, i, j)));
        if s.first().is_some_and(|first| *first > 0.0) {
            ranks[i] = 1;
            needed = needed.saturating_add(*cost);
        }
    }
    if needed > budget {
        return Err(Problem::Budget { budget, needed }.into());
    }

    units.retain(|(_, _, j)| *j > 0);
    units.sort_by(|x, y| y.0.total_cmp(&x.0).then((x.1, x.2).cmp(&(y.1, y.2))));
    let (mut parameters, mut level) = (needed, 0.0_f64);
    for (worth, i, j) in units {
        let cost = spectra[i].cost;
        if ranks[i] == j && cost <= budget - parameters {
            ranks[i] += 1;
            parameters += cost;
        } else {
            level = level.max(worth);
        }
    }
    Ok(Allocation { ranks, parameters, level })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;

    fn spectrum(s: &[f64], cost: u64) -> Spectrum<'_> {
        Spectrum { s, cost }
    }

    #[test]
    fn the_best_energy_per_parameter_comes_first() {
        let spectra =
            [spectrum(&[4.0, 3.0, 1.0], 10), spectrum(&[5.0, 4.0, 2.0], 20), spectrum(&[0.0, 0.0], 1)];
        // Worth: 0.9 and 0.1; 0.8 and 0.2.
        for (budget, ranks, parameters, level) in [
            (30, [1, 1, 0], 30, 0.9),
            (40, [2, 1, 0], 40, 0.8),
            (59, [3, 1, 0], 50, 0.8), // 20 do not fit; 10 do
            (60, [2, 2, 0], 60, 0.2),
            (79, [3, 2, 0], 70, 0.2),
            (90, [3, 3, 0], 90, 0.0),
            (u64::MAX, [3, 3, 0], 90, 0.0),
        ] {
            let got = water_filling(&spectra, budget).unwrap();
            assert_eq!(got, Allocation { ranks: ranks.to_vec(), parameters, level }, "{budget}");
        }
        assert_eq!(water_filling(&[], 0).unwrap(), Allocation { ranks: vec![], parameters: 0, level: 0.0 });
    }

    #[test]
    fn requests_that_cannot_be_met() {
        let error = water_filling(&[spectrum(&[1.0], 10), spectrum(&[2.0], 20)], 29).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Budget);
        assert_eq!(error.to_string(), "a budget of 29 parameters; rank 1 everywhere takes 30");
        assert_eq!(water_filling(&[spectrum(&[1.0], 0)], 29).unwrap_err().kind(), ErrorKind::Domain);
        assert_eq!(water_filling(&[spectrum(&[f64::NAN], 1)], 29).unwrap_err().kind(), ErrorKind::NonFinite);
    }

    fn energy(spectra: &[Vec<f64>], ranks: &[usize]) -> f64 {
        spectra.iter().zip(ranks).map(|(s, rank)| s[..*rank].iter().map(|s| s * s).sum::<f64>()).sum()
    }

    proptest! {
        /// Against every possible choice of ranks.
        #[test]
        fn no_other_choice_is_better_by_a_unit(
            mut spectra in prop::collection::vec(prop::collection::vec(0.1..9.0, 1..5), 1..4),
            costs in prop::collection::vec(1u64..6, 3),
            equal: bool,
            extra in 0u64..30,
        ) {
            spectra.iter_mut().for_each(|s| s.sort_by(|x: &f64, y| y.total_cmp(x)));
            let costs: Vec<u64> = costs.iter().map(|cost| if equal { 3 } else { *cost }).take(spectra.len()).collect();
            let budget = costs.iter().sum::<u64>() + extra;
            let views: Vec<_> = spectra.iter().zip(&costs).map(|(s, cost)| spectrum(s, *cost)).collect();
            let got = water_filling(&views, budget).unwrap();
            let spent = |ranks: &[usize]| ranks.iter().zip(&costs).map(|(rank, cost)| *rank as u64 * cost).sum::<u64>();
            prop_assert_eq!(spent(&got.ranks), got.parameters);
            prop_assert!(got.parameters <= budget && got.ranks.iter().all(|rank| *rank >= 1));

            let mut best = 0.0_f64;
            let choices: usize = spectra.iter().map(Vec::len).product();
            for mut choice in 0..choices {
                let ranks: Vec<usize> = spectra.iter().map(|s| {
                    let rank = choice % s.len() + 1;
                    choice /= s.len();
                    rank
                }).collect();
                if spent(&ranks) <= budget {
                    best = best.max(energy(&spectra, &ranks));
                }
            }
            let unit = if equal { 0.0 } else { spectra.iter().map(|s| s[0] * s[0]).fold(0.0, f64::max) };
            prop_assert!(energy(&spectra, &got.ranks) >= best - unit - 1e-9, "{got:?} {best}");
        }
    }
}
