//! Models and adapters of any number of small tensors.

use std::fs;
use std::io;
use std::path::Path;

use lorakit_tensor::{DType, TensorInfo};
use serde_json::{Value, json};

use super::cases::Case;
use crate::generate;

/// Rows and columns of every matrix: whole blocks of Q8_0.
const WIDTH: usize = 32;
const RANK: usize = 4;
/// Tokens of the vocabulary in `fixtures/tiny-orders`.
const VOCABULARY: usize = 512;
const LINEAR: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];
const NORMS: [&str; 2] = ["input_layernorm", "post_attention_layernorm"];
const EXPERTS: usize = 128;
const OF_EXPERT: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

/// Writes the models and adapters that `cases` read into `folder`.
pub(super) fn generate(folder: &Path, tensors: usize, modules: usize, cases: &[&Case]) -> io::Result<()> {
    let needed = |name: &str| cases.iter().any(|case| case.reads(name));
    let write = |name: &str, config: Value, tensors: Vec<TensorInfo>, seed: u64| {
        let (json, file) = match config.get("peft_type") {
            Some(_) => ("adapter_config.json", "adapter_model.safetensors"),
            None => ("config.json", "model.safetensors"),
        };
        if needed(name) {
            generate::model(&folder.join(name), (json, config), file, tensors, seed)
        } else {
            Ok(())
        }
    };
    let layers = (tensors / (LINEAR.len() + NORMS.len())).max(1);
    let moe_layers = (tensors / (EXPERTS * OF_EXPERT.len() + 9)).max(1);
    write("base", llama(layers), dense(layers), 0)?;
    write("experts", qwen3_moe(moe_layers), mixture(moe_layers, false), 0)?;
    write("stacked", qwen3_moe(moe_layers), mixture(moe_layers, true), 0)?;
    let adapted = (modules / LINEAR.len()).clamp(1, layers);
    let paths = (0..adapted).flat_map(|l| LINEAR.map(|module| format!("model.layers.{l}.{module}")));
    let paths: Vec<String> = paths.collect();
    let targets = LINEAR.map(|module| module.rsplit('.').next().unwrap_or(module));
    write("adapter", lora(&targets), factors(&paths), 1)?;
    write("other", lora(&targets), factors(&paths), 2)?;
    let blocks = paths.iter().map(|path| format!("unet.{path}"));
    let mut config = lora(&targets);
    config["task_type"] = Value::Null;
    write("pipeline", config, factors(&blocks.collect::<Vec<_>>()), 1)?;
    let adapted = (modules / (EXPERTS * OF_EXPERT.len())).clamp(1, moe_layers);
    let expert =
        |l: usize, e: usize| OF_EXPERT.map(|leaf| format!("model.layers.{l}.mlp.experts.{e}.{leaf}"));
    let paths = (0..adapted).flat_map(|l| (0..EXPERTS).flat_map(move |e| expert(l, e)));
    write("of-experts", lora(&OF_EXPERT), factors(&paths.collect::<Vec<_>>()), 1)?;
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tiny-orders");
    for name in ["base", "experts", "stacked"].into_iter().filter(|name| needed(name)) {
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            fs::copy(fixture.join(file), folder.join(name).join(file))?;
        }
    }
    Ok(())
}

fn tensor(name: String, shape: &[usize]) -> TensorInfo {
    TensorInfo { name, dtype: DType::BF16, shape: shape.to_vec() }
}

/// The tensors that every model has outside its layers.
fn ends() -> [TensorInfo; 2] {
    [
        tensor("model.embed_tokens.weight".into(), &[VOCABULARY, WIDTH]),
        tensor("model.norm.weight".into(), &[WIDTH]),
    ]
}

fn dense(layers: usize) -> Vec<TensorInfo> {
    let of_layer = |layer: usize| {
        let linear = LINEAR.map(|module| (module, vec![WIDTH, WIDTH]));
        let norms = NORMS.map(|norm| (norm, vec![WIDTH]));
        let name = move |module: &str| format!("model.layers.{layer}.{module}.weight");
        linear.into_iter().chain(norms).map(move |(module, shape)| tensor(name(module), &shape))
    };
    ends().into_iter().chain((0..layers).flat_map(of_layer)).collect()
}

/// Qwen 3 with experts: a tensor for each expert, or stacked as in transformers 5.
fn mixture(layers: usize, stacked: bool) -> Vec<TensorInfo> {
    let mut tensors = Vec::from(ends());
    for layer in 0..layers {
        let mut add = |module: &str, shape: &[usize]| {
            tensors.push(tensor(format!("model.layers.{layer}.{module}"), shape));
        };
        for module in &LINEAR[..4] {
            add(&format!("{module}.weight"), &[WIDTH, WIDTH]);
        }
        for norm in NORMS.into_iter().chain(["self_attn.q_norm", "self_attn.k_norm"]) {
            add(&format!("{norm}.weight"), &[WIDTH]);
        }
        add("mlp.gate.weight", &[EXPERTS, WIDTH]);
        if stacked {
            add("mlp.experts.gate_up_proj", &[EXPERTS, 2 * WIDTH, WIDTH]);
            add("mlp.experts.down_proj", &[EXPERTS, WIDTH, WIDTH]);
            continue;
        }
        for expert in 0..EXPERTS {
            for leaf in OF_EXPERT {
                add(&format!("mlp.experts.{expert}.{leaf}.weight"), &[WIDTH, WIDTH]);
            }
        }
    }
    tensors
}

fn factors(paths: &[String]) -> Vec<TensorInfo> {
    let of_module = |path: &String| {
        let name = |factor: &str| format!("base_model.model.{path}.{factor}.weight");
        [tensor(name("lora_A"), &[RANK, WIDTH]), tensor(name("lora_B"), &[WIDTH, RANK])]
    };
    paths.iter().flat_map(of_module).collect()
}

fn llama(layers: usize) -> Value {
    let mut config = common(layers);
    config["architectures"] = json!(["LlamaForCausalLM"]);
    config["model_type"] = "llama".into();
    config
}

fn qwen3_moe(layers: usize) -> Value {
    let mut config = common(layers);
    config["architectures"] = json!(["Qwen3MoeForCausalLM"]);
    config["model_type"] = "qwen3_moe".into();
    config["num_experts"] = EXPERTS.into();
    config["num_experts_per_tok"] = 8.into();
    config["moe_intermediate_size"] = WIDTH.into();
    config
}

fn common(layers: usize) -> Value {
    json!({
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": WIDTH,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
    })
}

fn lora(targets: &[&str]) -> Value {
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": targets,
        "bias": "none",
        "fan_in_fan_out": false,
    })
}
