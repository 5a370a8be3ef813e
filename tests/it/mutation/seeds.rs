//! The inputs to spoil: the smallest of every format, most of them made by the command itself.

use std::fs;
use std::path::{Path, PathBuf};

use lorakit_tensor::DType;
use lorakit_tensor::TensorInfo;
use lorakit_tensor::format::gguf::{self, Array, Metadata, Value};
use safetensors::tensor::Dtype;
use serde_json::json;

use super::check::{Snapshot, snapshot};
use super::tree;
use crate::support::{Sandbox, fixtures, peft};
use crate::weights::{Tensor, Weights, edit_file, noise, write_file};

/// How each seed is made from those before it: `lorakit LINE -o NAME`.
const MADE: &[(&str, &str)] = &[
    ("adapter", "extract base tuned --rank 2"),
    ("second", "extract base tuned --rank 1"),
    ("merged", "merge base adapter"),
    ("sharded", "merge base adapter --max-shard-size 30KB"),
    ("model.gguf", "convert base --to gguf"),
    ("q8_0.gguf", "quantize base --type Q8_0"),
    ("moe.gguf", "convert moe --to gguf"),
    ("adapter.gguf", "convert adapter --to gguf --base base"),
    ("mlx", "convert adapter --to mlx --base base"),
    ("diffusers", "convert kohya.safetensors --to diffusers"),
    ("torchtune", "convert adapter --to torchtune --base base"),
    ("nf4", "quantize base --type nf4 --double-quant"),
    ("fp4", "quantize base --type fp4"),
    ("int8", "quantize base --type int8"),
    ("fp8", "quantize base --type fp8"),
    ("fp8-channel", "quantize base --type fp8-channel"),
    ("mxfp8", "quantize base --type mxfp8"),
    ("mxfp4", "quantize oss --type mxfp4"),
];

/// A policy that the adapters keep.
const POLICY: &str = "formats = ['peft', 'mlx']\nmax-size = '1MB'\nrank = { min = 1, max = 64 }\n[findings]\n\
                      forbid = ['warning']\nallow = ['no-base-model', 'local-path']\n";

/// A configuration of axolotl.
const AXOLOTL: &str = "base_model: orders\nadapter: qlora\nload_in_4bit: true\nlora_r: 8\nlora_alpha: 16\n\
                       lora_target_linear: true\ndatasets:\n  - path: ./rows.jsonl\n    type: chat_template\n\
                       learning_rate: 2e-4\nmicro_batch_size: 2\nnum_epochs: 1\noutput_dir: out\n";

/// The folder of the seeds.
pub(super) struct Seeds {
    sandbox: Sandbox,
    /// A file of each kind.
    pub(super) files: Vec<PathBuf>,
    before: Snapshot,
}

impl Seeds {
    pub(super) fn new() -> Self {
        let sandbox = Sandbox::new();
        let convert = fixtures().join("golden/convert");
        let base = sandbox.copy(&convert.join("llama2"), "base");
        sandbox.copy(&convert.join("qwen3moe"), "moe");
        sandbox.copy(&convert.join("gemma2"), "gemma");
        sandbox.copy(&peft("adapters-bin/attn-r4"), "bin");
        sandbox.copy(&peft("bases/llama-bf16"), "bin-base");
        tuned(&base, &sandbox.path("tuned"));
        oss(&sandbox.path("oss"));
        kohya(&sandbox.path("kohya.safetensors"));
        for (name, line) in MADE {
            sandbox.run(&format!("{line} -o {name}"), &[]).ok();
        }
        fs::write(sandbox.path("policy.toml"), POLICY).unwrap();
        orders(&sandbox);
        importance(&sandbox, "imatrix.dat", "imatrix.gguf");
        let mut files = Vec::new();
        for name in crate::support::entries(sandbox.root()) {
            files.extend(
                tree::files(&sandbox.path(&name))
                    .into_iter()
                    .filter(|f| fs::metadata(f).unwrap().len() < 200_000),
            );
        }
        let before = snapshot(sandbox.root());
        Seeds { sandbox, files, before }
    }

    /// Whether no command has changed its inputs.
    pub(super) fn are_as_they_were(&self) -> bool {
        snapshot(self.sandbox.root()) == self.before
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.sandbox.path(name)
    }
}

/// A model that answers, an adapter for it, rows, items, and a configuration of another trainer.
fn orders(sandbox: &Sandbox) {
    sandbox.copy(&fixtures().join("tiny-orders"), "orders");
    sandbox.copy(&fixtures().join("tiny-json-lora"), "orders-lora");
    let rows = fs::read_to_string(fixtures().join("tiny-json/heldout.jsonl")).unwrap();
    let some: Vec<&str> = rows.lines().take(4).collect();
    fs::write(sandbox.path("rows.jsonl"), some.join("\n")).unwrap();
    let items = "{\"prompt\": \"a\", \"checks\": {\"max_len\": 9}, \"must\": true}\n";
    fs::write(sandbox.path("items.jsonl"), items).unwrap();
    fs::write(sandbox.path("axolotl.yml"), AXOLOTL).unwrap();
}

/// The base with a change of low rank in some of its matrices.
fn tuned(base: &Path, folder: &Path) {
    crate::support::copy_folder(base, folder);
    edit_file(&folder.join("model.safetensors"), |weights| {
        for (seed, (name, tensor)) in (1..).zip(weights.iter_mut()) {
            if !name.ends_with("proj.weight") {
                continue;
            }
            let [rows, cols] = tensor.shape[..] else { continue };
            let (b, a) = (noise(seed, rows, 0.5), noise(seed + 100, cols, 0.5));
            let old = tensor.values();
            let new: Vec<f64> = (0..rows * cols).map(|i| old[i] + b[i / cols] * a[i % cols]).collect();
            *tensor = Tensor::new(tensor.dtype, &tensor.shape, &new);
        }
    });
}

/// A model with experts like those of gpt-oss.
fn oss(folder: &Path) {
    let module = "model.layers.0.mlp.experts";
    let tensor =
        |shape: &[usize], seed| Tensor::new(Dtype::BF16, shape, &noise(seed, shape.iter().product(), 0.5));
    let weights: Weights = [
        (format!("{module}.gate_up_proj"), tensor(&[2, 32, 64], 1)),
        (format!("{module}.gate_up_proj_bias"), tensor(&[2, 64], 2)),
        (format!("{module}.down_proj"), tensor(&[2, 32, 32], 3)),
        (format!("{module}.down_proj_bias"), tensor(&[2, 32], 4)),
        ("model.layers.0.mlp.router.weight".into(), tensor(&[2, 32], 5)),
        ("model.layers.0.self_attn.q_proj.weight".into(), tensor(&[32, 32], 6)),
    ]
    .into();
    fs::create_dir(folder).unwrap();
    write_file(&folder.join("model.safetensors"), &weights);
    let config =
        json!({ "model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "torch_dtype": "bfloat16" });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

/// An adapter of Stable Diffusion.
fn kohya(path: &Path) {
    let mut weights = Weights::new();
    for (seed, module) in (1..).zip([
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
        "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_0_proj",
        "lora_te_text_model_encoder_layers_2_mlp_fc1",
    ]) {
        let tensor =
            |shape: &[usize], seed| Tensor::new(Dtype::F16, shape, &noise(seed, shape.iter().product(), 0.5));
        weights.insert(format!("{module}.lora_down.weight"), tensor(&[2, 8], seed));
        weights.insert(format!("{module}.lora_up.weight"), tensor(&[8, 2], seed + 10));
        weights.insert(format!("{module}.alpha"), Tensor::new(Dtype::F32, &[], &[1.0]));
    }
    write_file(path, &weights);
}

/// An importance matrix of the base in both formats.
fn importance(sandbox: &Sandbox, legacy: &str, current: &str) {
    let columns = 32usize;
    let names = ["attn_q", "attn_k", "ffn_up"].map(|name| format!("blk.0.{name}.weight"));
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as i32).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    let sums: Vec<u8> = (0..columns).flat_map(|i| ((i + 1) as f32).to_le_bytes()).collect();
    let mut bytes = (names.len() as i32).to_le_bytes().to_vec();
    for name in &names {
        text(&mut bytes, name);
        bytes.extend(4i32.to_le_bytes());
        bytes.extend((columns as i32).to_le_bytes());
        bytes.extend(&sums);
    }
    bytes.extend(7i32.to_le_bytes());
    text(&mut bytes, "formula");
    fs::write(sandbox.path(legacy), bytes).unwrap();

    let mut metadata = Metadata::default();
    metadata.set("general.type", Value::String("imatrix".into()));
    metadata.set("imatrix.datasets", Value::Array(Array::String(vec!["formula".into()])));
    metadata.set("imatrix.chunk_count", Value::U32(7));
    metadata.set("imatrix.chunk_size", Value::U32(512));
    let info = |name: String, shape: &[usize]| TensorInfo { name, dtype: DType::F32, shape: shape.to_vec() };
    let infos: Vec<TensorInfo> = names
        .iter()
        .flat_map(|name| {
            [info(format!("{name}.in_sum2"), &[1, columns]), info(format!("{name}.counts"), &[1, 1])]
        })
        .collect();
    let layout = gguf::layout(&metadata, &infos).unwrap();
    let mut file = layout.header;
    file.resize(layout.len as usize, 0);
    for (offset, info) in layout.offsets.iter().zip(&infos) {
        let values = if info.name.ends_with("counts") { 4f32.to_le_bytes().to_vec() } else { sums.clone() };
        file[*offset as usize..][..values.len()].copy_from_slice(&values);
    }
    fs::write(sandbox.path(current), file).unwrap();
}
