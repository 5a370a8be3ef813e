//! How sure a difference between two models is, both of which did the same rows.

use lorakit_linalg::random::philox4x32;
use rayon::prelude::*;
use serde::Serialize;

use crate::kernel::math::ln;
use crate::model::Real;

/// Draws of a bootstrap.
pub const DRAWS: usize = 10_000;
/// Rows from which on an interval is given: of fewer, draws hold too few different ones.
pub const FEWEST: usize = 10;
/// The share of draws below an interval, and above it.
const TAIL: f64 = 0.025;

/// A mean, and the interval in which it lies with 95 % certainty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The weighted mean over all rows.
    pub mean: f64,
    /// The lower end; none if there are too few rows.
    pub low: Option<f64>,
    /// The upper end; none if there are too few rows.
    pub high: Option<f64>,
}

impl Interval {
    /// Whether the whole of it lies above `value`.
    pub fn is_above(&self, value: f64) -> bool {
        self.low.is_some_and(|low| low > value)
    }

    /// Whether the whole of it lies below `value`.
    pub fn is_below(&self, value: f64) -> bool {
        self.high.is_some_and(|high| high < value)
    }
}

/// The mean of differences per unit of weight, `Σ difference / Σ weight`, with the interval of its bootstrap: rows are
/// drawn with replacement [`DRAWS`] times, each with its difference and its weight, and the ends are the 2.5th and the
/// 97.5th percentile of the means (Efron and Tibshirani, *An introduction to the bootstrap*, 1993, section 13.3), with
/// linear interpolation. A row is drawn whole, because the tokens of one answer depend on each other.
///
/// The seed decides what is drawn, on every machine and on any number of threads alike.
///
/// # Panics
/// If there are more than 2³² rows.
pub(super) fn bootstrap(rows: &[(f64, f64)], seed: u64) -> Interval {
    let mean = |(difference, weight): (f64, f64)| if weight > 0.0 { difference / weight } else { 0.0 };
    let add = |sum: (f64, f64), row: &(f64, f64)| (sum.0 + row.0, sum.1 + row.1);
    let whole = mean(rows.iter().fold((0.0, 0.0), add));
    if rows.len() < FEWEST {
        return Interval { mean: whole, low: None, high: None };
    }
    let count = u32::try_from(rows.len()).expect("rows can be counted in 32 bits");
    let draw =
        |draw: usize| mean(drawn(seed, draw as u32, count).fold((0.0, 0.0), |sum, at| add(sum, &rows[at])));
    let mut means: Vec<f64> = (0..DRAWS).into_par_iter().map(draw).collect();
    means.sort_by(f64::total_cmp);
    Interval { mean: whole, low: Some(quantile(&means, TAIL)), high: Some(quantile(&means, 1.0 - TAIL)) }
}

/// The rows of one draw: as many as there are.
fn drawn(seed: u64, draw: u32, count: u32) -> impl Iterator<Item = usize> {
    let key = [seed as u32, (seed >> 32) as u32];
    let words = move |at: u32| philox4x32([at, draw, 0, 0], key);
    let place = move |word: u32| ((u64::from(word) * u64::from(count)) >> 32) as usize;
    (0..count.div_ceil(4)).flat_map(words).take(count as usize).map(place)
}

/// The value below which the share `at` of ascending values lies, between two of them as numpy interpolates.
fn quantile(sorted: &[f64], at: f64) -> f64 {
    let place = at * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

/// The exact test of McNemar (1947): the probability that of `better + worse` rows on which two models differ, if each
/// were as likely the better one, the split would be as uneven as this or more so.
pub(super) fn mcnemar(better: usize, worse: usize) -> f64 {
    let (rows, fewer) = (better + worse, better.min(worse));
    // ln of the binomial coefficient, one factor after another.
    let mut coefficient = 0.0;
    let mut tail = 0.0;
    for k in 0..=fewer {
        if k > 0 {
            coefficient += ln((rows - k + 1) as f64) - ln(k as f64);
        }
        tail += Real::exp(coefficient - rows as f64 * std::f64::consts::LN_2);
    }
    f64::min(1.0, 2.0 * tail)
}

/// How many standard deviations `value` is from the mean of `others`, and these; none for fewer than two others.
pub(super) fn z_score(value: f64, others: &[f64]) -> Option<Spread> {
    let count = others.len() as f64;
    if count < 2.0 {
        return None;
    }
    let mean = others.iter().sum::<f64>() / count;
    let squares: f64 = others.iter().map(|other| (other - mean) * (other - mean)).sum();
    let deviation = (squares / (count - 1.0)).sqrt();
    Some(Spread { mean, deviation, z: (deviation > 0.0).then(|| (value - mean) / deviation) })
}

/// A value among others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The mean of the others.
    pub mean: f64,
    /// Their standard deviation, with one degree of freedom less than there are.
    pub deviation: f64,
    /// How many of these the value lies above the mean; none if the others are all equal.
    pub z: Option<f64>,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn golden() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/golden/eval/statistics.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    }

    #[test]
    fn intervals_are_those_of_numpy() {
        for case in golden()["bootstrap"].as_array().unwrap() {
            let rows: Vec<(f64, f64)> =
                numbers(&case["differences"]).into_iter().zip(numbers(&case["weights"])).collect();
            let found = bootstrap(&rows, case["seed"].as_u64().unwrap());
            let expected = numbers(&case["interval"]);
            let near =
                |found: f64, expected: f64| (found - expected).abs() <= 1e-12 * expected.abs().max(1.0);
            assert!(
                near(found.mean, expected[0])
                    && near(found.low.unwrap(), expected[1])
                    && near(found.high.unwrap(), expected[2]),
                "{found:?} {expected:?}"
            );
        }
    }

    #[test]
    fn tests_are_those_of_scipy() {
        let cases = golden()["mcnemar"].as_array().unwrap().clone();
        assert!(cases.len() > 90);
        for case in cases {
            let case = numbers(&case);
            let found = mcnemar(case[0] as usize, case[1] as usize);
            assert!((found - case[2]).abs() <= 1e-9 * case[2], "{case:?} {found}");
        }
    }

    #[test]
    fn few_rows_have_no_interval() {
        let found = bootstrap(&[(1.0, 2.0), (3.0, 2.0)], 7);
        assert_eq!(found, Interval { mean: 1.0, low: None, high: None });
        assert!(!found.is_above(0.0) && !found.is_below(2.0));
        assert_eq!(bootstrap(&[], 7).mean, 0.0);
    }

    #[test]
    fn equal_models_differ_by_nothing() {
        let found = bootstrap(&[(0.0, 3.0); 20], 1);
        assert_eq!((found.low, found.high), (Some(0.0), Some(0.0)));
        assert!(!found.is_above(0.0) && !found.is_below(0.0));
    }

    /// The interval of a mean holds the true one in about 95 of 100 samples.
    #[test]
    fn intervals_cover_the_mean() {
        let mut covered = 0;
        for sample in 0..400u32 {
            let uniform = |at: u32| f64::from(philox4x32([at, sample, 1, 0], [5, 6])[0]) / 2f64.powi(32);
            let rows: Vec<(f64, f64)> = (0..40).map(|at| (uniform(at), 1.0)).collect();
            let found = bootstrap(&rows, 9);
            covered += usize::from(!found.is_above(0.5) && !found.is_below(0.5));
        }
        assert!((366..=388).contains(&covered), "{covered} of 400");
    }

    #[test]
    fn a_value_among_others() {
        let found = z_score(7.0, &[1.0, 2.0, 3.0]).unwrap();
        assert_eq!(found, Spread { mean: 2.0, deviation: 1.0, z: Some(5.0) });
        assert_eq!(z_score(7.0, &[1.0]), None);
        assert_eq!(z_score(7.0, &[1.0, 1.0]).unwrap().z, None);
    }
}
