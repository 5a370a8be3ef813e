//! Rotary embeddings: the keys that describe the scaling of positions, and the tensors of factors.

use std::f32::consts::PI;

use lorakit_tensor::format::gguf::Value as GgufValue;
use serde_json::Value;

use crate::Result;
use crate::model::gguf::Problem;
use crate::model::{Params, float, missing};
use crate::plan::OutputTensor;

/// The most values in a head, each pair of which gets a factor; models have a few hundred.
const MAX_HEAD: u32 = 1 << 13;

/// The entries of `rope_parameters` (transformers 5), or `rope_scaling` and the entries next to it (before).
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct Rope<'a, 'p> {
    params: &'p Params<'a>,
    scaling: Option<&'a Value>,
}

impl<'a, 'p> Rope<'a, 'p> {
    pub(in crate::model) fn new(params: &'p Params<'a>) -> Self {
        let scaling = params.get("rope_parameters").or_else(|| params.get("rope_scaling"));
        // Families with two kinds of attention have parameters for each kind.
        let scaling = scaling
            .map(|value| if value["full_attention"].is_object() { &value["full_attention"] } else { value });
        Rope { params, scaling }
    }

    fn entry(&self, name: &str) -> Option<&'a Value> {
        self.scaling.map(|scaling| &scaling[name]).filter(|value| !value.is_null())
    }

    /// The number `name`.
    pub(in crate::model) fn float(&self, name: &str) -> Result<Option<f64>> {
        match self.entry(name) {
            Some(value) => float(name, value).map(Some),
            None => Ok(None),
        }
    }

    fn required_float(&self, name: &str) -> Result<f64> {
        self.float(name)?.ok_or_else(|| missing(&format!("rope_scaling.{name}")))
    }

    /// `default`, `linear`, `yarn`, `llama3` ...
    pub(in crate::model) fn kind(&self) -> &'a str {
        let kind = self.entry("rope_type").or_else(|| self.entry("type"));
        kind.and_then(Value::as_str).unwrap_or("default")
    }

    /// The base of the frequencies.
    pub(in crate::model) fn base(&self) -> Result<Option<f64>> {
        match self.float("rope_theta")? {
            Some(theta) => Ok(Some(theta)),
            None => self.params.float("rope_theta"),
        }
    }

    /// The base of the frequencies in layers that only see a window.
    pub(in crate::model) fn window_base(&self) -> Result<Option<f64>> {
        let own = self.params.get("rope_parameters").map(|value| &value["sliding_attention"]["rope_theta"]);
        match own.filter(|value| !value.is_null()) {
            Some(value) => float("rope_theta", value).map(Some),
            None => self.params.float("rope_local_base_freq"),
        }
    }

    /// The length of the context with which the model was trained before scaling.
    fn original_context(&self) -> Result<f64> {
        const NAME: &str = "original_max_position_embeddings";
        match self.float(NAME)? {
            Some(original) => Ok(original),
            None => self.params.required_integer(NAME).map(f64::from),
        }
    }

    /// How many values of each head are rotated.
    pub(in crate::model) fn dimensions(&self) -> Result<u32> {
        let part = match self.float("partial_rotary_factor")? {
            Some(part) => part,
            None => self.params.float("partial_rotary_factor")?.unwrap_or(1.0),
        };
        let hidden = self.params.required_integer("hidden_size")?;
        let rotated = (part * f64::from(hidden)) as u32;
        Ok(rotated.checked_div(self.params.required_integer("num_attention_heads")?).unwrap_or(0))
    }

    /// The numbers of the list `name`, one for each rotated pair of values.
    fn list(&self, name: &str) -> Result<Vec<f32>> {
        let list = self.entry(name).and_then(Value::as_array);
        let list = list.ok_or_else(|| missing(&format!("rope_scaling.{name}")))?;
        let values =
            list.iter().map(|value| float(name, value).map(|v| v as f32)).collect::<Result<Vec<_>>>()?;
        let needed = self.dimensions()? as usize / 2;
        if values.len() != needed {
            let name = name.to_string();
            let count = values.len();
            return Err(Problem::FactorCount { name, count, needed }.into());
        }
        Ok(values)
    }

    /// The divisors of Llama 3's rule.
    fn llama3(&self) -> Result<Vec<f32>> {
        let head = match self.params.integer("head_dim")? {
            Some(head) => head,
            None => self.params.integer("hidden_size/num_attention_heads")?.unwrap_or(0),
        };
        if head > MAX_HEAD {
            return Err(Problem::LargeHeads { values: head, limit: MAX_HEAD }.into());
        }
        let number = |name: &str, otherwise: f64| self.float(name).map(|n| n.unwrap_or(otherwise) as f32);
        Ok(llama3(
            self.base()?.unwrap_or(10_000.0),
            head,
            number("factor", 8.0)?,
            number("low_freq_factor", 1.0)?,
            number("high_freq_factor", 4.0)?,
            number("original_max_position_embeddings", 8192.0)?,
        ))
    }

    /// `rope.scaling.*`.
    ///
    /// # Errors
    /// `Unsupported` for a scaling that GGUF has no keys for.
    pub(in crate::model) fn keys(&self) -> Result<Vec<(&'static str, GgufValue)>> {
        let mut keys = Vec::new();
        let kind = self.kind();
        match kind {
            "linear" | "yarn" => {
                keys.push(("rope.scaling.type", GgufValue::String(kind.into())));
                keys.push(("rope.scaling.factor", GgufValue::F32(self.required_float("factor")? as f32)));
            }
            "longrope" | "su" => keys.push(("rope.scaling.type", GgufValue::String("longrope".into()))),
            // llama3's scaling is in a tensor; dynamic scaling begins beyond the trained context.
            "default" | "llama3" | "dynamic" => {}
            other => return Err(Problem::ScalingRule { rule: other.escape_debug().to_string() }.into()),
        }
        if kind == "yarn" {
            let original = self.original_context()? as u32;
            keys.push(("rope.scaling.original_context_length", GgufValue::U32(original)));
            for (key, names) in [
                ("rope.scaling.yarn_ext_factor", &["extrapolation_factor"][..]),
                ("rope.scaling.yarn_attn_factor", &["attention_factor", "attn_factor"]),
                ("rope.scaling.yarn_beta_fast", &["beta_fast"]),
                ("rope.scaling.yarn_beta_slow", &["beta_slow"]),
            ] {
                if let Some(name) = names.iter().find(|name| self.entry(name).is_some()) {
                    keys.push((key, GgufValue::F32(self.required_float(name)? as f32)));
                }
            }
        }
        Ok(keys)
    }
}

/// The tensors of factors that follow from the configuration.
///
/// # Errors
/// `Unsupported` if the family has no tensor for the factors it needs.
pub(in crate::model) fn factors(params: &Params<'_>) -> Result<Vec<OutputTensor>> {
    let rope = Rope::new(params);
    let tensors = match rope.kind() {
        "llama3" => vec![("rope_freqs.weight", rope.llama3()?)],
        "longrope" | "su" => {
            vec![
                ("rope_factors_long.weight", rope.list("long_factor")?),
                ("rope_factors_short.weight", rope.list("short_factor")?),
            ]
        }
        _ => Vec::new(),
    };
    let tensor = |(name, values): (&str, Vec<f32>)| {
        if params.architecture.match_gguf(name).is_none() {
            let rule = rope.kind().escape_debug().to_string();
            let family = params.architecture.gguf();
            return Err(Problem::ScalingOfFamily { rule, family }.into());
        }
        Ok(OutputTensor::of_values(name, &values))
    };
    tensors.into_iter().map(tensor).collect()
}

/// The keys that come before all others: those that go with tensors of factors.
pub(in crate::model) fn early_keys(params: &Params<'_>) -> Result<Vec<(&'static str, GgufValue)>> {
    let rope = Rope::new(params);
    if !["longrope", "su"].contains(&rope.kind()) {
        return Ok(Vec::new());
    }
    let context = f64::from(params.required_integer("max_position_embeddings")?);
    let original = rope.original_context()?;
    // Longer contexts spread attention; Phi 3 sharpens it by this factor.
    let factor = match context / original {
        scale if scale > 1.0 => (1.0 + scale.ln() / original.ln()).sqrt(),
        _ => 1.0,
    };
    Ok(vec![("rope.scaling.attn_factor", GgufValue::F32(factor as f32))])
}

/// The divisor of each frequency, computed in f32 like the reference: 1 for short waves, `factor` for long ones, and
/// a smooth transition in between.
fn llama3(base: f64, head: u32, factor: f32, low: f32, high: f32, original: f32) -> Vec<f32> {
    let divisor = |i: u32| {
        // A power in f64, rounded once: the same on every machine.
        let frequency = 1.0 / base.powf(f64::from((2 * i) as f32 / head as f32)) as f32;
        let wavelength = 2.0 * PI / frequency;
        if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..head / 2).map(divisor).collect()
}
