//! Every file of a Hugging Face model folder except its weights.

use lorakit_tensor::format::gguf::Metadata;
use lorakit_tensor::{DType, TensorSource};
use serde_json::Value;

use super::config::{config, generation_config, vocab_size};
use super::keys::Keys;
use super::rope::ROPE_FACTORS;
use crate::model::gguf::Problem;
use crate::model::tokenizer::{from_gguf::tokenizer, to_gguf::other_rows};
use crate::{Error, Result};

/// The most values of [`ROPE_FACTORS`] that are read; models have half the size of a head.
const MAX_ROPE_FACTORS: u64 = 4096;

/// Names and contents of the files for a model with this metadata and these tensors, whose weights will be of type
/// `dtype`. The only values read from `source` are those of `rope_freqs.weight`.
///
/// # Errors
/// `Unsupported` if the family, its scaling of positions or its tokenizer is unknown; `Incomplete` for a missing key;
/// `Corrupt` for contradictions.
pub(crate) fn hf_files(
    metadata: &Metadata,
    source: &dyn TensorSource,
    dtype: DType,
) -> Result<Vec<(String, Vec<u8>)>> {
    let keys = Keys::new(metadata)?;
    let tensors = source.tensors();
    let tokenizer = tokenizer(metadata, keys.required_integer("context_length")?)?;
    let rows = vocab_size(tensors)?;
    if rows != tokenizer.vocab_size {
        return Err(other_rows(rows, tokenizer.vocab_size));
    }
    let factors = rope_factors(source)?;
    let files = [
        ("config.json", config(keys, tensors, factors.as_deref(), Some(&tokenizer.ids), dtype)?),
        ("generation_config.json", generation_config(&tokenizer.ids)),
        ("tokenizer.json", tokenizer.tokenizer),
        ("tokenizer_config.json", tokenizer.config),
        ("special_tokens_map.json", tokenizer.special_tokens),
    ];
    Ok(files.into_iter().map(|(name, value)| (name.to_string(), text(&value))).collect())
}

/// `config.json` without the ids of special tokens.
///
/// # Errors
/// As [`hf_files`], except for those of the tokenizer.
pub(in crate::model) fn config_without_tokens(
    keys: Keys<'_>,
    source: &dyn TensorSource,
    dtype: DType,
) -> Result<Value> {
    config(keys, source.tensors(), rope_factors(source)?.as_deref(), None, dtype)
}

fn text(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

fn rope_factors(source: &dyn TensorSource) -> Result<Option<Vec<f32>>> {
    let Some(index) = source.find(ROPE_FACTORS) else { return Ok(None) };
    let Some(tensor) = source.tensors().get(index) else { return Ok(None) };
    let count = tensor.elements();
    let dtype = tensor.dtype;
    if dtype != DType::F32 || count > MAX_ROPE_FACTORS {
        let problem = Problem::FactorsShape { count, dtype, limit: MAX_ROPE_FACTORS };
        return Err(Error::from(problem).tensor(ROPE_FACTORS));
    }
    let bytes = source.read(index, 0..tensor.byte_len())?;
    let (values, _) = bytes.as_chunks::<4>();
    Ok(Some(values.iter().map(|&value| f32::from_le_bytes(value)).collect()))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::ops::Range;
    use std::path::Path;

    use lorakit_tensor::ErrorKind::{Corrupt, Incomplete, Unsupported};
    use lorakit_tensor::format::gguf::{Array, Value as GgufValue};
    use lorakit_tensor::{Extent, Result as TensorResult, TensorInfo};

    use super::super::tensors::{RowMap, hf_tensors};
    use super::*;
    use crate::ErrorKind::File;
    use crate::arch::by_gguf;

    struct Source(Vec<TensorInfo>, Vec<u8>);

    impl TensorSource for Source {
        fn tensors(&self) -> &[TensorInfo] {
            &self.0
        }
        fn find(&self, name: &str) -> Option<usize> {
            self.0.iter().position(|tensor| tensor.name == name)
        }
        fn read(&self, _: usize, _: Range<u64>) -> TensorResult<Cow<'_, [u8]>> {
            Ok(Cow::Borrowed(&self.1))
        }
        fn extent(&self, _: usize) -> Option<Extent<'_>> {
            None
        }
        fn path_of(&self, _: usize) -> &Path {
            Path::new("model.gguf")
        }
    }

    /// One layer, two query heads and one key head of four rows, three tokens.
    fn model(family: &str) -> (Metadata, Source) {
        let mut metadata = Metadata::default();
        metadata.set("general.architecture", GgufValue::String(family.into()));
        for (key, value) in [
            ("context_length", 64),
            ("embedding_length", 8),
            ("block_count", 1),
            ("feed_forward_length", 16),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
        ] {
            metadata.set(&format!("{family}.{key}"), GgufValue::U32(value));
        }
        metadata.set(&format!("{family}.attention.layer_norm_rms_epsilon"), GgufValue::F32(1e-5));
        metadata.set("tokenizer.ggml.model", GgufValue::String("gpt2".into()));
        metadata.set("tokenizer.ggml.pre", GgufValue::String("gpt-2".into()));
        let tokens = ["a", "b", "ab"].map(str::to_string).to_vec();
        metadata.set("tokenizer.ggml.tokens", GgufValue::Array(Array::String(tokens)));
        metadata.set("tokenizer.ggml.merges", GgufValue::Array(Array::String(vec!["a b".into()])));

        let architecture = by_gguf(family).unwrap();
        if architecture.hf_classes()[0].experts {
            for key in ["expert_count", "expert_used_count", "expert_feed_forward_length"] {
                metadata.set(&format!("{family}.{key}"), GgufValue::U32(2));
            }
        }
        let rules = architecture.tensors().iter();
        let tensors = rules.filter(|rule| rule.is_required(false)).map(|rule| {
            let name = rule.gguf_name(rule.is_layered().then_some(0));
            let rows = if name.starts_with("token_embd") {
                3
            } else if name.contains("attn_k") || name.contains("attn_v") {
                4
            } else {
                8
            };
            let shape = if rule.is_stacked() { vec![2, rows, 8] } else { vec![rows, 8] };
            TensorInfo { name, dtype: DType::F32, shape }
        });
        (metadata, Source(tensors.collect(), Vec::new()))
    }

    fn add(source: &mut Source, name: &str) {
        source.0.push(TensorInfo { name: name.into(), dtype: DType::F32, shape: vec![8] });
    }

    fn config_of(metadata: &Metadata, source: &Source) -> Value {
        let files = hf_files(metadata, source, DType::BF16).unwrap();
        serde_json::from_slice(&files[0].1).unwrap()
    }

    #[test]
    fn config_of_a_llama() {
        let (metadata, source) = model("llama");
        assert_eq!(
            config_of(&metadata, &source).to_string(),
            r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":8,"intermediate_size":16,"num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,"head_dim":4,"vocab_size":3,"max_position_embeddings":64,"rms_norm_eps":0.00001,"rope_theta":10000.0,"rope_scaling":null,"hidden_act":"silu","attention_bias":false,"mlp_bias":false,"tie_word_embeddings":true,"torch_dtype":"bfloat16","dtype":"bfloat16"}"#
        );
    }

    #[test]
    fn every_family_gives_all_files_and_uses_every_tensor() {
        for architecture in crate::arch::architectures().iter().filter(|a| a.is_reversible()) {
            let (metadata, source) = model(architecture.gguf());
            assert_eq!(hf_files(&metadata, &source, DType::F16).unwrap().len(), 5);
            let tensors = hf_tensors(architecture, &metadata, &source.0).unwrap();
            let uses = |source: usize| tensors.iter().filter(|tensor| tensor.source == source).count();
            for (index, info) in source.0.iter().enumerate() {
                assert_eq!(uses(index), if info.shape.len() == 3 { 2 } else { 1 }, "{}", info.name);
            }
            let permuted = tensors.iter().filter(|tensor| matches!(tensor.rows, RowMap::Permuted(_))).count();
            assert_eq!(permuted, if architecture.gguf() == "llama" { 2 } else { 0 });
        }
    }

    #[test]
    fn optional_tensors_show_in_the_config() {
        let (mut metadata, mut source) = model("llama");
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            add(&mut source, &format!("blk.0.{name}.bias"));
        }
        add(&mut source, "output.weight");
        metadata.set("llama.attention.sliding_window", GgufValue::U32(32));
        metadata.set("llama.rope.scaling.type", GgufValue::String("linear".into()));
        metadata.set("llama.rope.scaling.factor", GgufValue::F32(2.5));
        let config = config_of(&metadata, &source);
        assert_eq!(config["attention_bias"], true);
        assert_eq!(config["mlp_bias"], false);
        assert_eq!(config["tie_word_embeddings"], false);
        assert_eq!(config["model_type"], "mistral");
        assert_eq!(config["sliding_window"], 32);
        assert_eq!(config["rope_scaling"].to_string(), r#"{"rope_type":"linear","factor":2.5}"#);

        source.0.retain(|tensor| tensor.name != "blk.0.attn_output.bias");
        let error = hf_files(&metadata, &source, DType::BF16).unwrap_err();
        assert_eq!(error.kind(), File(Unsupported));
        assert_eq!(error.tensor_name(), Some("blk.{i}.attn_output.bias"));
    }

    #[test]
    fn rope_factors_are_read_and_not_written() {
        let (metadata, mut source) = model("llama");
        add(&mut source, "rope_freqs.weight");
        source.1 = [1f32; 8].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(config_of(&metadata, &source)["rope_scaling"], Value::Null);
        let tensors = hf_tensors(by_gguf("llama").unwrap(), &metadata, &source.0).unwrap();
        assert_eq!(tensors.len(), source.0.len() - 1);
    }

    #[test]
    fn what_is_missing_or_strange_is_named() {
        let (metadata, source) = model("llama");
        let mut without = Metadata::default();
        for (key, value) in metadata.iter().filter(|(key, _)| *key != "llama.block_count") {
            without.set(key, value.clone());
        }
        let error = hf_files(&without, &source, DType::BF16).unwrap_err();
        assert_eq!(error.kind(), File(Incomplete));
        assert_eq!(error.to_string(), "has no metadata key `llama.block_count`");

        let refusal = |change: &dyn Fn(&mut Metadata, &mut Source)| {
            let (mut metadata, mut source) = model("llama");
            change(&mut metadata, &mut source);
            let error = hf_tensors(by_gguf("llama").unwrap(), &metadata, &source.0).unwrap_err();
            (error.kind(), error.tensor_name().unwrap_or_default().to_string())
        };
        let unknown = refusal(&|_, source| add(source, "blk.0.ffn_gate_chexps.weight"));
        assert_eq!(unknown, (File(Unsupported), "blk.0.ffn_gate_chexps.weight".into()));
        let no_stack = refusal(&|_, source| add(source, "blk.0.ffn_gate_exps.weight"));
        assert_eq!(no_stack, (File(Corrupt), "blk.0.ffn_gate_exps.weight".into()));
        let beyond = refusal(&|_, source| add(source, "blk.1.attn_norm.weight"));
        assert_eq!(beyond, (File(Corrupt), "blk.1.attn_norm.weight".into()));
        let absent = refusal(&|metadata, _| metadata.set("llama.block_count", GgufValue::U32(u32::MAX)));
        assert_eq!(absent, (File(Incomplete), "blk.1.attn_norm.weight".into()));
        let heads = refusal(&|metadata, _| metadata.set("llama.attention.head_count", GgufValue::U32(3)));
        assert_eq!(heads, (File(Corrupt), "blk.0.attn_q.weight".into()));
    }
}
