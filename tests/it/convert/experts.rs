//! Experts: those packed by transformers 5, `mlp.experts.gate_up_proj` and `mlp.experts.down_proj`, as GGUF stacks;
//! and stacks taken apart.

use std::fs;

use insta::assert_snapshot;
use lorakit_tensor::{Checkpoint, Reader, TensorInfo, TensorSource};
use safetensors::tensor::Dtype;
use serde_json::json;

use crate::support::{Sandbox, fixtures, read_json};
use crate::weights::{Tensor, Weights, edit_file, noise, read_folder, write_file};

const EXPERTS: usize = 4;

/// Where the experts of a family are, and the names of its gate, up and down projections.
struct Spelling {
    family: &'static str,
    module: &'static str,
    names: [&'static str; 3],
}

const QWEN: Spelling =
    Spelling { family: "qwen3moe", module: "mlp", names: ["gate_proj", "up_proj", "down_proj"] };
const MIXTRAL: Spelling =
    Spelling { family: "mixtral", module: "block_sparse_moe", names: ["w1", "w3", "w2"] };

/// A sandbox with a model in `separate/FAMILY`, and the same with packed experts in `packed/FAMILY`.
fn sandbox(spelling: &Spelling) -> Sandbox {
    let sandbox = Sandbox::new();
    let family = spelling.family;
    for folder in ["separate", "packed"] {
        sandbox.copy(&fixtures().join("golden/convert").join(family), &format!("{folder}/{family}"));
    }
    edit_file(&sandbox.path(&format!("packed/{family}/model.safetensors")), |weights| {
        pack(weights, spelling)
    });
    sandbox
}

/// Packs the experts of both layers.
fn pack(weights: &mut Weights, Spelling { module, names: [gate, up, down], .. }: &Spelling) {
    for layer in 0..2 {
        let of_layer = |name: &str| format!("model.layers.{layer}.{name}");
        let mut pack = |packed: &str, parts: &[&str]| {
            let mut bytes = Vec::new();
            let mut shape = vec![EXPERTS, 0, 0];
            for expert in 0..EXPERTS {
                shape[1] = 0;
                for part in parts {
                    let name = of_layer(&format!("{module}.experts.{expert}.{part}.weight"));
                    let tensor = weights.remove(&name).unwrap();
                    bytes.extend(tensor.bytes);
                    (shape[1], shape[2]) = (shape[1] + tensor.shape[0], tensor.shape[1]);
                }
            }
            let tensor = Tensor { dtype: Dtype::BF16, shape, bytes };
            weights.insert(of_layer(&format!("mlp.experts.{packed}")), tensor);
        };
        pack("gate_up_proj", &[gate, up]);
        pack("down_proj", &[down]);
        let router = weights.remove(&of_layer(&format!("{module}.gate.weight"))).unwrap();
        weights.insert(of_layer("mlp.gate.weight"), router);
    }
}

/// The golden file is what llama.cpp's converter made of the separate experts.
#[test]
fn the_file_is_that_of_separate_experts() {
    for spelling in [QWEN, MIXTRAL] {
        let (sandbox, family) = (sandbox(&spelling), spelling.family);
        sandbox.run(&format!("convert packed/{family} -o model.gguf --to gguf"), &[]).ok();
        let golden = fs::read(fixtures().join(format!("golden/convert/{family}.bf16.gguf"))).unwrap();
        assert!(fs::read(sandbox.path("model.gguf")).unwrap() == golden, "{family}");
        for folder in ["separate", "packed"] {
            let line = format!("quantize {folder}/{family} -o {folder}.gguf --type Q8_0");
            sandbox.run(&line, &[]).ok();
        }
        let bytes = |name: &str| fs::read(sandbox.path(name)).unwrap();
        assert!(bytes("separate.gguf") == bytes("packed.gguf"), "{family} as Q8_0");
    }
}

/// Deltas of gate and up, which are rows of one factor, go to two stacks.
#[test]
fn edits_move_along() {
    let sandbox = sandbox(&QWEN);
    let tensor =
        |shape: [usize; 2], seed| Tensor::new(Dtype::F32, &shape, &noise(seed, shape[0] * shape[1], 0.5));
    let mut factors = Weights::new();
    let module = "base_model.model.model.layers.1.mlp.experts";
    // Hidden and inner size are both 32; the rank is 3.
    for (name, shape) in [
        ("base_layer.lora_A", [3 * EXPERTS, 32]),
        ("base_layer.lora_B", [64, 3 * EXPERTS]),
        ("lora_A", [3 * EXPERTS, 32]),
        ("lora_B", [32, 3 * EXPERTS]),
    ] {
        factors.insert(format!("{module}.{name}.weight"), tensor(shape, shape[0] as u64 + name.len() as u64));
    }
    let config = json!({
        "peft_type": "LORA", "peft_version": "0.21.2", "r": 3, "lora_alpha": 6,
        "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    });
    fs::create_dir(sandbox.path("adapter")).unwrap();
    write_file(&sandbox.path("adapter/adapter_model.safetensors"), &factors);
    fs::write(sandbox.path("adapter/adapter_config.json"), config.to_string()).unwrap();
    let merged = |base: &str, out: &str, options: &str| {
        let line = format!("merge {base} adapter -o {out}.gguf {options}");
        sandbox.run(&line, &[]).ok();
        tensors_of(&sandbox, &format!("{out}.gguf"))
    };
    let plain = merged("separate/qwen3moe", "plain", "");
    assert!(plain == merged("packed/qwen3moe", "packed", ""));
    assert!(
        merged("separate/qwen3moe", "plain-q4", "--quantize Q4_0")
            == merged("packed/qwen3moe", "packed-q4", "--quantize Q4_0")
    );
    sandbox.run("convert separate/qwen3moe -o base.gguf --to gguf", &[]).ok();
    assert!(plain == merged("base.gguf", "from-gguf", ""));
    let base = Checkpoint::open(&sandbox.path("base.gguf"), &Reader::default()).unwrap();
    for (info, bytes) in plain {
        let before = base.read(base.find(&info.name).unwrap(), 0..info.byte_len()).unwrap();
        let edited = info.name.starts_with("blk.1.") && info.name.contains("_exps.");
        assert_eq!(*before != bytes, edited, "{}", info.name);
    }
}

/// From a folder to GGUF and back; also with blocks, which are decoded expert by expert.
#[test]
fn stacks_are_taken_apart() {
    for Spelling { family, module, names } in [QWEN, MIXTRAL] {
        let sandbox = Sandbox::new();
        sandbox.copy(&fixtures().join("golden/convert").join(family), family);
        sandbox.run(&format!("convert {family} -o model.gguf --to gguf"), &[]).ok();
        sandbox.run("convert model.gguf -o out --to hf", &[]).ok();
        sandbox.run("convert model.gguf -o positioned --to hf --no-mmap", &[]).ok();
        let original = read_folder(&sandbox.path(family));
        assert!(read_folder(&sandbox.path("out")) == original, "{family}");
        assert!(read_folder(&sandbox.path("positioned")) == original, "{family}");
        let (before, after) = (
            read_json(&sandbox.path(family).join("config.json")),
            read_json(&sandbox.path("out/config.json")),
        );
        let experts = if family == "mixtral" { "num_local_experts" } else { "num_experts" };
        assert_eq!(after[experts], before["num_local_experts"]);
        for key in ["architectures", "model_type", "num_experts_per_tok", "intermediate_size", "head_dim"] {
            assert!(before[key].is_null() || after[key] == before[key], "{family}: {key} is {}", after[key]);
        }
        // The folder says the same as the one it was made from.
        sandbox.run("convert out -o again.gguf --to gguf", &[]).ok();
        let tensors = |name: &str| tensors_of(&sandbox, name);
        assert!(tensors("again.gguf") == tensors("model.gguf"), "{family}");

        sandbox.run("quantize model.gguf -o q8.gguf --type Q8_0", &[]).ok();
        sandbox.run("convert q8.gguf -o q8 --to hf --dtype f32", &[]).ok();
        let decoded = read_folder(&sandbox.path("q8"));
        for name in names {
            let name = format!("model.layers.1.{module}.experts.3.{name}.weight");
            let near = decoded[&name].values().into_iter().zip(original[&name].values());
            let largest = original[&name].values().into_iter().fold(0f64, |a, v| a.max(v.abs()));
            assert!(near.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) < largest / 200.0, "{name}");
        }
    }
}

/// Every tensor of a GGUF file, in file order.
fn tensors_of(sandbox: &Sandbox, name: &str) -> Vec<(TensorInfo, Vec<u8>)> {
    let file = Checkpoint::open(&sandbox.path(name), &Reader::default()).unwrap();
    let bytes = |index, info: &TensorInfo| file.read(index, 0..info.byte_len()).unwrap().into_owned();
    file.tensors().iter().enumerate().map(|(index, info)| (info.clone(), bytes(index, info))).collect()
}

#[test]
fn shapes_that_contradict_the_configuration() {
    let refused = |name: &str, shape: &[usize]| {
        let sandbox = sandbox(&MIXTRAL);
        edit_file(&sandbox.path("packed/mixtral/model.safetensors"), |weights| {
            let values = vec![0.0; shape.iter().product()];
            weights.insert(
                format!("model.layers.0.mlp.experts.{name}"),
                Tensor::new(Dtype::BF16, shape, &values),
            );
        });
        let run = sandbox.run("convert packed/mixtral -o model.gguf --to gguf", &[]);
        assert_eq!((run.code, sandbox.entries()), (Some(1), vec!["packed".to_string(), "separate".into()]));
        run.stderr.split("\n\nhint: ").next().unwrap().trim_end().to_string()
    };
    assert_snapshot!(refused("gate_up_proj", &[EXPERTS, 32, 128]), @"error: `packed/mixtral`: `model.layers.0.mlp.experts.gate_up_proj`: has the shape [4, 32, 128]; it must be [experts, 2 * inner, hidden] for 4 experts and a hidden size of 32");
    assert_snapshot!(refused("gate_up_proj", &[EXPERTS, 127, 32]), @"error: `packed/mixtral`: `model.layers.0.mlp.experts.gate_up_proj`: has the shape [4, 127, 32]; it must be [experts, 2 * inner, hidden] for 4 experts and a hidden size of 32");
    assert_snapshot!(refused("down_proj", &[3, 32, 64]), @"error: `packed/mixtral`: `model.layers.0.mlp.experts.down_proj`: has the shape [3, 32, 64]; it must be [experts, hidden, inner] for 4 experts and a hidden size of 32");
    assert_snapshot!(refused("down_proj", &[EXPERTS, 32]), @"error: `packed/mixtral`: `model.layers.0.mlp.experts.down_proj`: has the shape [4, 32]; it must be [experts, hidden, inner] for 4 experts and a hidden size of 32");
    assert_snapshot!(refused("up_proj", &[EXPERTS, 64, 32]), @"error: `packed/mixtral`: `model.layers.0.mlp.experts.up_proj`: has no name in GGUF files of the family `llama`");
}
