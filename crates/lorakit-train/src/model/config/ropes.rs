//! Rotary positions: `rope_parameters`, or `rope_theta` and `rope_scaling` of older files.

use super::Family;
use super::keys::Keys;
use crate::Result;
use crate::model::math::ln;
use crate::model::problem::Problem;
use crate::model::rope::{Rope, Scaling};

/// The ropes of a model. Gemma 3 has two: of full attention, then of sliding windows.
pub(super) fn read(keys: &Keys, family: Family) -> Result<Vec<Rope>> {
    let parameters = keys.optional_inside("rope_parameters")?;
    let scaling = match parameters {
        Some(parameters) => Some(parameters),
        None => keys.optional_inside("rope_scaling")?,
    };
    if family != Family::Gemma3 {
        let theta = if family == Family::SmolLm3 { 2e6 } else { 1e4 };
        return Ok(vec![rope(keys, scaling, "rope_theta", theta)?]);
    }
    let (full, sliding) = match parameters {
        Some(parameters) => {
            (parameters.optional_inside("full_attention")?, parameters.optional_inside("sliding_attention")?)
        }
        None => (scaling, None),
    };
    Ok(vec![rope(keys, full, "rope_theta", 1e6)?, rope(keys, sliding, "rope_local_base_freq", 1e4)?])
}

/// `theta_key` is where older files have theta.
fn rope(keys: &Keys, parameters: Option<Keys>, theta_key: &str, theta: f64) -> Result<Rope> {
    let older = keys.optional_number(theta_key)?;
    let Some(found) = parameters else {
        return Ok(Rope { theta: older.unwrap_or(theta), scaling: Scaling::None });
    };
    let theta = found.optional_number("rope_theta")?.or(older).unwrap_or(theta);
    for keys in [keys, &found] {
        keys.must_be_absent_or("partial_rotary_factor", &["1.0", "1"])?;
    }
    let kind = match found.optional_text("rope_type")? {
        Some(kind) => kind,
        None => found.optional_text("type")?.unwrap_or("default"),
    };
    let scaling = match kind {
        "default" => Scaling::None,
        "linear" => Scaling::Linear { factor: found.number("factor")? },
        "dynamic" => Scaling::Dynamic {
            factor: found.number("factor")?,
            longest: keys.size("max_position_embeddings")?,
        },
        "llama3" => Scaling::Llama3 {
            factor: found.number("factor")?,
            low: found.number("low_freq_factor")?,
            high: found.number("high_freq_factor")?,
            original: original(keys, &found)?,
        },
        "yarn" => yarn(keys, &found)?,
        other => {
            let (key, known) = ("rope_type".to_string(), "default, linear, dynamic, llama3, yarn");
            return Err(Problem::Unsupported { key, found: other.to_string(), known }.into());
        }
    };
    Ok(Rope { theta, scaling })
}

fn original(keys: &Keys, found: &Keys) -> Result<f64> {
    const KEY: &str = "original_max_position_embeddings";
    match (found.optional_number(KEY)?, keys.optional_number(KEY)?) {
        (Some(original), _) | (None, Some(original)) => Ok(original),
        (None, None) => keys.number("max_position_embeddings"),
    }
}

fn yarn(keys: &Keys, found: &Keys) -> Result<Scaling> {
    let original = original(keys, found)?;
    let factor = match found.optional_number("factor")? {
        Some(factor) => factor,
        None => keys.number("max_position_embeddings")? / original,
    };
    let scale = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * ln(factor) + 1.0 };
    let scales = (found.optional_number("mscale")?, found.optional_number("mscale_all_dim")?);
    let attention_factor = match (found.optional_number("attention_factor")?, scales) {
        (Some(given), _) => given,
        (None, (Some(one), Some(all))) => scale(one) / scale(all),
        (None, _) => scale(1.0),
    };
    let beta = |key, default| found.optional_number(key).map(|beta| beta.unwrap_or(default));
    Ok(Scaling::Yarn {
        factor,
        betas: (beta("beta_fast", 32.0)?, beta("beta_slow", 1.0)?),
        original,
        truncate: found.flag("truncate")?.unwrap_or(true),
        attention_factor,
    })
}
