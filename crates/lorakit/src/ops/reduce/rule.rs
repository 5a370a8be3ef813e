//! Which rank each module gets.

use lorakit_linalg::rank::{self, KohyaEdition, KohyaRule};
use lorakit_linalg::{Spectrum, water_filling};

use super::Problem;
use crate::Result;
use crate::lineage::Step;

crate::choice::choices! { KohyaEdition {
    Current = "current", "the script of today";
    Legacy = "legacy", "the script before its pull request 2194, which takes one rank more";
} }

/// How ranks are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// This rank for every module that has more.
    Rank(usize),
    /// The lowest rank that keeps this share of each module's energy, the sum of its squared singular values; 0 to 1.
    Energy(f64),
    /// The lowest rank whose error, relative to the norm of the delta, is at most this; 0 to 1.
    MaxError(f64),
    /// As `resize_lora.py` of kohya's sd-scripts chooses.
    Kohya(KohyaRule, KohyaEdition),
    /// This many parameters of factors over all modules, spent where they keep most energy.
    Parameters(u64),
    /// This many bytes of output, spent likewise.
    Size(u64),
}

impl Rule {
    /// Whether ranks depend on more than the module that they are for.
    pub fn is_global(self) -> bool {
        matches!(self, Rule::Parameters(_) | Rule::Size(_))
    }

    /// `step` with the rule among its options.
    pub(super) fn recorded(self, step: Step) -> Step {
        match self {
            Rule::Rank(rank) => step.with("rank", rank),
            Rule::Energy(share) => step.with("energy", share),
            Rule::MaxError(error) => step.with("max_error", error),
            Rule::Kohya(rule, edition) => {
                let (name, target) = match rule {
                    KohyaRule::Ratio(target) => ("sv_ratio", target),
                    KohyaRule::Cumulative(target) => ("sv_cumulative", target),
                    KohyaRule::Fro(target) => ("sv_fro", target),
                };
                let legacy = edition == KohyaEdition::Legacy;
                step.with("kohya", format!("{name}={target}")).with("legacy", legacy.then_some(true))
            }
            Rule::Parameters(parameters) => step.with("parameters", parameters),
            Rule::Size(bytes) => step.with("size", bytes),
        }
    }

    /// The rank for a module of shape `(rows, cols)` whose product `B * A` has the singular values `s`; `None` if the
    /// rule is global.
    pub(super) fn of_module(self, s: &[f64], (rows, cols): (usize, usize)) -> Option<usize> {
        match self {
            Rule::Rank(rank) => Some(rank),
            Rule::Energy(share) => Some(rank::for_energy(s, share)),
            Rule::MaxError(error) => Some(rank::for_relative_error(s, error)),
            Rule::Kohya(rule, edition) => Some(rank::kohya(s, rows.min(cols), rule, edition)),
            Rule::Parameters(_) | Rule::Size(_) => None,
        }
    }
}

/// One module, for [`spend`].
#[derive(Debug, Clone)]
pub(super) struct Weighed {
    /// Singular values of the delta, its scale included.
    pub(super) s: Vec<f64>,
    /// What one unit of rank costs.
    pub(super) cost: u64,
}

/// A rank for each module, at least 1: together they cost at most `budget` of what is called `unit`, and keep as much
/// energy as that can. Also the energy per unit of the best omitted triplet.
///
/// # Errors
/// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if rank 1 everywhere costs more.
pub(super) fn spend(modules: &[Weighed], budget: u64, unit: &str) -> Result<(Vec<usize>, f64)> {
    let least: u64 = modules.iter().map(|m| m.cost).sum();
    if least > budget {
        return Err(Problem::Budget { budget, unit: unit.to_string(), least }.into());
    }
    // Water-filling gives nothing to deltas of zero; they keep rank 1, since formats cannot express rank 0.
    let zero = |m: &&Weighed| m.s.first().is_none_or(|s| *s == 0.0);
    let idle: u64 = modules.iter().filter(zero).map(|m| m.cost).sum();
    let spectra: Vec<Spectrum<'_>> = modules.iter().map(|m| Spectrum { s: &m.s, cost: m.cost }).collect();
    let chosen = water_filling(&spectra, budget - idle)
        .map_err(|error| Problem::Spectrum { reason: error.to_string() })?;
    Ok((chosen.ranks.into_iter().map(|rank| rank.max(1)).collect(), chosen.level))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn weighed(s: &[f64], cost: u64) -> Weighed {
        Weighed { s: s.to_vec(), cost }
    }

    #[test]
    fn each_rule_answers_for_a_module() {
        let s = [3.0, 2.0, 1.0, 0.5];
        for (rule, rank) in [
            (Rule::Rank(2), Some(2)),
            (Rule::Energy(0.9), Some(2)),
            (Rule::MaxError(0.3), Some(2)),
            (Rule::Kohya(KohyaRule::Ratio(4.0), KohyaEdition::Current), Some(3)),
            (Rule::Kohya(KohyaRule::Ratio(4.0), KohyaEdition::Legacy), Some(4)),
            (Rule::Parameters(7), None),
        ] {
            assert_eq!(rule.of_module(&s, (9, 8)), rank, "{rule:?}");
        }
    }

    #[test]
    fn a_budget_goes_where_energy_is_and_leaves_every_module_its_place() {
        let modules = [weighed(&[4.0, 3.0, 0.1], 10), weighed(&[0.0, 0.0], 10), weighed(&[1.0, 0.9], 10)];
        assert_eq!(spend(&modules, 30, "parameters").unwrap().0, [1, 1, 1]);
        assert_eq!(spend(&modules, 49, "parameters").unwrap().0, [2, 1, 1]);
        assert_eq!(spend(&modules, 50, "parameters").unwrap().0, [2, 1, 2]);
        let error = spend(&modules, 29, "bytes").unwrap_err();
        assert_eq!(error.to_string(), "does not fit into 29 bytes: rank 1 everywhere takes 30 bytes");
    }
}
