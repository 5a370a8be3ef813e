//! Which other weights make the merged model of base and adapters, proved by computing that merge.
//!
//! Many numbers are as near to a measured one as rounding lets one tell. Weights are typed by people, so the decimals
//! with the fewest digits come first, and each is tried: the merge at that weight is planned and compared like the one
//! that was asked for.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use lorakit_tensor::DType;

use super::Verified;
use super::compare::{Compared, state_of};
use super::factors::Factors;
use super::joint::fit;
use super::pair::Pair;
use super::question::Question;
use super::state::{State, is_alike};
use super::sums::Measured;
use super::verdict::{Proof, Verdict};
use crate::Result;
use crate::arch::names::is_buffer;
use crate::ops::merge::{Sum, Sums};
use crate::plan::{LowRank, OutputTensor, Stretch, in_order};

/// Decimals that are tried.
const TRIED: usize = 12;
/// A fitted scale of quantised tensors is known to this share of it at best.
const FITTED: f64 = 0.02;
/// A range of scales wider than this share of them is not searched. Of one that is not narrow, only numbers are taken with
/// which every value agrees.
const WIDE: f64 = 0.5;
/// How far from the fitted weights the shortest decimals may be, one attempt after the other.
const ROUNDED: [f64; 4] = [0.03, 0.01, 1e-3, 1e-5];
/// Weights further than this from the fitted ones are not those, if not every value agrees: so many standard errors, and a
/// share of the largest, for what another order of summands adds.
const ERRORS: f64 = 4.0;
const ORDER: f64 = 1e-5;

/// What was proved.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proved {
    /// The factor of all deltas, if they have one.
    pub(super) factor: Option<f64>,
    /// The weight of each adapter.
    pub(super) weights: Vec<f64>,
    pub(super) proof: Proof,
    /// The rank of all factors, if they have one.
    rank: Option<usize>,
}

impl Proved {
    pub(super) fn verdict(&self) -> Verdict {
        match (self.factor, self.proof) {
            (Some(1.0), Proof::Steps) => Verdict::WithinRounding,
            (Some(factor), proof) => Verdict::WrongScale(factor, proof),
            (None, proof) => Verdict::WrongWeights(proof),
        }
    }

    /// What the factor may come from.
    pub(super) fn remark(&self) -> Option<String> {
        let factor = self.factor?;
        if self.proof != Proof::MergedTwice && factor == 2.0 && self.weights.iter().all(|w| *w == 2.0) {
            return Some("merged twice?".into());
        }
        let rank = self.rank.filter(|rank| *rank > 1)?;
        let root = (rank as f64).sqrt();
        match factor {
            f if f == root => Some(format!("rsLoRA's scale at rank {rank} is that much larger than LoRA's")),
            f if f == 1.0 / root => {
                Some(format!("LoRA's scale at rank {rank} is that much smaller than rsLoRA's"))
            }
            _ => None,
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
    let several = weights.len() > 1 || weights.contains(&0.0);
    if !found.iter().any(moved) && !several {
        return Ok(None);
    }
    let rank = rank(pairs);
    let again = |compared: &Compared| compared.verified.state == State::Kept || compared.sums.again;
    if found.iter().all(again) {
        let twice = weights.iter().map(|weight| 2.0 * weight).collect();
        return Ok(Some(Proved { factor: Some(2.0), weights: twice, proof: Proof::MergedTwice, rank: None }));
    }
    let tried = Tried { question, through: found.iter().map(|compared| compared.through).collect() };
    let factors = of_all(pairs, found, question)?;
    let quantised = pairs.iter().flatten().any(|pair| pair.touched && pair.quantised);
    if factors.is_narrow() && factors.contains(1.0) && !quantised {
        // Every value is the sum, rounded otherwise than by one of the rules.
        return Ok(Some(Proved { factor: Some(1.0), weights, proof: Proof::Steps, rank }));
    }
    if factors.is_within(WIDE)
        && let Some(proved) = tried.factors(factors, &weights, rank)?
    {
        return Ok(Some(proved));
    }
    if several { tried.weights(sums, pairs, weights) } else { Ok(None) }
}

/// The rank of all factors, if they have one.
fn rank(pairs: &[Option<Pair<'_>>]) -> Option<usize> {
    let mut ranks = pairs.iter().flatten().flat_map(|pair| &pair.compute.terms).map(LowRank::rank);
    let first = ranks.next()?;
    ranks.all(|rank| rank == first).then_some(first)
}

/// Merges that are tried.
struct Tried<'t, 'q> {
    question: &'t Question<'q>,
    /// What the sum of each tensor was rounded to before it was stored.
    through: Vec<Option<DType>>,
}

impl Tried<'_, '_> {
    /// Tries the shortest decimals in a range of factors, as weights or as factors of those given.
    fn factors(&self, factors: Factors, weights: &[f64], rank: Option<usize>) -> Result<Option<Proved>> {
        let common =
            weights.iter().all(|weight| *weight == weights[0] && *weight > 0.0).then_some(weights[0]);
        let unit = common.unwrap_or(1.0);
        let times = |f: f64| (f, weights.iter().map(|weight| weight * f).collect::<Vec<f64>>());
        let by_weight =
            factors.times(unit).decimals().take(TRIED).map(|w| (w / unit, vec![w; weights.len()]));
        let by_factor = factors.decimals().take(TRIED).map(times);
        let of_rank = rank.into_iter().flat_map(|rank| factors.of_rank(rank)).map(times);
        // For weights that are 1 they are the same.
        let decimals =
            by_weight.filter(|_| common.is_some()).chain(by_factor.filter(|_| common != Some(1.0)));
        let mut nearly = None;
        // A wide range has hundreds of these.
        let of_settings = factors.of_settings().filter(|_| factors.is_narrow()).map(times);
        for (factor, weights) in of_rank.chain(decimals).chain(of_settings) {
            // That was the first thing tried.
            if factor == 1.0 {
                continue;
            }
            let proved = |proof| Proved { factor: Some(factor), weights: weights.clone(), proof, rank };
            match self.agreement(&weights)? {
                Agreement::Values => return Ok(Some(proved(Proof::Values))),
                Agreement::Steps if nearly.is_none() && factors.is_narrow() => {
                    nearly = Some(proved(Proof::Steps));
                }
                _ => {}
            }
        }
        Ok(nearly)
    }

    /// Tries the shortest decimals near the weights that fit best, all together.
    fn weights(&self, sums: &Sums, pairs: &[Option<Pair<'_>>], weights: Vec<f64>) -> Result<Option<Proved>> {
        // A weight of 0 leaves nothing that could be fitted.
        let given: Vec<f64> = weights.iter().map(|w| if *w == 0.0 { 1.0 } else { *w }).collect();
        let fitted = if given == weights {
            fit(self.question, sums, pairs, &given)?
        } else {
            let Some(sums) = self.question.perhaps_sums(&self.sum(&given))? else { return Ok(None) };
            let pairs = self.question.pairs(&sums)?.pairs;
            fit(self.question, &sums, &pairs, &given)?
        };
        let Some(fitted) = fitted else { return Ok(None) };
        let largest = fitted.iter().map(|(weight, _)| weight.abs()).fold(0.0, f64::max);
        let (mut tried, mut nearly) = (vec![weights.clone()], None);
        for share in ROUNDED {
            let round = |((fitted, _), weight): (&(f64, f64), &f64)| {
                let by = share * fitted.abs().max(weight.abs());
                let none = (fitted.abs() <= by).then_some(0.0);
                none.or_else(|| Factors::around(*fitted, by).decimals().next())
            };
            let Some(rounded) = fitted.iter().zip(&weights).map(round).collect::<Option<Vec<f64>>>() else {
                continue;
            };
            if tried.contains(&rounded) {
                continue;
            }
            let is_near = |((fitted, error), weight): (&(f64, f64), &f64)| {
                (fitted - weight).abs() <= ERRORS * error + ORDER * largest
            };
            let near = fitted.iter().zip(&rounded).all(is_near);
            let proved = |proof| Proved { factor: None, weights: rounded.clone(), proof, rank: None };
            match self.agreement(&rounded)? {
                Agreement::Values => return Ok(Some(proved(Proof::Values))),
                Agreement::Steps if near && nearly.is_none() => nearly = Some(proved(Proof::Steps)),
                _ => {}
            }
            tried.push(rounded);
        }
        Ok(nearly)
    }

    /// What was asked for, at these weights.
    fn sum(&self, weights: &[f64]) -> Sum {
        let mut sum = self.question.options.sum.clone();
        sum.adapters.iter_mut().zip(weights).for_each(|((_, weight), new)| *weight = *new);
        sum
    }

    /// How the merge at these weights fits the merged model, in the worst tensor.
    fn agreement(&self, weights: &[f64]) -> Result<Agreement> {
        let question = self.question;
        let Some(sums) = question.perhaps_sums(&self.sum(weights))? else { return Ok(Agreement::No) };
        let mut paired = question.pairs(&sums)?;
        for (pair, through) in paired.pairs.iter_mut().zip(&self.through) {
            if let Some(pair) = pair {
                pair.through = *through;
            }
        }
        let disagree = AtomicBool::new(false);
        let one = |(tensor, pair): (&OutputTensor, &Option<Pair<'_>>)| {
            question.go_on()?;
            let stretch = Stretch::new(question.progress, tensor.info.byte_len());
            let agreement = match pair {
                _ if disagree.load(Relaxed) => Agreement::No,
                Some(pair) => of_pair(pair, tensor, &stretch)?,
                None if is_buffer(&tensor.info.name) => Agreement::Values,
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

/// How a tensor agrees, rounded as it was found to be; where it is quantised, also if it was rounded to the base's dtype
/// first.
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
    let of_base = Some(pair.compute.base.info().dtype);
    let of_base =
        of_base.filter(|dtype| matches!(dtype, DType::BF16 | DType::F16)).filter(|_| pair.quantised);
    let mut best = Agreement::No;
    for through in [Some(pair.through), of_base.map(Some)].into_iter().flatten() {
        let pair = pair.rounded_to(through);
        let m = pair.measure(stretch)?;
        best = best.max(match state_of(&pair, &m) {
            State::Exact { .. } | State::Kept => return Ok(Agreement::Values),
            // In blocks, what holds may be other weights.
            State::Quantised if is_alike(&m) => Agreement::Steps,
            State::Near => Agreement::Steps,
            _ if m.bad == 0 && m.off == 0 && !pair.quantised => Agreement::Steps,
            _ => Agreement::No,
        });
    }
    Ok(best)
}
