//! The shape of a model from its `config.json`, by the rules of transformers 5 and with its older keys. What changes the
//! arithmetic and is not known is refused.

mod keys;
mod ropes;

use lorakit_tensor::json;

use self::keys::Keys;
use super::mlp::Activation;
use super::problem::Problem;
use super::shape::{LayerShape, Shape};
use crate::Result;

/// No model has as many layers; a file that says so would only exhaust memory.
const MOST_LAYERS: usize = 1 << 16;

/// A family of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    SmolLm3,
    Gemma3,
}

impl Shape {
    /// The shape that the text of a `config.json` describes.
    ///
    /// # Errors
    /// `Corrupt` if a key is missing or of the wrong kind, `Unsupported` if the model is of another family or has a
    /// switch that is not computed here.
    pub fn from_config(text: &[u8]) -> Result<Self> {
        let value = json::parse(text)?;
        let keys = Keys::new(&value)?;
        match keys.text("model_type")? {
            "llama" => shape(&keys, Family::Llama),
            "mistral" => shape(&keys, Family::Mistral),
            "qwen2" => shape(&keys, Family::Qwen2),
            "qwen3" => shape(&keys, Family::Qwen3),
            "smollm3" => shape(&keys, Family::SmolLm3),
            "gemma3_text" => shape(&keys, Family::Gemma3),
            "gemma3" => shape(&keys.inside("text_config")?, Family::Gemma3),
            found => Err(Problem::Family { found: found.to_string() }.into()),
        }
    }
}

fn shape(keys: &Keys, family: Family) -> Result<Shape> {
    let gemma = family == Family::Gemma3;
    let hidden = keys.size("hidden_size")?;
    let heads = keys.size("num_attention_heads")?;
    let kv_heads = match keys.optional_size("num_key_value_heads")? {
        Some(count) => count,
        None if family == Family::Llama => heads,
        None => return Err(Problem::NoKey { key: "num_key_value_heads" }.into()),
    };
    multiple("num_attention_heads", heads, kv_heads)?;
    let head_dim = match keys.optional_size("head_dim")? {
        Some(dim) => dim,
        None if gemma || family == Family::Qwen3 => return Err(Problem::NoKey { key: "head_dim" }.into()),
        None => {
            multiple("hidden_size", hidden, heads)?;
            hidden / heads
        }
    };
    multiple("head_dim", head_dim, 2)?;
    keys.must_be_absent_or("attention_dropout", &["0", "0.0"])?;
    let scored = if gemma { keys.number("query_pre_attn_scalar")? } else { head_dim as f64 };
    if gemma {
        keys.must_be_absent_or("final_logit_softcapping", &[])?;
        keys.must_be_absent_or("attn_logit_softcapping", &[])?;
        keys.must_be_absent_or("use_bidirectional_attention", &["false"])?;
    }
    let activation = match keys.text(if gemma { "hidden_activation" } else { "hidden_act" })? {
        "silu" | "swish" => Activation::Silu,
        "gelu_pytorch_tanh" => Activation::GeluTanh,
        found => {
            let (key, known) = ("hidden_act".to_string(), "silu, gelu_pytorch_tanh");
            return Err(Problem::Unsupported { key, found: found.to_string(), known }.into());
        }
    };
    let layers = layers(keys, family)?;
    Ok(Shape {
        vocabulary: keys.size("vocab_size")?,
        hidden,
        intermediate: keys.size("intermediate_size")?,
        heads,
        kv_heads,
        head_dim,
        score_scale: 1.0 / scored.sqrt(),
        norm_epsilon: keys.number("rms_norm_eps")?,
        norm_plus_one: gemma,
        query_key_norm: gemma || family == Family::Qwen3,
        norm_after: gemma,
        embedding_scale: if gemma { (hidden as f64).sqrt() } else { 1.0 },
        activation,
        tied: keys.flag("tie_word_embeddings")?.unwrap_or(gemma || family == Family::SmolLm3),
        ropes: ropes::read(keys, family)?,
        layers,
    })
}

fn multiple(key: &'static str, found: usize, of: usize) -> Result<()> {
    if found.is_multiple_of(of) { Ok(()) } else { Err(Problem::NotAMultiple { key, found, of }.into()) }
}

fn layers(keys: &Keys, family: Family) -> Result<Vec<LayerShape>> {
    let count = keys.size("num_hidden_layers")?;
    if count > MOST_LAYERS {
        let (key, found) = ("num_hidden_layers".to_string(), count.to_string());
        return Err(Problem::Value { key, found, expected: "at most 65536" }.into());
    }
    let window = keys.optional_size("sliding_window")?;
    let windows = keys.flag("use_sliding_window")?.unwrap_or(false);
    let window = match family {
        Family::Llama => None,
        Family::Mistral | Family::Gemma3 => window,
        Family::Qwen2 | Family::Qwen3 | Family::SmolLm3 => window.filter(|_| windows),
    };
    let rotated = rotated(keys, family, count)?;
    let sliding: Vec<bool> = match keys.texts("layer_types")? {
        Some(types) => {
            same_count("layer_types", types.len(), count)?;
            types.iter().map(|name| is_sliding(name)).collect::<Result<_>>()?
        }
        None => match family {
            Family::Llama => vec![false; count],
            Family::Mistral => vec![true; count],
            Family::Qwen2 | Family::Qwen3 => {
                let full = if window.is_some() { keys.size("max_window_layers")? } else { count };
                (0..count).map(|layer| layer >= full).collect()
            }
            Family::SmolLm3 => rotated.iter().map(|rotated| !rotated).collect(),
            Family::Gemma3 => {
                let pattern = keys.optional_size("sliding_window_pattern")?.unwrap_or(6);
                (1..=count).map(|layer| layer % pattern != 0).collect()
            }
        },
    };
    if family == Family::Gemma3 && window.is_none() && sliding.contains(&true) {
        return Err(Problem::NoKey { key: "sliding_window" }.into());
    }
    let layer = |(rotated, sliding): (&bool, &bool)| LayerShape {
        // Gemma's ropes: that of full attention, then that of sliding windows.
        rope: rotated.then_some(usize::from(*sliding && family == Family::Gemma3)),
        window: window.filter(|_| *sliding),
    };
    Ok(rotated.iter().zip(&sliding).map(layer).collect())
}

/// Which layers have rotary positions.
fn rotated(keys: &Keys, family: Family, count: usize) -> Result<Vec<bool>> {
    if family != Family::SmolLm3 {
        return Ok(vec![true; count]);
    }
    if let Some(listed) = keys.sizes("no_rope_layers")? {
        // A list may be longer than the model.
        if listed.len() < count {
            return same_count("no_rope_layers", listed.len(), count).map(|()| Vec::new());
        }
        return Ok(listed[..count].iter().map(|rotated| *rotated != 0).collect());
    }
    let interval = keys.optional_size("no_rope_layer_interval")?.unwrap_or(4);
    Ok((1..=count).map(|layer| layer % interval != 0).collect())
}

fn same_count(key: &'static str, found: usize, layers: usize) -> Result<()> {
    if found == layers { Ok(()) } else { Err(Problem::Layers { key, found, layers }.into()) }
}

fn is_sliding(name: &str) -> Result<bool> {
    match name {
        "sliding_attention" => Ok(true),
        "full_attention" => Ok(false),
        found => {
            let (key, known) = ("layer_types".to_string(), "full_attention, sliding_attention");
            Err(Problem::Unsupported { key, found: found.to_string(), known }.into())
        }
    }
}

#[cfg(test)]
mod tests;
