//! Which weights are tried: a search along one axis at a time, with steps that become shorter, then all weights together.

use super::Metric;
use crate::Result;

/// The lengths of steps.
const STEPS: [f64; 4] = [0.4, 0.2, 0.1, 0.05];
/// What all weights are multiplied by at last.
pub(super) const SCALES: [f64; 7] = [0.25, 0.5, 0.75, 0.9, 1.1, 1.25, 1.5];
/// Values have so many parts in 1, so that they are short when they are printed.
const PARTS: f64 = 1e4;

/// One thing that is varied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    pub(super) least: f64,
    pub(super) most: f64,
}

/// How good a point is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Score {
    pub(super) loss: f64,
    pub(super) exact: Option<usize>,
}

impl Score {
    /// Whether it is better than `other`.
    pub(super) fn beats(&self, other: &Score, metric: Metric) -> bool {
        match metric {
            Metric::Exact if self.exact != other.exact => self.exact > other.exact,
            _ => self.loss < other.loss,
        }
    }
}

/// What a search may ask.
pub(super) trait Objective {
    /// How good a point is; none if it was not tried, because too many were, or it means nothing.
    ///
    /// # Errors
    /// Whatever keeps it from being measured: the search ends.
    fn score(&mut self, point: &[f64]) -> Result<Option<Score>>;
}

/// The best of some points; none if none could be tried.
///
/// # Errors
/// As [`Objective::score`].
pub(super) fn best(
    points: impl IntoIterator<Item = Vec<f64>>,
    metric: Metric,
    objective: &mut dyn Objective,
) -> Result<Option<(Vec<f64>, Score)>> {
    let mut best: Option<(Vec<f64>, Score)> = None;
    for point in points {
        if let Some(score) = objective.score(&point)?
            && best.as_ref().is_none_or(|(_, so_far)| score.beats(so_far, metric))
        {
            best = Some((point, score));
        }
    }
    Ok(best)
}

/// The best point that is found from a point with its score. Each axis in turn is followed in steps of 0.4 for as long as
/// the score becomes better; when no axis helps any more, steps become shorter, down to 0.05. (This is compass search:
/// Kolda, Lewis and Torczon, *Optimization by direct search*, SIAM Review 45, 2003.) It needs no derivatives, which
/// elections of signs do not have, and finds the same on every machine.
///
/// # Errors
/// As [`Objective::score`].
pub(super) fn search(
    axes: &[Axis],
    (mut point, mut score): (Vec<f64>, Score),
    metric: Metric,
    objective: &mut dyn Objective,
) -> Result<(Vec<f64>, Score)> {
    for step in STEPS {
        let mut again = true;
        while again {
            again = false;
            for (at, axis) in axes.iter().enumerate() {
                for step in [step, -step] {
                    let mut moved = false;
                    while let Some(next) = next(&point, at, step, *axis)
                        && let Some(found) = objective.score(&next)?
                        && found.beats(&score, metric)
                    {
                        (point, score, moved) = (next, found, true);
                    }
                    if moved {
                        again = true;
                        break;
                    }
                }
            }
        }
    }
    Ok((point, score))
}

/// The point one step further along an axis; none beyond its end.
fn next(point: &[f64], at: usize, step: f64, axis: Axis) -> Option<Vec<f64>> {
    let value = rounded(point[at] + step).clamp(axis.least, axis.most);
    let mut next = point.to_vec();
    next[at] = value;
    (value != point[at]).then_some(next)
}

/// The nearest value of few digits.
pub(super) fn rounded(value: f64) -> f64 {
    // Adding 0 leaves no -0.
    (value * PARTS).round() / PARTS + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function as an objective, with how often it was asked for something new.
    struct Asked<F> {
        of: F,
        tried: Vec<(Vec<f64>, Score)>,
        most: usize,
    }

    impl<F: Fn(&[f64]) -> Score> Objective for Asked<F> {
        fn score(&mut self, point: &[f64]) -> Result<Option<Score>> {
            if let Some((_, score)) = self.tried.iter().find(|(known, _)| known == point) {
                return Ok(Some(*score));
            }
            if self.tried.len() == self.most {
                return Ok(None);
            }
            let score = (self.of)(point);
            self.tried.push((point.to_vec(), score));
            Ok(Some(score))
        }
    }

    fn asked<F: Fn(&[f64]) -> f64>(of: F, most: usize) -> Asked<impl Fn(&[f64]) -> Score> {
        Asked { of: move |point: &[f64]| Score { loss: of(point), exact: None }, tried: Vec::new(), most }
    }

    const FREE: Axis = Axis { least: 0.0, most: 3.0 };

    fn found(objective: &mut dyn Objective, starts: &[Vec<f64>]) -> (Vec<f64>, Score) {
        let start = best(starts.to_vec(), Metric::Loss, objective).unwrap().unwrap();
        search(&vec![FREE; start.0.len()], start, Metric::Loss, objective).unwrap()
    }

    #[test]
    fn a_bowl_is_followed_to_its_bottom() {
        let bowl = |x: &[f64]| {
            let (a, b) = (x[0] - 0.7, x[1] - 1.15);
            2.0 * a * a + b * b + 0.8 * a * b
        };
        let mut objective = asked(bowl, 200);
        let (point, score) = found(&mut objective, &[vec![1.0, 1.0], vec![1.0, 0.0], vec![0.0, 1.0]]);
        assert!((point[0] - 0.7).abs() <= 0.05 && (point[1] - 1.15).abs() <= 0.05, "{point:?}");
        assert_eq!(score.loss, bowl(&point));
        assert!(objective.tried.len() <= 40, "{}", objective.tried.len());
        assert!(point.iter().all(|value| value.to_string().len() <= 6), "{point:?}");
        let mut again = asked(bowl, 200);
        assert_eq!(found(&mut again, &[vec![1.0, 1.0], vec![1.0, 0.0], vec![0.0, 1.0]]).0, point);
        assert_eq!(again.tried, objective.tried);
    }

    #[test]
    fn the_best_start_is_where_it_begins() {
        let (point, _) =
            found(&mut asked(|x| (x[0] - 1.0).abs() + x[1], 3), &[vec![1.0, 1.0], vec![1.0, 0.0]]);
        assert_eq!(point, [1.0, 0.0]);
    }

    #[test]
    fn ends_of_axes_hold() {
        let (point, _) = found(&mut asked(|x| x[0] - x[1], 200), &[vec![1.0, 1.33]]);
        assert_eq!(point, [0.0, 3.0]);
    }

    #[test]
    fn it_stops_when_no_more_may_be_tried() {
        let mut objective = asked(|x| -x[0], 4);
        let (point, _) = found(&mut objective, &[vec![0.0]]);
        assert_eq!((objective.tried.len(), point), (4, vec![1.2]));
        assert_eq!(best([vec![0.0]], Metric::Loss, &mut asked(|_| 0.0, 0)).unwrap(), None);
    }

    #[test]
    fn more_exact_answers_win_then_the_less_loss() {
        let score = |loss, exact| Score { loss, exact: Some(exact) };
        assert!(score(2.0, 5).beats(&score(1.0, 4), Metric::Exact));
        assert!(!score(2.0, 5).beats(&score(1.0, 5), Metric::Exact));
        assert!(score(1.0, 4).beats(&score(2.0, 5), Metric::Loss));
    }

    #[test]
    fn values_have_few_digits() {
        assert_eq!(rounded(0.1 + 0.2), 0.3);
        assert_eq!(rounded(0.65 * 0.9), 0.585);
        assert!(rounded(-0.000_001).is_sign_positive());
    }
}
