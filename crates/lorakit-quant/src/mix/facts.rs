//! What the rules need to know about a model besides its tensors.

use lorakit_tensor::format::gguf::{Array, Metadata, Value};

/// Numbers from the metadata; 0 where a model has no such thing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The family, as `general.architecture` spells it.
    pub architecture: String,
    /// Layers, including those that predict further tokens.
    pub layers: u64,
    /// Attention heads of the first layer.
    pub heads: u64,
    /// Heads of keys and values in the first layer.
    pub heads_kv: u64,
    /// Experts of each layer.
    pub experts: u64,
}

impl Facts {
    /// The facts in the metadata of a GGUF model.
    pub fn read(metadata: &Metadata) -> Facts {
        let architecture = metadata.get("general.architecture").and_then(Value::as_str).unwrap_or_default();
        let number = |key: &str| metadata.get(&format!("{architecture}.{key}")).and_then(first);
        let heads = number("attention.head_count").unwrap_or(0);
        Facts {
            architecture: architecture.to_string(),
            layers: number("block_count").unwrap_or(0),
            heads,
            heads_kv: number("attention.head_count_kv").unwrap_or(heads),
            experts: number("expert_count").unwrap_or(0),
        }
    }

    /// Queries that share a head of keys and values.
    pub(super) fn group(&self) -> u64 {
        self.heads.checked_div(self.heads_kv).unwrap_or(0)
    }

    /// Whether the tool takes the model for one of 70 billion parameters.
    pub(super) fn is_70b(&self) -> bool {
        match self.architecture.as_str() {
            "llama" | "llama-embed" => self.layers == 80 && self.heads != self.heads_kv && self.experts != 8,
            "deci" | "olmo" | "qwen2" => self.layers == 80,
            "jais2" => self.layers == 68,
            _ => false,
        }
    }
}

/// An integer, or the first one if a model lists one for each layer.
fn first(value: &Value) -> Option<u64> {
    match value {
        Value::Array(Array::U32(list)) => list.first().map(|&n| n.into()),
        Value::Array(Array::I32(list)) => list.first().and_then(|&n| n.try_into().ok()),
        single => single.as_u64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_and_lists() {
        let mut metadata = Metadata::default();
        metadata.set("general.architecture", Value::String("deci".into()));
        metadata.set("deci.block_count", Value::U32(80));
        metadata.set("deci.attention.head_count", Value::Array(Array::I32(vec![64, 0])));
        let facts = Facts::read(&metadata);
        assert_eq!((facts.layers, facts.heads, facts.heads_kv, facts.experts), (80, 64, 64, 0));
        assert!(facts.is_70b());
        assert_eq!(facts.group(), 1);

        metadata.set("deci.attention.head_count_kv", Value::Array(Array::U32(vec![8])));
        assert_eq!(Facts::read(&metadata).group(), 8);
        assert_eq!(Facts::read(&Metadata::default()).group(), 0);
    }
}
