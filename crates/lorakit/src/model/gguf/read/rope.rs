//! Scaled rotary embeddings: turns GGUF keys and the `rope_freqs` tensor into `rope_scaling`.

use std::f64::consts::PI;

use serde_json::{Map, Value, json};

use super::keys::Keys;
use crate::model::gguf::Problem;
use crate::{Error, Result};

/// The tensor that holds Llama 3's scaling of positions.
pub(in crate::model) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The wavelength threshold that makes the recovered parameters unique; every published model uses 1.
const LOW_FREQ_FACTOR: f64 = 1.0;

/// Keys without a counterpart in transformers, and the values for which they change nothing.
const WITHOUT_COUNTERPART: &[(&str, f64)] = &[
    ("rope.scale_linear", 1.0),
    ("rope.scaling.attn_factor", 1.0),
    ("rope.scaling.yarn_attn_factor", 1.0),
    ("rope.scaling.yarn_ext_factor", 1.0),
    ("rope.scaling.yarn_log_multiplier", 0.0),
];

/// `rope_scaling` of `config.json`, or `None` if positions are not scaled.
///
/// `factors` are the values of `rope_freqs.weight`: the divisor of each frequency, `head_dim / 2` of them.
///
/// # Errors
/// `Unsupported` for a scaling without a name in transformers.
pub(in crate::model) fn rope_scaling(
    keys: Keys<'_>,
    theta: f64,
    factors: Option<&[f32]>,
) -> Result<Option<Value>> {
    for &(key, neutral) in WITHOUT_COUNTERPART {
        if let Some(value) = keys.float(key)?.filter(|value| *value != neutral) {
            return Err(Problem::ScalingKey { key, value }.into());
        }
    }
    if let Some(factors) = factors {
        return llama3(theta, factors);
    }
    let kind = keys.text("rope.scaling.type")?.unwrap_or("none");
    let mut scaling = Map::new();
    match kind {
        "none" => return Ok(None),
        "linear" => {
            scaling.insert("rope_type".into(), "linear".into());
            scaling.insert("factor".into(), keys.required_float("rope.scaling.factor")?.into());
        }
        "yarn" => {
            scaling.insert("rope_type".into(), "yarn".into());
            scaling.insert("factor".into(), keys.required_float("rope.scaling.factor")?.into());
            let original = keys.required_integer("rope.scaling.original_context_length")?;
            scaling.insert("original_max_position_embeddings".into(), original.into());
            for (key, name) in
                [("rope.scaling.yarn_beta_fast", "beta_fast"), ("rope.scaling.yarn_beta_slow", "beta_slow")]
            {
                if let Some(value) = keys.float(key)? {
                    scaling.insert(name.into(), value.into());
                }
            }
        }
        other => return Err(Problem::Scaling { kind: other.escape_debug().to_string() }.into()),
    }
    Ok(Some(scaling.into()))
}

/// Recovers the parameters of Llama 3's rule from its divisors.
///
/// Between the thresholds, `1 / divisor` is linear in `1 / wavelength`. Two points give the line; the largest divisor
/// is `factor`. The rule has one parameter more than the divisors determine: all three lengths may be scaled together,
/// hence [`LOW_FREQ_FACTOR`].
fn llama3(theta: f64, divisors: &[f32]) -> Result<Option<Value>> {
    let factor = divisors.iter().copied().fold(1.0, f32::max);
    if divisors.iter().all(|&d| d == 1.0) {
        return Ok(None);
    }
    let unsupported = || Error::from(Problem::Factors).tensor(ROPE_FACTORS);
    let factor = f64::from(factor);
    let blended: Vec<(f64, f64)> = divisors
        .iter()
        .enumerate()
        .filter(|&(_, &d)| 1.0 < d && f64::from(d) < factor)
        .map(|(i, &d)| {
            let smooth = (1.0 / f64::from(d) - 1.0 / factor) / (1.0 - 1.0 / factor);
            (1.0 / wavelength(theta, i, divisors.len()), smooth)
        })
        .collect();
    if blended.len() < 2 && rises(divisors) {
        return Err(Error::from(Problem::FewFactors { between: blended.len() }).tensor(ROPE_FACTORS));
    }
    let (Some(first), Some(last)) = (blended.first(), blended.last()) else { return Err(unsupported()) };
    let slope = (first.1 - last.1) / (first.0 - last.0);
    let span = -LOW_FREQ_FACTOR / (first.1 - slope * first.0);
    let high = (1e3 * (LOW_FREQ_FACTOR + span)).round() / 1e3;
    let original = (slope * (high - LOW_FREQ_FACTOR)).round();

    let close = |i: usize, d: f32| {
        let expected = llama3_divisor(wavelength(theta, i, divisors.len()), factor, high, original);
        (expected / f64::from(d) - 1.0).abs() < 1e-4
    };
    // NaN must fail the comparisons.
    if !(original >= 1.0 && high > LOW_FREQ_FACTOR && divisors.iter().enumerate().all(|(i, &d)| close(i, d)))
    {
        return Err(unsupported());
    }
    Ok(Some(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": LOW_FREQ_FACTOR,
        "high_freq_factor": high,
        "original_max_position_embeddings": original as u64,
    })))
}

/// Whether these may be divisors of Llama 3's rule: finite, from 1 on, none below the one before it.
fn rises(divisors: &[f32]) -> bool {
    divisors.first().is_some_and(|first| *first >= 1.0)
        && divisors.is_sorted()
        && divisors.iter().all(|divisor| divisor.is_finite())
}

/// Positions per turn of frequency `i` out of `count`.
fn wavelength(theta: f64, i: usize, count: usize) -> f64 {
    2.0 * PI * theta.powf(i as f64 / count as f64)
}

fn llama3_divisor(wavelength: f64, factor: f64, high: f64, original: f64) -> f64 {
    if wavelength < original / high {
        1.0
    } else if wavelength > original / LOW_FREQ_FACTOR {
        factor
    } else {
        let smooth = (original / wavelength - LOW_FREQ_FACTOR) / (high - LOW_FREQ_FACTOR);
        1.0 / ((1.0 - smooth) / factor + smooth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divisors(theta: f64, head_dim: usize, factor: f64, high: f64, original: f64) -> Vec<f32> {
        let count = head_dim / 2;
        (0..count)
            .map(|i| llama3_divisor(wavelength(theta, i, count), factor, high, original) as f32)
            .collect()
    }

    #[test]
    fn llama3_parameters_are_recovered() {
        for (theta, head_dim, factor, original) in [
            (5e5, 128, 8.0, 8192.0),
            (5e5, 64, 32.0, 8192.0),
            (1e4, 128, 4.0, 2048.0),
            (1e6, 96, 16.0, 4096.0),
        ] {
            let scaling = llama3(theta, &divisors(theta, head_dim, factor, 4.0, original)).unwrap().unwrap();
            let expected = format!(
                r#"{{"rope_type":"llama3","factor":{factor:?},"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":{original}}}"#
            );
            assert_eq!(scaling.to_string(), expected);
        }
    }

    /// A model with few frequencies may have none between the two ends.
    #[test]
    fn too_few_frequencies_leave_the_parameters_open() {
        for (divisors, between) in [(vec![1.0, 1.0, 8.0, 8.0], 0), (vec![1.0, 3.0, 8.0], 1), (vec![8.0], 0)] {
            let error = llama3(1e4, &divisors).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "`rope_freqs.weight`: follows the llama3 rule, but has {between} values between 1 and the largest; \
                     at least 2 must be, to tell its parameters"
                )
            );
        }
        // These are no step of that rule.
        for divisors in [vec![8.0, 1.0, 1.0], vec![0.5, 8.0], vec![1.0, f32::INFINITY]] {
            let error = llama3(1e4, &divisors).unwrap_err().to_string();
            assert!(error.contains("does not follow the llama3 rule"), "{error}");
        }
    }

    #[test]
    fn ones_are_no_scaling_and_other_values_are_refused() {
        assert!(llama3(1e4, &[1.0; 8]).unwrap().is_none());
        for divisors in [
            vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            vec![f32::NAN; 8],
            vec![0.0; 8],
            vec![1.0, f32::INFINITY],
            vec![1.0, 2.0, 4.0],
            vec![],
        ] {
            let result = llama3(1e4, &divisors);
            assert!(result.as_ref().is_err() || divisors.is_empty(), "{divisors:?} {result:?}");
        }
    }
}
