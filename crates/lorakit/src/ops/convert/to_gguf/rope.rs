//! Scaled rotary embeddings: `rope_parameters` (`rope_scaling` of older files) to GGUF keys and `rope_freqs.weight`.

use lorakit_tensor::format::gguf::{Metadata, Value};
use serde_json::Value as Json;

use crate::model::ModelConfig;
use crate::{Error, ErrorKind, Result};

/// The base of rotary frequencies where the configuration has none.
const DEFAULT_THETA: f64 = 10_000.0;

const ORIGINAL_LENGTH: &str = "original_max_position_embeddings";

/// Largest head; published models have at most 576.
const MAX_HEAD_DIM: u64 = 8192;

/// Values of `yarn` that are written if they are there.
const YARN: &[(&[&str], &str)] = &[
    (&["extrapolation_factor"], "yarn_ext_factor"),
    (&["attention_factor", "attn_factor"], "yarn_attn_factor"),
    (&["beta_fast"], "yarn_beta_fast"),
    (&["beta_slow"], "yarn_beta_slow"),
];

/// The block of the configuration that speaks of positions, if there is one.
fn parameters(config: &ModelConfig) -> &Json {
    let block = |name: &str| Some(config.get(name)).filter(|value| value.is_object());
    let parameters = block("rope_parameters").or_else(|| block("rope_scaling")).unwrap_or(&Json::Null);
    match &parameters["full_attention"] {
        full if full.is_object() => full,
        _ => parameters,
    }
}

/// `rope_type`, or `type` as older files call it.
fn kind(parameters: &Json) -> &str {
    parameters["rope_type"].as_str().or_else(|| parameters["type"].as_str()).unwrap_or("default")
}

fn theta(config: &ModelConfig) -> f64 {
    let own = parameters(config)["rope_theta"].as_f64();
    own.or_else(|| config.get("rope_theta").as_f64()).unwrap_or(DEFAULT_THETA)
}

/// Sets `{family}.rope.*`, without the number of dimensions.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a scaling that the keys cannot say; [`ErrorKind::Config`] if a number is missing.
pub(super) fn set(metadata: &mut Metadata, config: &ModelConfig, family: &str) -> Result<()> {
    let parameters = parameters(config);
    let number = |names: &[&str]| names.iter().find_map(|name| parameters[*name].as_f64());
    let missing = |name: &str| {
        let message = format!("scales positions by `{}` without `{name}`", kind(parameters));
        Error::new(ErrorKind::Config, message)
    };
    let mut set = |key: &str, value: Value| metadata.set(&format!("{family}.rope.{key}"), value);
    match kind(parameters) {
        "default" | "llama3" => {}
        scaling @ ("linear" | "yarn") => {
            let factor = number(&["factor"]).ok_or_else(|| missing("factor"))?;
            set("scaling.type", Value::String(scaling.into()));
            set("scaling.factor", Value::F32(factor as f32));
            if scaling == "yarn" {
                let original = original_length(config).ok_or_else(|| missing(ORIGINAL_LENGTH))?;
                set("scaling.original_context_length", Value::U32(original as u32));
                for (names, key) in YARN {
                    if let Some(value) = number(names) {
                        set(&format!("scaling.{key}"), Value::F32(value as f32));
                    }
                }
            }
        }
        other => {
            let other = other.escape_debug();
            let message =
                format!("scales positions by `{other}`; known are default, linear, yarn and llama3");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    }
    set("freq_base", Value::F32(theta(config) as f32));
    Ok(())
}

fn original_length(config: &ModelConfig) -> Option<f64> {
    let own = parameters(config)[ORIGINAL_LENGTH].as_f64();
    own.or_else(|| config.get(ORIGINAL_LENGTH).as_f64())
}

/// The values of `rope_freqs.weight`, the divisor of each frequency, if positions are scaled by Llama 3's rule.
///
/// Powers are computed in `f64`, all else in `f32` as the converter does.
///
/// # Errors
/// [`ErrorKind::Config`] if there is no dimension to rotate.
pub(crate) fn factors(config: &ModelConfig) -> Result<Option<Vec<f32>>> {
    let parameters = parameters(config);
    if !kind(parameters).eq_ignore_ascii_case("llama3") {
        return Ok(None);
    }
    let dimensions = head_dim(config)?;
    let number = |name: &str, default: f64| parameters[name].as_f64().unwrap_or(default) as f32;
    let factor = number("factor", 8.0);
    let (low, high) = (number("low_freq_factor", 1.0), number("high_freq_factor", 4.0));
    let original = original_length(config).unwrap_or(8192.0) as f32;
    let divisor = |i: u64| {
        let exponent = (2 * i) as f32 / dimensions as f32;
        let frequency = 1.0 / theta(config).powf(exponent.into()) as f32;
        let wavelength = std::f32::consts::TAU / frequency;
        if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Ok(Some((0..dimensions / 2).map(divisor).collect()))
}

/// Rows of a head.
///
/// # Errors
/// [`ErrorKind::Config`] if it is not there and cannot be computed.
pub(super) fn head_dim(config: &ModelConfig) -> Result<u64> {
    let computed = || config.number("hidden_size")?.checked_div(config.number("num_attention_heads")?);
    config
        .number("head_dim")
        .or_else(computed)
        .filter(|&dimensions| (1..=MAX_HEAD_DIM).contains(&dimensions))
        .ok_or_else(|| {
            let message = "lacks `head_dim`, or `hidden_size` and `num_attention_heads` that give it";
            Error::new(ErrorKind::Config, message)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> ModelConfig {
        ModelConfig { json: serde_json::from_str(text).unwrap() }
    }

    fn keys(text: &str) -> Result<Vec<(String, Value)>> {
        let mut metadata = Metadata::default();
        set(&mut metadata, &config(text), "llama")?;
        Ok(metadata.iter().map(|(key, value)| (key.to_string(), value.clone())).collect())
    }

    /// Bits of what the converter computes for Llama 3.1 8B and Llama 3.2 1B.
    #[test]
    fn factors_are_those_of_the_converter() {
        const CASES: &[(&str, &[u32])] = &[
            (
                r#"{"head_dim": 128, "rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}"#,
                &[
                    0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000,
                    0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000,
                    0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000,
                    0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000,
                    0x3f800000, 0x3f9a8ed5, 0x3fc6d64a, 0x4001af1d, 0x402c732e, 0x406bcace, 0x40a83c06,
                    0x41000000, 0x41000000, 0x41000000, 0x41000000, 0x41000000, 0x41000000, 0x41000000,
                    0x41000000, 0x41000000, 0x41000000, 0x41000000, 0x41000000, 0x41000000, 0x41000000,
                    0x41000000, 0x41000000, 0x41000000, 0x41000000, 0x41000000, 0x41000000, 0x41000000,
                    0x41000000, 0x41000000, 0x41000000, 0x41000000, 0x41000000, 0x41000000, 0x41000000,
                    0x41000000,
                ],
            ),
            (
                r#"{"head_dim": 64, "rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}"#,
                &[
                    0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000,
                    0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000, 0x3f800000,
                    0x3f800000, 0x3fd35ec2, 0x4052b46f, 0x411aaaee, 0x42000000, 0x42000000, 0x42000000,
                    0x42000000, 0x42000000, 0x42000000, 0x42000000, 0x42000000, 0x42000000, 0x42000000,
                    0x42000000, 0x42000000, 0x42000000, 0x42000000,
                ],
            ),
        ];
        for (text, expected) in CASES {
            let factors = factors(&config(text)).unwrap().unwrap();
            assert_eq!(factors.iter().map(|f| f.to_bits()).collect::<Vec<_>>(), *expected, "{text}");
        }
        assert_eq!(factors(&config(r#"{"rope_scaling": null}"#)).unwrap(), None);
        let error = factors(&config(r#"{"rope_scaling": {"type": "llama3"}}"#)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }

    #[test]
    fn scalings_have_keys() {
        let theta = |value: f32| ("llama.rope.freq_base".to_string(), Value::F32(value));
        assert_eq!(keys("{}").unwrap(), [theta(1e4)]);
        assert_eq!(keys(r#"{"rope_theta": 5e5, "rope_scaling": null}"#).unwrap(), [theta(5e5)]);
        let linear = keys(r#"{"rope_scaling": {"type": "linear", "factor": 2.5}}"#).unwrap();
        let expected = [
            ("llama.rope.scaling.type".to_string(), Value::String("linear".into())),
            ("llama.rope.scaling.factor".to_string(), Value::F32(2.5)),
            theta(1e4),
        ];
        assert_eq!(linear, expected);
        let yarn = keys(
            r#"{"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "beta_fast": 32,
                "original_max_position_embeddings": 32768}}"#,
        );
        let expected = [
            ("llama.rope.scaling.type".to_string(), Value::String("yarn".into())),
            ("llama.rope.scaling.factor".to_string(), Value::F32(4.0)),
            ("llama.rope.scaling.original_context_length".to_string(), Value::U32(32768)),
            ("llama.rope.scaling.yarn_beta_fast".to_string(), Value::F32(32.0)),
            theta(1e6),
        ];
        assert_eq!(yarn.unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        for (text, kind) in [
            (r#"{"rope_scaling": {"type": "linear"}}"#, ErrorKind::Config),
            (r#"{"rope_scaling": {"type": "yarn", "factor": 2}}"#, ErrorKind::Config),
            (r#"{"rope_scaling": {"type": "longrope", "factor": 2}}"#, ErrorKind::Unsupported),
        ] {
            assert_eq!(keys(text).unwrap_err().kind(), kind, "{text}");
        }
    }
}
