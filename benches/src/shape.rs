//! Llama-3.2-1B on paper: names and shapes of its tensors, and of an adapter on all its linear layers.

use lorakit_tensor::{DType, TensorInfo};
use serde_json::{Value, json};

const HIDDEN: usize = 2048;
const INTERMEDIATE: usize = 8192;
const VOCABULARY: usize = 128_256;
const HEADS: usize = 32;
const KV_HEADS: usize = 8;
const HEAD: usize = HIDDEN / HEADS;

/// Rank of the adapter.
pub(crate) const RANK: usize = 16;
/// `lora_alpha` of the adapter: its scale is 2.
pub(crate) const ALPHA: usize = 32;

/// Linear layers of one decoder layer: block, module, `out`, `in`.
const LINEAR: [(&str, &str, usize, usize); 7] = [
    ("self_attn", "q_proj", HIDDEN, HIDDEN),
    ("self_attn", "k_proj", KV_HEADS * HEAD, HIDDEN),
    ("self_attn", "v_proj", KV_HEADS * HEAD, HIDDEN),
    ("self_attn", "o_proj", HIDDEN, HIDDEN),
    ("mlp", "gate_proj", INTERMEDIATE, HIDDEN),
    ("mlp", "up_proj", INTERMEDIATE, HIDDEN),
    ("mlp", "down_proj", HIDDEN, INTERMEDIATE),
];

/// Tensors of the base in bf16, output embedding tied; 2.47 GB with 16 layers.
pub(crate) fn base(layers: usize) -> Vec<TensorInfo> {
    let bf16 = |name: String, shape: &[usize]| TensorInfo { name, dtype: DType::BF16, shape: shape.to_vec() };
    let mut tensors = vec![bf16("model.embed_tokens.weight".into(), &[VOCABULARY, HIDDEN])];
    for layer in 0..layers {
        let name = |rest: &str| format!("model.layers.{layer}.{rest}.weight");
        for (block, module, rows, cols) in LINEAR {
            tensors.push(bf16(name(&format!("{block}.{module}")), &[rows, cols]));
        }
        tensors.push(bf16(name("input_layernorm"), &[HIDDEN]));
        tensors.push(bf16(name("post_attention_layernorm"), &[HIDDEN]));
    }
    tensors.push(bf16("model.norm.weight".into(), &[HIDDEN]));
    tensors
}

/// Tensors of the adapter in f32: `A (r, in)` and `B (out, r)` of every linear layer.
pub(crate) fn adapter(layers: usize) -> Vec<TensorInfo> {
    let mut tensors = Vec::new();
    for layer in 0..layers {
        for (block, module, rows, cols) in LINEAR {
            for (factor, shape) in [("lora_A", vec![RANK, cols]), ("lora_B", vec![rows, RANK])] {
                let name = format!("base_model.model.model.layers.{layer}.{block}.{module}.{factor}.weight");
                tensors.push(TensorInfo { name, dtype: DType::F32, shape });
            }
        }
    }
    tensors
}

/// `config.json` of the base.
pub(crate) fn base_config(layers: usize) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
    })
}

/// `adapter_config.json`.
pub(crate) fn adapter_config() -> Value {
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "meta-llama/Llama-3.2-1B",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": LINEAR.map(|(_, module, _, _)| module),
        "bias": "none",
        "fan_in_fan_out": false,
    })
}
