//! Combinations that are tried: from weights and density to a score.

use lorakit::lineage::Lineage;
use lorakit::ops::combine::{self, CombineOptions};
use lorakit::plan::Progress;

use super::report::{Stage, Trial};
use super::run::Run;
use super::search::{self, Axis, Objective, SCALES, Score, rounded};
use crate::Result;
use crate::eval::problem::Problem;

/// The largest weight that is tried, unless a larger one is given.
const LARGEST: f64 = 3.0;
/// The share of entries that methods which drop some keep at first.
const DENSITY: f64 = 0.5;
/// The shares that are tried.
const DENSITIES: Axis = Axis { least: 0.05, most: 1.0 };

/// Combinations that differ in weights and density.
pub(super) struct Combination<'a> {
    pub(super) options: &'a CombineOptions,
    /// Whether the density is chosen too.
    pub(super) thins: bool,
}

impl Combination<'_> {
    /// A point: the weights, then the density if it is chosen too.
    pub(super) fn point(&self, weights: Vec<f64>) -> Vec<f64> {
        weights.into_iter().chain(self.thins.then_some(DENSITY)).collect()
    }

    pub(super) fn weights<'p>(&self, point: &'p [f64]) -> &'p [f64] {
        &point[..self.options.adapters.len()]
    }

    /// The density, if it is chosen.
    pub(super) fn density(&self, point: &[f64]) -> Option<f64> {
        point.get(self.options.adapters.len()).copied()
    }

    /// Computes the combination at a point, as it would be written.
    pub(super) fn compute(&self, point: &[f64], progress: &dyn Progress) -> Result<combine::Combine> {
        let mut options = self.options.clone().with_lineage(Lineage::Never).with_card(false);
        options.adapters.iter_mut().zip(point).for_each(|((_, weight), found)| *weight = *found);
        options.density = self.density(point).or(options.density);
        combine::compute(&options, progress)
    }
}

/// One adapter at a weight, and nothing of the others.
pub(super) fn unit(count: usize, at: usize, weight: f64) -> Vec<f64> {
    (0..count).map(|other| if other == at { weight } else { 0.0 }).collect()
}

/// The best point that is found from the weights that are given, and all that was tried.
///
/// # Errors
/// If nothing can be tried; as [`Run::figures`].
pub(super) fn search(run: &mut Run<'_>, given: &[f64]) -> Result<(Vec<f64>, Vec<Trial>)> {
    let axis = |weight: &f64| {
        let most = LARGEST.max(weight.abs());
        if *weight < 0.0 { Axis { least: -most, most: 0.0 } } else { Axis { least: 0.0, most } }
    };
    let axes: Vec<Axis> = given.iter().map(axis).chain(run.trial.thins.then_some(DENSITIES)).collect();
    let count = given.len();
    let sign = |at: usize| if given[at] < 0.0 { -1.0 } else { 1.0 };
    let singles = (0..count).filter(|_| count > 1).map(|at| unit(count, at, sign(at)));
    let starts = [given.to_vec()].into_iter().chain(singles);
    let starts: Vec<Vec<f64>> = starts.map(|weights| run.trial.point(weights)).collect();
    let metric = run.options.metric;
    let most = run.options.trials.saturating_sub(SCALES.len() + 1).max(1);
    let mut trials = Trials { run, tried: Vec::new(), most, stage: Stage::Start, scale: None };
    let start = search::best(starts, metric, &mut trials)?.ok_or(Problem::NoWeights)?;
    trials.stage = Stage::Weights;
    let (point, mut score) = search::search(&axes, start, metric, &mut trials)?;
    // All weights together: the way in which an axis alone goes slowly.
    (trials.stage, trials.most) = (Stage::Scale, usize::MAX);
    let mut best = point.clone();
    for scale in [1.0].into_iter().chain(SCALES) {
        let mut next = point.clone();
        next[..count].iter_mut().for_each(|weight| *weight = rounded(*weight * scale));
        if scale == 1.0 {
            next.clone_from(&point);
        }
        trials.scale = Some(scale);
        if let Some(found) = trials.score(&next)?
            && found.beats(&score, metric)
        {
            (best, score) = (next, found);
        }
    }
    Ok((best, trials.tried))
}

/// Combinations that are tried, each once.
struct Trials<'r, 'a> {
    run: &'r mut Run<'a>,
    tried: Vec<Trial>,
    most: usize,
    stage: Stage,
    scale: Option<f64>,
}

impl Objective for Trials<'_, '_> {
    fn score(&mut self, point: &[f64]) -> Result<Option<Score>> {
        let weights = self.run.trial.weights(point).to_vec();
        let density = self.run.trial.density(point);
        let known = self.tried.iter().find(|trial| trial.weights == weights && trial.density == density);
        let known = known.map(|trial| Score { loss: trial.loss, exact: trial.exact });
        let score = match known {
            Some(score) if self.stage != Stage::Scale => return Ok(Some(score)),
            Some(score) => score,
            // Of nothing there is no adapter.
            None if self.tried.len() >= self.most || weights.iter().all(|weight| *weight == 0.0) => {
                return Ok(None);
            }
            None => {
                let told: Vec<String> = weights.iter().map(f64::to_string).collect();
                self.run.pace.what = format!("weights {}", told.join(", "));
                let adapter = self.run.adapter(point)?;
                let rows = self.run.chosen_on.clone();
                self.run.figures(&adapter, &rows)?.score(self.run.options.metric)
            }
        };
        let Score { loss, exact } = score;
        self.tried.push(Trial { stage: self.stage, weights, density, scale: self.scale, loss, exact });
        Ok(Some(score))
    }
}
