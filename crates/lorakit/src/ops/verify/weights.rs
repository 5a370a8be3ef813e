//! Which other weights make the merged model of base and adapters, proved by computing that merge.
//!
//! Many numbers are as near to a measured one as rounding lets one tell. Weights are typed by people, so the decimals
//! with the fewest digits come first, and each is tried: the merge at that weight is planned and compared like the one
//! that was asked for.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::Verified;
use super::compare::Compared;
use super::factors::Factors;
use super::joint::fit;
use super::measure::Measured;
use super::pair::Pair;
use super::question::Question;
use super::state::State;
use super::verdict::{Proof, Verdict};
use crate::Result;
use crate::ops::merge::Sums;
use crate::plan::{OutputTensor, Stretch, in_order};

/// Decimals that are tried.
const TRIED: usize = 12;
/// A fitted scale of quantised tensors is known to this share of it at best.
const FITTED: f64 = 0.02;
/// A range of fitted scales wider than this share of them is not searched.
const WIDE: f64 = 0.2;
/// How far from the fitted weights the shortest decimals may be, one attempt after the other.
const ROUNDED: [f64; 4] = [0.03, 0.01, 1e-3, 1e-5];

/// What was proved.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proved {
    /// The factor of all deltas, if they have one.
    pub(super) factor: Option<f64>,
    /// The weight of each adapter.
    pub(super) weights: Vec<f64>,
    pub(super) proof: Proof,
}

impl Proved {
    pub(super) fn verdict(&self) -> Verdict {
        match (self.factor, self.proof) {
            (Some(1.0), Proof::Steps) => Verdict::WithinRounding,
            (Some(factor), proof) => Verdict::WrongScale(factor, proof),
            (None, proof) => Verdict::WrongWeights(proof),
        }
    }

    /// Says what it says about a tensor.
    pub(super) fn explains(&self, tensor: &mut Verified) {
        let Some(scale) = self.factor.or(tensor.scale).filter(|_| tensor.touched) else { return };
        tensor.state = if scale == 1.0 { State::Near } else { State::Scaled(scale) };
        tensor.scale = Some(scale);
        tensor.fault = None;
    }
}

/// How the merge at some weights fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Agreement {
    No,
    Steps,
    Values,
}

/// The weights that the adapters were added with, if these are all that is wrong and it can be proved. Tensors are read
/// again only if nothing speaks against it.
///
/// # Errors
/// As for comparing.
pub(super) fn find(
    question: &Question<'_>,
    sums: &Sums,
    pairs: &[Option<Pair<'_>>],
    found: &[Compared],
) -> Result<Option<Proved>> {
    let perhaps = |compared: &Compared| match compared.verified.state {
        State::Kept | State::Scaled(_) | State::Missing | State::Other => true,
        State::Exact { .. } | State::Near => {
            question.options.sum.adapters.len() > 1 || compared.is_swallowed()
        }
        State::Quantised => true,
        _ => false,
    };
    let moved = |compared: &Compared| matches!(compared.verified.state, State::Scaled(_) | State::Other);
    let readable = |pair: &Pair<'_>| !pair.touched || pair.is_decodable();
    if !pairs.iter().flatten().all(readable) || !found.iter().all(perhaps) {
        return Ok(None);
    }
    let weights: Vec<f64> = question.options.sum.adapters.iter().map(|(_, weight)| *weight).collect();
    if !found.iter().any(moved) && weights.len() < 2 {
        return Ok(None);
    }
    let again = |compared: &Compared| compared.verified.state == State::Kept || compared.sums.again;
    if found.iter().all(again) {
        let twice = weights.iter().map(|weight| 2.0 * weight).collect();
        return Ok(Some(Proved { factor: Some(2.0), weights: twice, proof: Proof::MergedTwice }));
    }
    let factors = of_all(pairs, found, question)?;
    let quantised = pairs.iter().flatten().any(|pair| pair.touched && pair.quantised);
    if quantised && factors.contains(1.0) {
        return Ok(None);
    }
    if factors.is_narrow() || quantised && factors.is_within(WIDE) {
        if factors.contains(1.0) {
            // Every value is the sum, rounded otherwise than by one of the rules.
            return Ok(Some(Proved { factor: Some(1.0), weights, proof: Proof::Steps }));
        }
        return of_factors(question, factors, &weights);
    }
    if weights.len() < 2 {
        return Ok(None);
    }
    let Some(fitted) = fit(question, sums, pairs)? else { return Ok(None) };
    let mut tried = vec![weights.clone()];
    for share in ROUNDED {
        let round = |(fitted, weight): (&f64, &f64)| {
            let by = share * fitted.abs().max(weight.abs());
            let none = (fitted.abs() <= by).then_some(0.0);
            none.or_else(|| Factors::around(*fitted, by).decimals().next())
        };
        let Some(rounded) = fitted.iter().zip(&weights).map(round).collect::<Option<Vec<f64>>>() else {
            continue;
        };
        if !tried.contains(&rounded) && agreement(question, &rounded)? == Agreement::Values {
            return Ok(Some(Proved { factor: None, weights: rounded, proof: Proof::Values }));
        }
        tried.push(rounded);
    }
    Ok(None)
}

/// Tries the shortest decimals in a range of factors, as weights or as factors of those given.
fn of_factors(question: &Question<'_>, factors: Factors, weights: &[f64]) -> Result<Option<Proved>> {
    let common = weights.iter().all(|weight| *weight == weights[0] && *weight > 0.0).then_some(weights[0]);
    let unit = common.unwrap_or(1.0);
    let by_weight =
        factors.times(unit).decimals().take(TRIED).map(|weight| (weight / unit, vec![weight; weights.len()]));
    let by_factor =
        factors.decimals().take(TRIED).map(|f| (f, weights.iter().map(|weight| weight * f).collect()));
    let of_settings = factors.of_settings().map(|f| (f, weights.iter().map(|weight| weight * f).collect()));
    // For weights that are 1 they are the same.
    let decimals = by_weight.filter(|_| common.is_some()).chain(by_factor.filter(|_| common != Some(1.0)));
    let mut nearly = None;
    for (factor, weights) in decimals.chain(of_settings) {
        let proved = |proof| Proved { factor: Some(factor), weights: weights.clone(), proof };
        match agreement(question, &weights)? {
            Agreement::Values => return Ok(Some(proved(Proof::Values))),
            Agreement::Steps if nearly.is_none() => nearly = Some(proved(Proof::Steps)),
            _ => {}
        }
    }
    Ok(nearly)
}

/// The factors that all tensors that adapters touch have in common. For quantised tensors, those near the fitted one.
fn of_all(pairs: &[Option<Pair<'_>>], found: &[Compared], question: &Question<'_>) -> Result<Factors> {
    let mut common = found.iter().filter_map(|compared| compared.factors).fold(Factors::ALL, Factors::and);
    let touched = || pairs.iter().zip(found).filter_map(|(pair, found)| Some((pair.as_ref()?, found)));
    let mut quantised = Measured::default();
    let packed = touched().filter(|(pair, found)| pair.touched && pair.quantised && found.sums.delta > 0.0);
    packed.for_each(|(_, found)| quantised.add(&found.sums));
    if quantised.delta > 0.0 {
        let scale = quantised.scale() - quantised.usual() + 1.0;
        let by = (4.0 * quantised.uncertainty()).max(FITTED * scale.abs());
        common = common.and(Factors::around(scale, by));
    }
    if common.is_empty() {
        return Ok(common);
    }
    // If two tensors disagree, the others need not be read.
    let disagree = AtomicBool::new(false);
    let one = |pair: &Pair<'_>| {
        question.go_on()?;
        let stretch = Stretch::new(question.progress, pair.merged.info().byte_len());
        let factors = if disagree.load(Relaxed) { Factors::ALL } else { Factors::of(pair, &stretch)? };
        stretch.finish();
        disagree.fetch_or(factors.is_empty(), Relaxed);
        Ok(factors)
    };
    let rest = || {
        let rest =
            touched().filter(|(pair, found)| pair.touched && !pair.quantised && found.factors.is_none());
        rest.map(|(pair, _)| pair)
    };
    question.progress.begin(rest().map(|pair| pair.merged.info().byte_len()).sum());
    Ok(in_order(rest(), one)?.into_iter().fold(common, Factors::and))
}

/// How the merge at these weights fits the merged model, in the worst tensor.
fn agreement(question: &Question<'_>, weights: &[f64]) -> Result<Agreement> {
    let mut sum = question.options.sum.clone();
    sum.adapters.iter_mut().zip(weights).for_each(|((_, weight), new)| *weight = *new);
    let Some(sums) = question.perhaps_sums(&sum)? else { return Ok(Agreement::No) };
    let paired = question.pairs(&sums)?;
    let disagree = AtomicBool::new(false);
    let one = |(tensor, pair): (&OutputTensor, &Option<Pair<'_>>)| {
        question.go_on()?;
        let stretch = Stretch::new(question.progress, tensor.info.byte_len());
        let agreement = match pair {
            _ if disagree.load(Relaxed) => Agreement::No,
            Some(pair) => of_pair(pair, tensor, &stretch)?,
            None => Agreement::No,
        };
        stretch.finish();
        disagree.fetch_or(agreement == Agreement::No, Relaxed);
        Ok(agreement)
    };
    question.progress.begin(sums.tensors.iter().map(|tensor| tensor.info.byte_len()).sum());
    let all = in_order(sums.tensors.iter().zip(&paired.pairs), one)?;
    Ok(all.into_iter().min().unwrap_or(Agreement::No))
}

fn of_pair(pair: &Pair<'_>, tensor: &OutputTensor, stretch: &Stretch<'_>) -> Result<Agreement> {
    if !pair.has_shape(tensor) {
        return Ok(Agreement::No);
    }
    if pair.is_as_it_was() && pair.compute.base.same_values(&pair.merged)? {
        return Ok(Agreement::Values);
    }
    if !pair.is_decodable() {
        return Ok(Agreement::No);
    }
    let m = pair.measure(stretch)?;
    Ok(match m.bad == 0 {
        true if m.once || m.twice || m.in_turn => Agreement::Values,
        true if m.off == 0 && !pair.quantised => Agreement::Steps,
        _ => Agreement::No,
    })
}
